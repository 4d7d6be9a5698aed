//! Fetching the blocks of one DAG from several peers: a pure state machine that is given the time and the events.
//!
//! - A peer that delivered a block is presumed to have the whole DAG until it says otherwise; other peers are asked
//!   which blocks they have.
//! - Each peer has a window of requested bytes, which grows while blocks arrive quickly.
//! - The first needed block is requested first. A stalled want is sent to another peer, earlier if it is at the front.

mod hedge;
mod peer;
mod peers;
mod presences;
mod rebalance;
mod requests;
mod salt;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Duration,
};

use libp2p::PeerId;
use tokio::time::Instant;

use crate::{Cid, as_v1};
#[cfg(test)]
use peer::Availability;
use peer::SessionPeer;
use peers::SessionPeers;
pub use presences::Inquiry;
pub use salt::Salt;

/// Peers asked for a small block at once while no peer is known to have it.
const DIRECT_PEERS: usize = 3;
/// A block longer than this is requested from one unproven peer only.
const SMALL_BLOCK_BYTES: u64 = 64 << 10;
/// Wants considered in one plan.
const MAX_PLANNED_WANTS: usize = 512;
/// Wants at the front that keep their order when several peers pull the same DAG at once.
const ORDERED_WANTS: usize = 2;
/// A peer with open requests that is silent for this long is asked last.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(3);
/// A want without an answer after this time is presumed lost.
pub const LOST_WANT_TIMEOUT: Duration = Duration::from_secs(30);
/// A block is requested from a further peer after this delay.
const HEDGE_DELAY: Duration = Duration::from_millis(500);
/// Peers that a session remembers for their wrong blocks.
const MAX_BANNED: usize = 1024;
/// Where what is fetched ahead stands in the order of wants: behind all that is needed.
const AHEAD: i64 = i64::MAX / 2;
/// WANT-HAVEs are sent in batches and requests are moved in batches, not after each block.
const PLAN_INTERVAL: Duration = Duration::from_millis(20);

/// A block to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedBlock {
    pub cid: Cid,
    /// Its length, or 0 if unknown.
    pub size: u64,
    /// Whether it is fetched before it is needed: a peer that lacks it may have all that is needed.
    pub is_ahead: bool,
}

impl WantedBlock {
    /// A block that is needed.
    pub fn new(cid: Cid, size: u64) -> Self {
        Self { cid, size, is_ahead: false }
    }
}

/// A want or cancel to send to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// WANT-BLOCK; `urgent` if no other block is needed before it.
    Block {
        peer: PeerId,
        cid: Cid,
        urgent: bool,
    },
    Have {
        peer: PeerId,
        cid: Cid,
    },
    /// Cancels a want that was moved to another peer.
    Cancel {
        peer: PeerId,
        cid: Cid,
    },
}

/// The state of a peer that only its connections know.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerState {
    /// When bytes were last received from it.
    pub last_activity: Option<Instant>,
    /// How many more wants it may be sent.
    pub free_wants: usize,
}

#[derive(Debug)]
struct SentRequest {
    peer: PeerId,
    at: Instant,
}

#[derive(Debug)]
struct SessionWant {
    cid: Cid,
    size: u64,
    is_ahead: bool,
    order: i64,
    sent: Vec<SentRequest>,
    holders: BTreeSet<PeerId>,
    lacking: HashSet<PeerId>,
    /// Peers that were sent the want, as WANT-BLOCK or WANT-HAVE.
    asked: HashSet<PeerId>,
}

/// How many more wants may be sent to each peer in one plan.
struct WantQuota<'a> {
    peer_state: &'a dyn Fn(&PeerId) -> PeerState,
    taken: HashMap<PeerId, usize>,
}

impl WantQuota<'_> {
    fn has_room(&self, peer: &PeerId) -> bool {
        (self.peer_state)(peer).free_wants > self.taken.get(peer).copied().unwrap_or_default()
    }

    fn reserve(&mut self, peer: PeerId) {
        *self.taken.entry(peer).or_default() += 1;
    }
}

impl SessionWant {
    fn has_open_request_to(&self, peer: &PeerId) -> bool {
        self.sent.iter().any(|sent| sent.peer == *peer)
    }
}

/// The wants of one DAG, and the peers that may have its blocks.
#[derive(Debug, Default)]
pub struct Session {
    wants: HashMap<Cid, SessionWant>,
    /// Wants without an open request.
    unrequested: BTreeMap<i64, Cid>,
    /// Wants with an open request.
    requested: BTreeMap<i64, Cid>,
    peers: SessionPeers,
    last: i64,
    first: i64,
    presences_asked: Option<Instant>,
    rebalanced: Option<Instant>,
    /// How long a block of the fastest peer takes.
    fastest: Duration,
    /// Peers that sent wrong blocks; they never come back.
    banned: HashSet<PeerId>,
    /// Peers banned since the last block was received.
    banned_since_block: usize,
    salt: Salt,
}

impl Session {
    pub fn new(salt: Salt) -> Self {
        Self { salt, ..Self::default() }
    }

    /// Adds wants in the order in which they are needed.
    pub fn want(&mut self, wanted: impl IntoIterator<Item = WantedBlock>) {
        for WantedBlock { cid, size, is_ahead } in wanted {
            let cid_v1 = as_v1(&cid);
            self.last += 1;
            let order = if is_ahead { AHEAD + self.last } else { self.last };
            if let Some(known) = self.wants.get_mut(&cid_v1) {
                if known.is_ahead && !is_ahead {
                    known.is_ahead = false;
                    self.reorder(&cid_v1, order);
                }
                continue;
            }
            let (sent, holders, lacking, asked) = Default::default();
            let want = SessionWant { cid, size, is_ahead, order, sent, holders, lacking, asked };
            self.wants.insert(cid_v1, want);
            self.unrequested.insert(order, cid_v1);
        }
        self.presences_asked = None;
    }

    /// Moves a want to the front.
    pub fn prefer(&mut self, cid: &Cid) {
        self.first -= 1;
        self.reorder(&as_v1(cid), self.first);
    }

    fn reorder(&mut self, cid_v1: &Cid, order: i64) {
        let Some(want) = self.wants.get_mut(cid_v1) else { return };
        let list = if want.sent.is_empty() { &mut self.unrequested } else { &mut self.requested };
        list.remove(&want.order);
        want.order = order;
        list.insert(order, *cid_v1);
    }

    /// Removes wants.
    pub fn unwant(&mut self, cids: &[Cid]) {
        for cid in cids {
            self.remove(&as_v1(cid));
        }
    }

    fn remove(&mut self, cid_v1: &Cid) -> Option<SessionWant> {
        let want = self.wants.remove(cid_v1)?;
        self.unrequested.remove(&want.order);
        self.requested.remove(&want.order);
        for sent in &want.sent {
            self.peers.change(&sent.peer, |state| state.request_done(want.size));
        }
        Some(want)
    }

    /// Returns all open wants.
    pub fn wants(&self) -> impl Iterator<Item = &Cid> {
        self.wants.keys()
    }

    /// Returns whether a block is wanted.
    pub fn wants_block(&self, cid: &Cid) -> bool {
        self.wants.contains_key(&as_v1(cid))
    }

    /// Returns whether a peer was sent a request for a block and did not answer it.
    pub fn has_requested(&self, peer: &PeerId, cid: &Cid) -> bool {
        self.wants.get(&as_v1(cid)).is_some_and(|want| want.has_open_request_to(peer))
    }

    /// Adds a peer; those with the lowest `rank` are asked first. A peer that does not support presences is asked for
    /// blocks only.
    pub fn add_peer(&mut self, peer: PeerId, rank: u64, supports_presences: bool) {
        if self.banned.contains(&peer) {
            return;
        }
        let rank = (rank, self.salt.hash_one(peer));
        self.peers.insert(peer, SessionPeer::new(rank, supports_presences));
        self.presences_asked = None;
    }

    /// Presumes that a peer has all blocks, until it says otherwise.
    pub fn presume_complete(&mut self, peer: &PeerId) {
        self.peers.change(peer, SessionPeer::presume_complete);
    }

    /// Removes a peer; its open requests are sent to other peers.
    pub fn remove_peer(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
        self.release(peer, |_| true);
        for want in self.wants.values_mut() {
            want.holders.remove(peer);
            want.lacking.remove(peer);
            want.asked.remove(peer);
        }
    }

    /// Removes a peer that sent wrong blocks, for good. There may be many such peers, so more peers are asked at once until
    /// a block arrives.
    pub fn ban_peer(&mut self, peer: &PeerId) {
        self.remove_peer(peer);
        if self.banned.len() < MAX_BANNED {
            self.banned.insert(*peer);
        }
        self.banned_since_block += 1;
    }

    /// Drops open requests of a peer.
    fn release(&mut self, peer: &PeerId, which: impl Fn(&SentRequest) -> bool) {
        let in_flight: Vec<Cid> = self.requested.values().copied().collect();
        for cid_v1 in in_flight {
            let Some(want) = self.wants.get_mut(&cid_v1) else { continue };
            let before = want.sent.len();
            want.sent.retain(|sent| sent.peer != *peer || !which(sent));
            if want.sent.len() == before {
                continue;
            }
            self.peers.change(peer, |state| state.request_done(want.size));
            if want.sent.is_empty() {
                self.requested.remove(&want.order);
                self.unrequested.insert(want.order, cid_v1);
            }
        }
    }

    /// Records a HAVE. Returns whether it concerns this session, which ignores peers that it did not ask.
    pub fn on_have(&mut self, peer: &PeerId, cid: &Cid) -> bool {
        let cid_v1 = as_v1(cid);
        let Some(state) = self.peers.get(peer) else { return false };
        let is_asked = self.wants.get(&cid_v1).is_some_and(|want| want.asked.contains(peer));
        let was_asked = is_asked || state.was_asked_first(&cid_v1);
        if was_asked {
            self.peers.change(peer, SessionPeer::has_something);
        }
        let Some(want) = self.wants.get_mut(&cid_v1) else { return was_asked };
        want.lacking.remove(peer);
        want.holders.insert(*peer);
        true
    }

    /// Records a DONT_HAVE. Returns whether it concerns this session.
    pub fn on_dont_have(&mut self, peer: &PeerId, cid: &Cid) -> bool {
        let cid_v1 = as_v1(cid);
        let Some(want) = self.wants.get_mut(&cid_v1) else { return false };
        let is_known = match want.is_ahead {
            true => self.peers.get(peer).is_some(),
            false => self.peers.change(peer, SessionPeer::lacks_something).is_some(),
        };
        if !is_known {
            return false;
        }
        want.holders.remove(peer);
        want.lacking.insert(*peer);
        // A peer that supports presences has a standing want for the block now.
        want.asked.insert(*peer);
        let before = want.sent.len();
        want.sent.retain(|sent| sent.peer != *peer);
        if want.sent.len() < before {
            self.peers.change(peer, |state| state.request_done(want.size));
            if want.sent.is_empty() {
                self.requested.remove(&want.order);
                self.unrequested.insert(want.order, cid_v1);
            }
        }
        true
    }

    /// Records a received block. Returns whether it was wanted.
    pub fn on_block(&mut self, peer: &PeerId, cid: &Cid, size: u64, now: Instant) -> bool {
        let Some(want) = self.remove(&as_v1(cid)) else { return false };
        self.banned_since_block = 0;
        let sent = want.sent.iter().find(|sent| sent.peer == *peer);
        let took = sent.map(|sent| now.duration_since(sent.at));
        self.peers.change(peer, |state| state.delivered(size, took));
        let late = |sent: &&SentRequest| sent.peer != *peer && now.duration_since(sent.at) >= HEDGE_DELAY;
        for sent in want.sent.iter().filter(late) {
            self.peers.change(&sent.peer, SessionPeer::was_outrun);
        }
        true
    }

    /// Returns the requests to send now.
    pub fn plan(&mut self, now: Instant, peer_state: &dyn Fn(&PeerId) -> PeerState) -> Vec<Request> {
        let mut quota = WantQuota { peer_state, taken: HashMap::new() };
        self.drop_silent_peers(now, peer_state);
        self.fastest = self.peers.fastest();
        let mut requests = Vec::new();
        self.request_blocks(now, &mut quota, &mut requests);
        if self.rebalanced.is_none_or(|at| now.duration_since(at) >= PLAN_INTERVAL) {
            self.rebalanced = Some(now);
            self.rebalance(now, &mut quota, &mut requests);
        }
        if self.presences_asked.is_none_or(|at| now.duration_since(at) >= PLAN_INTERVAL) {
            self.presences_asked = Some(now);
            self.request_presences(now, peer_state, &mut quota, &mut requests);
        }
        self.hedge(now, peer_state, &mut quota, &mut requests);
        requests
    }

    /// Drops the requests of silent peers, and requests that were lost.
    fn drop_silent_peers(&mut self, now: Instant, peer_state: &dyn Fn(&PeerId) -> PeerState) {
        let mut oldest: HashMap<PeerId, Instant> = HashMap::new();
        for cid_v1 in self.requested.values() {
            for sent in self.wants.get(cid_v1).into_iter().flat_map(|want| &want.sent) {
                let first = oldest.entry(sent.peer).or_insert(sent.at);
                *first = (*first).min(sent.at);
            }
        }
        for (peer, first) in oldest {
            let Some(state) = self.peers.get(&peer) else { continue };
            let lost = LOST_WANT_TIMEOUT.max(state.latency() * 4);
            if now.duration_since(peer_state(&peer).last_activity.map_or(first, |at| at.max(first)))
                >= STALL_TIMEOUT
            {
                self.peers.change(&peer, |state| state.stalled(now));
                // The peer may have lost its wants.
                for want in self.wants.values_mut() {
                    want.asked.remove(&peer);
                }
                self.release(&peer, |_| true);
            } else if now.duration_since(first) >= lost {
                self.peers.change(&peer, SessionPeer::was_outrun);
                self.release(&peer, |sent| now.duration_since(sent.at) >= lost);
            }
        }
    }

    /// Returns the peers that were sent a want, as WANT-BLOCK or WANT-HAVE.
    pub fn notified_peers(&self, cid: &Cid) -> HashSet<PeerId> {
        let cid_v1 = as_v1(cid);
        self.wants.get(&cid_v1).map(|want| want.asked.clone()).unwrap_or_default()
    }
}
