//! Asking peers which blocks they have, and the progress of that.

use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

use super::{
    HEDGE_DELAY, PeerState, Request, STALL_TIMEOUT, Session, SessionWant, WantQuota, peer::SessionPeer,
};
use crate::{Cid, as_v1};

/// Peers asked for the first block in one round; further rounds ask the others.
const BROADCAST_PEERS: usize = 64;
/// How many wants ahead a partial peer is asked which blocks it has.
const LOOK_AHEAD_WANTS: usize = 256;
/// Unproven peers that are also asked ahead: they may be about to receive the same blocks.
const SCOUT_PEERS: usize = 16;
const SCOUT_WANTS: usize = 64;
/// A peer that does not answer within this time counts as one without the block.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(2500);

/// The progress of asking the connected peers for one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// Peers that were not asked yet.
    pub unasked: usize,
    /// Peers that answered HAVE.
    pub holders: usize,
    /// When the last peer was asked.
    pub last_asked: Option<Instant>,
}

impl Inquiry {
    /// Returns when every peer had its time to answer, or `None` while some were not asked or one has the block.
    pub fn ends(&self, begun: Instant) -> Option<Instant> {
        let is_open = self.unasked > 0 || self.holders > 0;
        (!is_open).then(|| self.last_asked.map_or(begun, |at| at + ANSWER_TIMEOUT))
    }
}

impl Session {
    /// Returns the progress of asking the connected peers for a block.
    pub fn inquiry(&self, cid: &Cid) -> Inquiry {
        let want = self.wants.get(&as_v1(cid));
        let knows = |want: &SessionWant| want.asked.union(&want.lacking).count();
        Inquiry {
            unasked: self.peers.len() - want.map_or(0, knows),
            holders: want.map_or(0, |want| want.holders.len()),
            last_asked: self.peers.last_asked(),
        }
    }

    /// Asks peers which of the next blocks they have.
    pub(super) fn request_presences(
        &mut self,
        now: Instant,
        peer_state: &dyn Fn(&PeerId) -> PeerState,
        quota: &mut WantQuota,
        requests: &mut Vec<Request>,
    ) {
        let ahead: Vec<Cid> = self
            .requested
            .values()
            .chain(self.unrequested.values())
            .take(LOOK_AHEAD_WANTS)
            .copied()
            .collect();
        let Some(first) = ahead.first() else { return };
        for (peer, cids) in self.asked_ahead(&ahead) {
            self.request_presences_of(peer, cids, now, quota, requests);
        }
        for peer in self.next_broadcast(first, now, peer_state, quota) {
            self.request_presences_of(peer, &ahead[..1], now, quota, requests);
        }
    }

    fn request_presences_of(
        &mut self,
        peer: PeerId,
        cids: &[Cid],
        now: Instant,
        quota: &mut WantQuota,
        requests: &mut Vec<Request>,
    ) {
        for cid_v1 in cids {
            if !quota.has_room(&peer) {
                return;
            }
            if let Some(want) = self.wants.get_mut(cid_v1)
                && want.asked.insert(peer)
            {
                self.peers.change(&peer, |state| state.want_sent(*cid_v1, now));
                quota.reserve(peer);
                requests.push(Request::Have { peer, cid: want.cid });
            }
        }
    }

    /// Returns the peers that are asked for more than the first block, each with its wants.
    fn asked_ahead<'a>(&self, ahead: &'a [Cid]) -> Vec<(PeerId, &'a [Cid])> {
        let scouted = &ahead[..ahead.len().min(SCOUT_WANTS)];
        let partial = self.peers.partial().map(|peer| (peer, ahead));
        let scouts = self.peers.unknown().take(SCOUT_PEERS).map(|peer| (peer, scouted));
        let asked = partial.chain(scouts).filter(|((_, state), _)| state.supports_presences);
        asked.map(|((peer, _), cids)| (*peer, cids)).collect()
    }

    /// Returns the next round of unproven peers. Each is asked once, and again if the known peers may not deliver.
    fn next_broadcast(
        &self,
        first: &Cid,
        now: Instant,
        peer_state: &dyn Fn(&PeerId) -> PeerState,
        quota: &WantQuota,
    ) -> Vec<PeerId> {
        let Some(want) = self.wants.get(first) else { return Vec::new() };
        let is_next = |(peer, state): &(&PeerId, &SessionPeer)| {
            state.supports_presences && !want.asked.contains(*peer) && quota.has_room(peer)
        };
        let some = |peers: &mut dyn Iterator<Item = (&PeerId, &SessionPeer)>| {
            peers.filter(is_next).take(BROADCAST_PEERS).map(|(peer, _)| *peer).collect()
        };
        match self.is_in_doubt(want, now, peer_state) {
            true => some(&mut self.peers.unknown()),
            false => some(&mut self.peers.unasked()),
        }
    }

    /// Returns whether a block may come from none of the peers that are known to have blocks.
    fn is_in_doubt(
        &self,
        want: &SessionWant,
        now: Instant,
        peer_state: &dyn Fn(&PeerId) -> PeerState,
    ) -> bool {
        !self.some_peer_may_have(want)
            || self.is_unanswered(want, now, peer_state)
            || want.sent.iter().any(|sent| now.duration_since(sent.at) >= STALL_TIMEOUT)
    }

    /// Returns whether all peers that a block was requested from are silent.
    pub(super) fn is_unanswered(
        &self,
        want: &SessionWant,
        now: Instant,
        peer_state: &dyn Fn(&PeerId) -> PeerState,
    ) -> bool {
        let is_silent = |sent: &super::SentRequest| {
            let active = peer_state(&sent.peer).last_activity.map_or(sent.at, |at| at.max(sent.at));
            now.saturating_duration_since(active) >= HEDGE_DELAY
        };
        !want.sent.is_empty() && want.sent.iter().all(is_silent)
    }
}
