//! Hedging: requesting a block from further peers while earlier requests are open.

use libp2p::PeerId;
use tokio::time::Instant;

use super::{
    AHEAD, HEDGE_DELAY, PeerState, Request, STALL_TIMEOUT, Session, SessionWant, WantQuota,
    peer::Availability,
};
use crate::Cid;

/// Wants at the front that may be hedged.
const HEDGED_WANTS: usize = 8;
/// Further peers asked at once after peers were banned.
const MAX_EXTRA_PEERS: usize = 64;

impl Session {
    /// Requests the blocks that the reader waits for, or the last blocks, from further peers if the asked ones may not
    /// deliver.
    pub(super) fn hedge(
        &mut self,
        now: Instant,
        peer_state: &dyn Fn(&PeerId) -> PeerState,
        quota: &mut WantQuota,
        requests: &mut Vec<Request>,
    ) {
        let needed = self.requested.range(..AHEAD).take(HEDGED_WANTS);
        let front: Vec<(i64, Cid)> = needed.map(|(order, cid_v1)| (*order, *cid_v1)).collect();
        for (order, cid_v1) in front {
            let further = self.wants.get(&cid_v1).map_or(0, |want| self.further(want, now, peer_state));
            for _ in 0..further {
                let Some(want) = self.wants.get(&cid_v1) else { break };
                let Some(peer) = self.hedge_peer_for(want, now, peer_state, quota) else { break };
                let cid = want.cid;
                self.record_request(peer, &cid_v1, order, now);
                quota.reserve(peer);
                requests.push(Request::Block { peer, cid, urgent: true });
            }
        }
    }

    /// Returns how many further peers to ask for a block. The number of peers doubles while all are silent, so a peer
    /// that really has the block is reached soon, however many only claim to have it.
    fn further(&self, want: &SessionWant, now: Instant, peer_state: &dyn Fn(&PeerId) -> PeerState) -> usize {
        let may_have = |peer: &PeerId| {
            want.holders.contains(peer)
                || self.peers.get(peer).is_some_and(|state| state.availability == Availability::Complete)
        };
        if !want.holders.is_empty() && !want.sent.iter().any(|sent| may_have(&sent.peer)) {
            return 1;
        }
        if want.sent.len() <= self.banned_since_block.min(MAX_EXTRA_PEERS) {
            return self.banned_since_block.min(MAX_EXTRA_PEERS) + 1 - want.sent.len();
        }
        let Some(last) = want.sent.last() else { return 0 };
        let latency = self.peers.get(&last.peer).map(|state| state.latency()).unwrap_or_default();
        let waited = now.duration_since(last.at);
        match want.sent.len() {
            _ if waited < HEDGE_DELAY.max(latency * 2) => 0,
            1 => 1,
            asked if self.is_unanswered(want, now, peer_state) => asked,
            _ if waited >= STALL_TIMEOUT.max(latency * 2) => 1,
            _ => 0,
        }
    }

    /// Returns an idle peer that has the block. If there is none, or none answers, returns a peer that can only be
    /// asked for the block itself.
    fn hedge_peer_for(
        &self,
        want: &SessionWant,
        now: Instant,
        peer_state: &dyn Fn(&PeerId) -> PeerState,
        quota: &WantQuota,
    ) -> Option<PeerId> {
        if let Some(peer) = self.holder_for(want, now, quota) {
            return self.peers.get(&peer).filter(|state| state.is_idle()).map(|_| peer);
        }
        if self.some_peer_may_have(want) && !self.is_unanswered(want, now, peer_state) {
            return None;
        }
        let unknown = self.peers.unknown().filter(|(peer, state)| {
            let is_open = state.is_promising() && !state.supports_presences && state.open_requests() == 0;
            is_open
                && quota.has_room(peer)
                && !want.lacking.contains(*peer)
                && !want.has_open_request_to(peer)
        });
        unknown.min_by_key(|(_, state)| (state.is_paused(now), state.rank)).map(|(peer, _)| *peer)
    }
}
