//! Relays between peers that cannot dial each other: the server of circuit relay v2.
//!
//! ```text
//! destination ── RESERVE ──► Reservations
//! source ────── CONNECT ──► Circuits ──► STOP ──► destination; then bytes, in both directions
//! ```
//!
//! Strangers get circuits for agreeing on a direct connection: limited in bytes and time, as those of other relays of the
//! network. Members of a private swarm and peers that the user named get circuits without limits, which carry content. libp2p's
//! server announces a limit on every circuit, and peers send no content over one that has any; hence this one.
//!
//! Specification: <https://github.com/libp2p/specs/blob/master/relay/circuit-v2.md>

mod circuit;
mod limits;
mod requests;
mod wire;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, Stream,
    multiaddr::Protocol,
    relay::{HOP_PROTOCOL_NAME, STOP_PROTOCOL_NAME},
};
use libp2p_stream::{Control, IncomingStreams};
use tokio::task::JoinSet;

use crate::{
    Options, address, locked,
    peers::{Peers, seconds},
};
use limits::{Opened, Places};
use requests::Requests;
use wire::{HopRequest, Limit, Status};

const RESERVATION: Duration = Duration::from_secs(60 * 60);
/// How long a peer has for each step before bytes are relayed.
const STEP_TIMEOUT: Duration = Duration::from_secs(15);
/// Addresses told to the holder of a reservation.
const MAX_ADDRESSES: usize = 8;
/// What a stranger may send through a circuit, in each direction, and how long: as Kubo's relays.
const LIMIT: Limit = Limit { seconds: 2 * 60, bytes: 128 << 10 };

/// For whom a node relays.
#[derive(Clone, Debug, PartialEq, Eq)]
struct RelayPolicy {
    /// Whether strangers get limited circuits.
    strangers: bool,
    /// Whether all peers get unlimited circuits: they are members of a private swarm.
    members: bool,
    /// Peers that get unlimited circuits.
    named: HashSet<PeerId>,
}

impl RelayPolicy {
    /// Returns whether a peer may have a reservation.
    fn serves(&self, peer: &PeerId) -> bool {
        self.strangers || self.is_unlimited(peer)
    }

    fn is_unlimited(&self, peer: &PeerId) -> bool {
        self.members || self.named.contains(peer)
    }

    /// Returns the limit of a circuit between two peers.
    fn limit(&self, source: &PeerId, destination: &PeerId) -> Option<Limit> {
        (!self.is_unlimited(source) && !self.is_unlimited(destination)).then_some(LIMIT)
    }
}

/// A node that relays.
struct Relay {
    me: PeerId,
    policy: RelayPolicy,
    control: Control,
    peers: Peers,
    addresses: Addresses,
    places: Mutex<Places>,
}

/// The addresses of this node, the ones that peers are told first; the swarm's task keeps them.
#[derive(Clone, Default)]
pub(crate) struct Addresses(Arc<Mutex<Vec<Multiaddr>>>);

impl Addresses {
    pub fn set(&self, addresses: Vec<Multiaddr>) {
        *locked(&self.0) = addresses;
    }

    /// Returns addresses for others: not through another relay, and loopback ones only if there is nothing else.
    fn to_tell(&self, me: PeerId) -> Vec<Multiaddr> {
        let mut all = locked(&self.0).clone();
        all.retain(|address| !address::is_circuit(address) && !address::is_link_local(address));
        let is_loopback = |address: &Multiaddr| address::ip(address).is_some_and(|ip| ip.is_loopback());
        if !all.iter().all(is_loopback) {
            all.retain(|address| !is_loopback(address));
        }
        let told = all.into_iter().take(MAX_ADDRESSES);
        told.map(|address| address::without_peer(&address).with(Protocol::P2p(me))).collect()
    }
}

/// Creates the relay service of a node, if it has one: the behaviour whose streams it answers on, and what answers them until
/// it is dropped; circuits end with it.
pub(crate) fn start(
    options: &Options,
    me: PeerId,
    peers: &Peers,
    addresses: &Addresses,
) -> Option<(libp2p_stream::Behaviour, BoxFuture<'static, ()>)> {
    let policy = RelayPolicy {
        strangers: options.relay_service,
        members: options.relay_service && options.swarm_key.is_some(),
        named: options.relay_for.iter().copied().collect(),
    };
    if !policy.strangers && policy.named.is_empty() {
        return None;
    }
    let streams = libp2p_stream::Behaviour::new();
    let mut control = streams.new_control();
    // Before the first connection: peers learn of the service by the protocol.
    let requests = control
        .accept(HOP_PROTOCOL_NAME)
        .inspect_err(|error| tracing::error!(%error, "cannot relay"))
        .ok()?;
    let (peers, addresses, places) = (peers.clone(), addresses.clone(), Mutex::default());
    let relay = Arc::new(Relay { me, policy, control, peers, addresses, places });
    Some((streams, relay.run(requests).boxed()))
}

impl Relay {
    async fn run(self: Arc<Self>, mut requests: IncomingStreams) {
        let mut running = JoinSet::new();
        let places = Requests::default();
        while let Some((peer, stream)) = requests.next().await {
            while running.try_join_next().is_some() {}
            // Beyond that the stream is closed, and the peer tries again later.
            let Some(place) = places.begin(peer) else { continue };
            let relay = self.clone();
            running.spawn(async move {
                let circuit = match relay.answer(peer, stream).await {
                    Ok(circuit) => circuit,
                    Err(error) => return tracing::debug!(%peer, %error, "cannot answer a relay request"),
                };
                drop(place);
                if let Some(circuit) = circuit {
                    circuit.run().await;
                }
            });
        }
    }

    /// Answers a request. Returns the circuit that it opened.
    async fn answer(
        self: &Arc<Self>,
        peer: PeerId,
        mut stream: Stream,
    ) -> std::io::Result<Option<circuit::Circuit>> {
        match within(wire::read_request(&mut stream)).await? {
            HopRequest::Reserve => self.reserve(peer, &mut stream).await.map(|()| None),
            HopRequest::Connect(destination) => self.connect(peer, destination, stream).await,
            HopRequest::Malformed => {
                within(wire::write_status(&mut stream, Status::Malformed, None)).await.map(|()| None)
            }
        }
    }

    async fn reserve(&self, peer: PeerId, stream: &mut Stream) -> std::io::Result<()> {
        let address = self.peers.direct_address(&peer);
        let status = match address {
            _ if !self.policy.serves(&peer) => Status::PermissionDenied,
            None => Status::PermissionDenied,
            Some(address) => {
                let network = address::ip(&address);
                let unlimited = self.policy.is_unlimited(&peer);
                let now = Instant::now();
                match self.places(now).reserve(peer, network, unlimited, now + RESERVATION) {
                    true => Status::Ok,
                    false => Status::LimitExceeded,
                }
            }
        };
        if status != Status::Ok {
            return within(wire::write_status(stream, status, None)).await;
        }
        tracing::debug!(%peer, "a peer has reserved a place on this relay");
        let expires = seconds() + RESERVATION.as_secs();
        let limit = (!self.policy.is_unlimited(&peer)).then_some(LIMIT);
        let addresses = self.addresses.to_tell(self.me);
        within(wire::write_reservation(stream, expires, &addresses, limit)).await
    }

    async fn connect(
        self: &Arc<Self>,
        source: PeerId,
        destination: PeerId,
        mut stream: Stream,
    ) -> std::io::Result<Option<circuit::Circuit>> {
        let limit = self.policy.limit(&source, &destination);
        let opened = self.open(source, destination, limit).await;
        let (status, opened) = match opened {
            Ok(opened) => (Status::Ok, Some(opened)),
            Err(status) => (status, None),
        };
        within(wire::write_status(&mut stream, status, limit.filter(|_| status == Status::Ok))).await?;
        Ok(opened.map(|(to, place)| circuit::Circuit { from: stream, to, limit, _place: place }))
    }

    /// Opens the second half of a circuit.
    async fn open(
        self: &Arc<Self>,
        source: PeerId,
        destination: PeerId,
        limit: Option<Limit>,
    ) -> Result<(Stream, CircuitPlace), Status> {
        let place = self.take_place(source, destination, limit.is_none())?;
        let opening = async {
            let mut stream = self.control.clone().open_stream(destination, STOP_PROTOCOL_NAME).await.ok()?;
            wire::write_connect(&mut stream, &source, limit).await.ok()?;
            wire::read_stop_status(&mut stream).await.ok().filter(|ok| *ok).map(|_| stream)
        };
        let opened = tokio::time::timeout(STEP_TIMEOUT, opening).await.ok().flatten();
        opened.map(|stream| (stream, place)).ok_or(Status::ConnectionFailed)
    }

    /// Returns the places, without the reservations of peers that are gone.
    fn places(&self, now: Instant) -> MutexGuard<'_, Places> {
        let mut places = locked(&self.places);
        places.forget_gone(now, |peer| self.peers.direct_address(peer).is_some());
        places
    }

    fn take_place(
        self: &Arc<Self>,
        source: PeerId,
        destination: PeerId,
        unlimited: bool,
    ) -> Result<CircuitPlace, Status> {
        let now = Instant::now();
        // Only a peer that is connected now can be reached; asking for a stream would dial it otherwise.
        let mut places = self.places(now);
        if !places.is_reserved(&destination, now) {
            return Err(Status::NoReservation);
        }
        let address = self.peers.direct_address(&source).and_then(|address| address::ip(&address));
        let is_named = self.policy.is_unlimited(&source);
        let number = places.open(Opened { source, address, is_named, unlimited });
        let number = number.ok_or(Status::LimitExceeded)?;
        Ok(CircuitPlace { relay: self.clone(), number })
    }
}

/// A circuit counts as open until this is dropped.
struct CircuitPlace {
    relay: Arc<Relay>,
    number: u64,
}

impl Drop for CircuitPlace {
    fn drop(&mut self) {
        locked(&self.relay.places).close(self.number);
    }
}

async fn within<T>(step: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    tokio::time::timeout(STEP_TIMEOUT, step).await?
}
