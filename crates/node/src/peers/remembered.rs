//! Peers that this node dialled successfully. They are kept in the node directory, so that it finds its network again
//! although none of its bootstrap peers answers any more.
//!
//! An address is remembered only after a handshake with its peer: an address that a peer merely names is not. One network
//! has few places, so that no operator can fill the table with peers of its own.

mod file;

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::address;

pub(crate) use file::FILE;
pub(super) use file::{load, save};

const MAX_PEERS: usize = 1024;
const MAX_ADDRESSES: usize = 4;
/// Peers of one network.
const MAX_PER_NETWORK: usize = 8;
/// Peers of a range that mostly belongs to one operator.
const MAX_PER_OPERATOR: usize = 64;
/// The prefix lengths of such ranges in IPv4 and IPv6, and how many peers they may have.
const RANGES: [(u32, u32, usize); 2] = [(24, 48, MAX_PER_NETWORK), (16, 32, MAX_PER_OPERATOR)];
/// A peer that was not reached for so long is forgotten.
const MAX_AGE: Duration = Duration::from_secs(90 * DAY);
/// A peer that was reached on several days keeps its place for so long, however many new peers are reached.
const SETTLED_AGE: Duration = Duration::from_secs(14 * DAY);
/// Failed dials in a row, each while others were reached, after which a peer is forgotten.
const MAX_FAILURES: u32 = 8;
const DAY: u64 = 24 * 60 * 60;

/// A peer, and where it was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RememberedPeer {
    /// Each with its peer ID; the one that was reached last comes first.
    addresses: Vec<Multiaddr>,
    /// When it was reached last, in seconds since 1970.
    last_reached: u64,
    /// On how many days it was reached.
    days: u32,
    failures: u32,
    /// Whether it answers for the DHT.
    dht_server: bool,
}

/// The remembered peers.
#[derive(Default)]
pub(super) struct RememberedPeers {
    peers: HashMap<PeerId, RememberedPeer>,
    /// Whether addresses of private networks are left out: on the public network they are other machines elsewhere.
    public: bool,
    changed: bool,
}

impl RememberedPeer {
    /// Returns what decides who keeps a place: peers that were reached on several days before newcomers.
    fn rank(&self, now: u64) -> (bool, u64) {
        (self.days > 1 && now.saturating_sub(self.last_reached) < SETTLED_AGE.as_secs(), self.last_reached)
    }

    fn ip(&self) -> Option<IpAddr> {
        address::ip(self.addresses.first()?).filter(|ip| !address::is_private(*ip))
    }
}

impl RememberedPeers {
    pub(super) fn new(public: bool) -> Self {
        Self { public, ..Self::default() }
    }

    /// Adds the peers of a file by the rules for new ones; what is malformed or too old is left out.
    fn restore(&mut self, peers: Vec<RememberedPeer>, now: u64) {
        for mut peer in peers {
            let Some(id) = peer.addresses.first().and_then(peer_of) else { continue };
            peer.addresses.retain(|address| peer_of(address) == Some(id) && self.is_kept(address));
            peer.addresses.truncate(MAX_ADDRESSES);
            // The clock may have been ahead when it was written.
            peer.last_reached = peer.last_reached.min(now);
            let is_old = now - peer.last_reached > MAX_AGE.as_secs();
            if !is_old && !peer.addresses.is_empty() && self.make_room(&peer, now) {
                self.peers.insert(id, peer);
            }
        }
    }

    fn is_kept(&self, address: &Multiaddr) -> bool {
        let ip = address::ip(address);
        !address::is_circuit(address) && ip.is_some_and(|ip| !(self.public && address::is_private(ip)))
    }

    /// Records that `peer` was dialled at `address` and proved its identity.
    pub(super) fn reached(&mut self, id: PeerId, address: &Multiaddr, now: u64) {
        let address = with_peer(address, id);
        if !self.is_kept(&address) {
            return;
        }
        self.changed = true;
        if let Some(known) = self.peers.get_mut(&id) {
            known.days += u32::from(known.last_reached / DAY != now / DAY);
            (known.last_reached, known.failures) = (now, 0);
            known.addresses.retain(|other| *other != address);
            known.addresses.insert(0, address);
            known.addresses.truncate(MAX_ADDRESSES);
            return;
        }
        let new = RememberedPeer {
            addresses: vec![address],
            last_reached: now,
            days: 1,
            failures: 0,
            dht_server: false,
        };
        if self.make_room(&new, now) {
            self.peers.insert(id, new);
        }
    }

    /// Records that a remembered peer answers for the DHT.
    pub(super) fn serves_dht(&mut self, id: &PeerId) {
        if let Some(known) = self.peers.get_mut(id) {
            self.changed |= !known.dht_server;
            known.dht_server = true;
        }
    }

    /// Records a failed dial. Only where others were reached does it say anything about the peer.
    pub(super) fn failed(&mut self, id: &PeerId) {
        let Some(known) = self.peers.get_mut(id) else { return };
        known.failures += 1;
        self.changed = true;
        if known.failures >= MAX_FAILURES {
            self.peers.remove(id);
        }
    }

    /// Forgets a peer of lower rank where the table, or the part of it that the networks of `new` have, is full. Returns
    /// whether there is room.
    fn make_room(&mut self, new: &RememberedPeer, now: u64) -> bool {
        if let Some(ip) = new.ip() {
            for (v4_bits, v6_bits, max) in RANGES {
                let range = masked(ip, v4_bits, v6_bits);
                let is_in =
                    |peer: &RememberedPeer| peer.ip().is_some_and(|ip| masked(ip, v4_bits, v6_bits) == range);
                if !self.fits(new, now, max, is_in) {
                    return false;
                }
            }
        }
        self.fits(new, now, MAX_PEERS, |_| true)
    }

    fn fits(
        &mut self,
        new: &RememberedPeer,
        now: u64,
        max: usize,
        is_in: impl Fn(&RememberedPeer) -> bool,
    ) -> bool {
        let others = || self.peers.iter().filter(|(_, peer)| is_in(peer));
        if others().count() < max {
            return true;
        }
        let last = others().map(|(id, peer)| (peer.rank(now), *id)).min_by_key(|(rank, _)| *rank);
        let Some((last, id)) = last else { return false };
        let is_replaced = last < new.rank(now);
        if is_replaced {
            self.peers.remove(&id);
        }
        is_replaced
    }

    /// Returns the peers in the order in which they are dialled: those of high rank in turns with others at random, so that
    /// a peer does not come first at every node because it was reached last.
    pub(super) fn to_dial(&self, now: u64) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let mut ranked: Vec<_> = self.peers.iter().collect();
        ranked.sort_by_key(|(_, peer)| std::cmp::Reverse((peer.dht_server, peer.rank(now))));
        let mut shuffled = ranked.clone();
        shuffled.shuffle(&mut rand::rng());
        let mut seen = std::collections::HashSet::new();
        let turns = ranked.into_iter().zip(shuffled).flat_map(|(one, other)| [one, other]);
        let once = turns.filter(|(id, _)| seen.insert(**id));
        once.map(|(id, peer)| (*id, peer.addresses.clone())).collect()
    }

    /// Returns one address of each peer, those that answer for the DHT first.
    pub(super) fn addresses(&self) -> Vec<Multiaddr> {
        let mut peers: Vec<_> = self.peers.values().collect();
        peers.sort_by_key(|peer| std::cmp::Reverse((peer.dht_server, peer.last_reached)));
        peers.into_iter().filter_map(|peer| peer.addresses.first().cloned()).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }
}

/// Returns the time in seconds since 1970.
pub(crate) fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    super::peer_id(address).ok()
}

fn with_peer(address: &Multiaddr, id: PeerId) -> Multiaddr {
    let is_place = |part: &Protocol| !matches!(part, Protocol::P2p(_));
    address.iter().filter(is_place).collect::<Multiaddr>().with(Protocol::P2p(id))
}

/// Returns the first bits of an address, which those of one range share.
fn masked(ip: IpAddr, v4_bits: u32, v6_bits: u32) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => IpAddr::V4((u32::from(ip) & (u32::MAX << (32 - v4_bits))).into()),
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) & (u128::MAX << (128 - v6_bits))).into()),
    }
}

#[cfg(test)]
mod tests;
