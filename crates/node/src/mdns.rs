//! Finds peers on the local network by multicast DNS (RFC 6762), without an address that anyone types.
//!
//! In a private swarm an announcement tells only key holders anything: the service is named by a hash of the swarm key, and the
//! peer ID and the addresses are encrypted with a key derived from it. With `--mdns` and without a swarm key it is the discovery
//! of libp2p (<https://github.com/libp2p/specs/blob/master/discovery/mdns.md>), so that Kubo takes part.
//!
//! There is one socket for each IPv4 address that the node listens on, loopback aside, and it sends and receives on that
//! interface only. An address is dialled only if it is the one that the packet came from: a packet cannot direct dials elsewhere.

mod neighbours;
mod packet;
mod secret;
mod socket;

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use libp2p_pnet::KeyRing;
use rust_ipfs::Ipfs;
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};

use crate::peers::Peers;
use neighbours::Neighbours;
use packet::{Announcement, Heard, Service};
use secret::Secret;
use socket::Socket;

/// How often the listen addresses are read: often at first, since libp2p learns them while the node starts.
const FIRST_LOOKS: Duration = Duration::from_millis(100);
const LOOKS: Duration = Duration::from_secs(5);
const STARTING: Duration = Duration::from_secs(5);
/// The pauses between announcements of one interface.
/// Dials of neighbours that run at a time, whatever is announced.
const MAX_DIALS_AT_ONCE: usize = 16;
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// An interface answers queries at most this often.
const ANSWER_PAUSE: Duration = Duration::from_millis(500);
/// Peers are asked to announce themselves with the first announcements only: later ones are heard as they come.
const MAX_ASKING_PAUSE: Duration = Duration::from_secs(4);
/// Interfaces that are announced on.
const MAX_INTERFACES: usize = 16;
/// Addresses of one interface in an announcement.
const MAX_ADDRESSES: usize = 4;
const QUEUED_PACKETS: usize = 64;

/// Discovery on the local network.
pub(crate) struct Mdns {
    me: PeerId,
    ipfs: Ipfs,
    peers: Peers,
    /// The keys of a private swarm.
    keys: Option<KeyRing>,
    neighbours: Neighbours,
    interfaces: HashMap<Ipv4Addr, Interface>,
    dials: Arc<Semaphore>,
    received: (mpsc::Sender<Received>, mpsc::Receiver<Received>),
}

/// A packet, and where it was received and came from.
type Received = (Ipv4Addr, Ipv4Addr, Vec<u8>);

/// An interface that the node listens on.
struct Interface {
    socket: Arc<Socket>,
    addresses: Vec<Multiaddr>,
    pause: Duration,
    next: Instant,
    /// When it answers a query that was heard.
    answer: Option<Instant>,
    answered: Option<Instant>,
}

impl Interface {
    fn new(socket: Arc<Socket>) -> Self {
        let now = Instant::now();
        Self { socket, addresses: Vec::new(), pause: MIN_PAUSE, next: now, answer: None, answered: None }
    }

    /// Answers a query soon, but not more often than others may have to hear.
    fn asked(&mut self, now: Instant) {
        let soon = now + Duration::from_millis(rand::random_range(20..120));
        let earliest = self.answered.map_or(soon, |last| soon.max(last + ANSWER_PAUSE));
        self.answer.get_or_insert(earliest);
    }

    /// When it sends next.
    fn due(&self) -> Instant {
        self.answer.map_or(self.next, |answer| answer.min(self.next))
    }
}

impl Mdns {
    pub(crate) fn new(me: PeerId, ipfs: Ipfs, peers: Peers, keys: Option<KeyRing>) -> Self {
        Self {
            me,
            ipfs,
            peers,
            keys,
            neighbours: Neighbours::default(),
            interfaces: HashMap::new(),
            dials: Arc::new(Semaphore::new(MAX_DIALS_AT_ONCE)),
            received: mpsc::channel(QUEUED_PACKETS),
        }
    }

    /// Announces and finds peers until it is dropped.
    pub(crate) async fn run(mut self) {
        let started = Instant::now();
        loop {
            self.follow_interfaces().await;
            let looks = if started.elapsed() < STARTING { FIRST_LOOKS } else { LOOKS };
            let look = Instant::now() + looks;
            while Instant::now() < look {
                let due = self.interfaces.values().map(Interface::due).chain(self.neighbours.due()).min();
                tokio::select! {
                    () = tokio::time::sleep_until(due.unwrap_or(look).min(look)) => self.send_due().await,
                    Some(received) = self.received.1.recv() => self.on_packet(received),
                }
                self.dial_due();
            }
        }
    }

    /// The services of this node: one, and that of the other key while a swarm key is replaced.
    fn services(&self) -> Vec<Service> {
        match &self.keys {
            None => vec![Service::Open],
            Some(ring) => {
                let keys = ring.keys();
                keys.all().map(|key| Service::Private(Secret::of(key))).collect()
            }
        }
    }

    /// Opens a socket for each address that the node listens on, and closes those of the others.
    async fn follow_interfaces(&mut self) {
        let listening = self.ipfs.listening_addresses().await.unwrap_or_default();
        let mut found = HashMap::<Ipv4Addr, Vec<Multiaddr>>::new();
        for address in listening {
            if let Some(ip) = announced_ip(&address) {
                found.entry(ip).or_default().push(address);
            }
        }
        self.interfaces.retain(|ip, _| found.contains_key(ip));
        for (ip, mut addresses) in found {
            addresses.sort_by_key(ToString::to_string);
            addresses.dedup();
            addresses.truncate(MAX_ADDRESSES);
            if !self.interfaces.contains_key(&ip) && !self.open(ip) {
                continue;
            }
            if let Some(interface) = self.interfaces.get_mut(&ip).filter(|known| known.addresses != addresses)
            {
                interface.addresses = addresses;
                (interface.pause, interface.next) = (MIN_PAUSE, Instant::now());
            }
        }
    }

    /// Opens the socket of an interface. Returns whether there is one.
    fn open(&mut self, ip: Ipv4Addr) -> bool {
        if self.interfaces.len() >= MAX_INTERFACES {
            return false;
        }
        match Socket::open(ip) {
            Ok(socket) => {
                let socket = Arc::new(socket);
                tokio::spawn(receive(Arc::downgrade(&socket), ip, self.received.0.clone()));
                self.interfaces.insert(ip, Interface::new(socket));
                true
            }
            Err(error) => {
                tracing::debug!(%ip, %error, "cannot use mDNS on an interface");
                false
            }
        }
    }

    /// Sends what is due on each interface.
    async fn send_due(&mut self) {
        let now = Instant::now();
        if !self.interfaces.values().any(|interface| interface.due() <= now) {
            return;
        }
        let services = self.services();
        for (ip, interface) in &mut self.interfaces {
            let announces = interface.next <= now;
            let asks = announces && interface.pause <= MAX_ASKING_PAUSE;
            if announces {
                interface.next = now + interface.pause.mul_f64(rand::random_range(0.9..1.1));
                interface.pause = MAX_PAUSE.min(interface.pause * 2);
            }
            if announces || interface.answer.is_some_and(|at| at <= now) {
                (interface.answer, interface.answered) = (None, Some(now));
                let announcement =
                    Announcement { peer: self.me, ip: *ip, addresses: interface.addresses.clone() };
                for service in &services {
                    interface.socket.send(service.announce(&announcement)).await;
                    if asks {
                        interface.socket.send(service.query()).await;
                    }
                }
            }
        }
    }

    /// Takes note of an announcement, or of a query.
    fn on_packet(&mut self, (ip, from, packet): Received) {
        for service in self.services() {
            match service.read(&packet) {
                Some(Heard::Query) => {
                    if let Some(interface) = self.interfaces.get_mut(&ip) {
                        interface.asked(Instant::now());
                    }
                }
                Some(Heard::Peers(found)) => {
                    for (peer, addresses) in found.into_iter().filter(|(peer, _)| *peer != self.me) {
                        let addresses = credible(addresses, from);
                        if !addresses.is_empty() && !self.peers.is_connected(&peer) {
                            self.neighbours.heard(peer, addresses, self.me < peer, Instant::now());
                        }
                    }
                }
                None => {}
            }
        }
    }

    /// Dials the peers whose turn it is.
    fn dial_due(&mut self) {
        for (peer, addresses) in self.neighbours.next(Instant::now()) {
            if !self.peers.is_connected(&peer) {
                // Others are dialled when they are heard again.
                let Ok(turn) = self.dials.clone().try_acquire_owned() else { return };
                let (peers, ipfs) = (self.peers.clone(), self.ipfs.clone());
                tokio::spawn(async move {
                    let _turn = turn;
                    if peers.dial_neighbour(&ipfs, peer, addresses).await {
                        tracing::debug!(%peer, "connected to a peer found by mDNS");
                    }
                });
            }
        }
    }
}

/// Returns the address of the interface that a listen address is announced on.
fn announced_ip(address: &Multiaddr) -> Option<Ipv4Addr> {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) if !ip.is_loopback() && !ip.is_unspecified() => Some(ip),
        _ => None,
    }
}

/// Returns the addresses at the host that a packet came from, each once and without a peer ID.
fn credible(addresses: Vec<Multiaddr>, from: Ipv4Addr) -> Vec<Multiaddr> {
    let mut seen = HashSet::new();
    let is_there = |address: &Multiaddr| {
        let mut ips = crate::address::ips(address);
        ips.next() == Some(from.into()) && ips.next().is_none() && !crate::address::is_circuit(address)
    };
    let there = addresses.into_iter().filter(is_there).map(|address| crate::address::without_peer(&address));
    there.filter(|address| seen.insert(address.clone())).take(MAX_ADDRESSES).collect()
}

/// Passes on the packets of an interface until its socket is closed.
async fn receive(socket: std::sync::Weak<Socket>, ip: Ipv4Addr, received: mpsc::Sender<Received>) {
    let mut packet = vec![0; packet::MAX_BYTES];
    loop {
        let Some(open) = socket.upgrade() else { return };
        // Not longer than a look at the interfaces: then a closed one is given up.
        let waiting = tokio::time::timeout(LOOKS, open.receive(&mut packet)).await;
        drop(open);
        match waiting {
            Ok(Some((length, from))) => {
                // What is too much is sent again.
                let _ = received.try_send((ip, from, packet[..length].to_vec()));
            }
            Ok(None) => tokio::time::sleep(ANSWER_PAUSE).await,
            Err(_) => {}
        }
        if received.is_closed() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_sending_host_are_dialled() {
        let parse = |text: &str| text.parse::<Multiaddr>().unwrap();
        let peer = PeerId::random();
        let addresses = vec![
            parse(&format!("/ip4/192.168.9.2/tcp/4001/p2p/{peer}")),
            parse("/ip4/192.168.9.2/tcp/4001"),
            parse("/ip4/192.168.9.3/tcp/22"),
            parse("/ip4/192.168.9.2/tcp/1/ip4/192.168.9.3/tcp/22"),
            parse("/dns4/example.org/tcp/4001"),
            parse(&format!("/ip4/192.168.9.2/tcp/4001/p2p/{peer}/p2p-circuit")),
        ];
        assert_eq!(credible(addresses, Ipv4Addr::new(192, 168, 9, 2)), [parse("/ip4/192.168.9.2/tcp/4001")]);
    }

    #[test]
    fn loopback_is_not_announced() {
        for (text, ip) in [
            ("/ip4/127.0.0.1/tcp/1", None),
            ("/ip4/0.0.0.0/tcp/1", None),
            ("/ip6/fe80::1/tcp/1", None),
            ("/ip4/10.0.0.1/tcp/1", Some(Ipv4Addr::new(10, 0, 0, 1))),
        ] {
            assert_eq!(announced_ip(&text.parse().unwrap()), ip, "{text}");
        }
    }
}
