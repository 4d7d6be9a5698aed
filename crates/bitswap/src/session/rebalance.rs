//! Moving requests to peers that will send the block sooner, or that other downloaders need less.

use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

use super::{
    MAX_PLANNED_WANTS, ORDERED_WANTS, Request, Session, SessionWant, WantQuota,
    peer::{Availability, SessionPeer},
    requests::can_take,
};
use crate::Cid;

/// Peers that requests may move to in one plan: those that delivered blocks come first, so that peers that only claim to
/// have blocks do not hide them.
const MAX_CANDIDATES: usize = 32;

impl Session {
    /// Moves requests to other peers that have the block by now: from complete peers to partial ones, since other
    /// downloaders need the complete ones more, and from busy peers to idle ones.
    pub(super) fn rebalance(&mut self, now: Instant, quota: &mut WantQuota, requests: &mut Vec<Request>) {
        if !self.peers.are_mixed() && !self.peers.are_unbalanced() {
            return;
        }
        let candidates = self.candidates(now);
        let later = self.requested.iter().skip(ORDERED_WANTS).take(MAX_PLANNED_WANTS);
        let later: Vec<(i64, Cid)> = later.map(|(order, cid_v1)| (*order, *cid_v1)).collect();
        // The last ones first: their peers will send them last.
        for (order, cid_v1) in later.into_iter().rev() {
            let Some(want) = self.wants.get(&cid_v1) else { continue };
            let [sent] = want.sent.as_slice() else { continue };
            let (from, cid) = (sent.peer, want.cid);
            let Some(to) = self.better_peer(want, &from, &candidates, now, quota) else { continue };
            if let Some(want) = self.wants.get_mut(&cid_v1) {
                want.sent.clear();
                // A peer that is known to have the block is not asked for it again.
                if !want.holders.contains(&from) {
                    want.asked.remove(&from);
                }
                self.peers.change(&from, |state| state.request_done(want.size));
            }
            self.record_request(to, &cid_v1, order, now);
            quota.reserve(to);
            requests.extend([
                Request::Cancel { peer: from, cid },
                Request::Block { peer: to, cid, urgent: false },
            ]);
        }
    }

    fn candidates(&self, now: Instant) -> Vec<PeerId> {
        let fastest = self.fastest;
        let trusted = self.peers.complete().chain(self.peers.partial());
        let mut trusted: Vec<_> = trusted
            .filter(|(_, state)| state.is_trusted(now))
            .map(|(peer, state)| ((!state.has_delivered(), state.reluctance(now, fastest)), *peer))
            .collect();
        trusted.sort_unstable();
        trusted.truncate(MAX_CANDIDATES);
        trusted.into_iter().map(|(_, peer)| peer).collect()
    }

    /// Returns the best candidate that has the block and is better than its present peer.
    fn better_peer(
        &self,
        want: &SessionWant,
        from: &PeerId,
        candidates: &[PeerId],
        now: Instant,
        quota: &WantQuota,
    ) -> Option<PeerId> {
        let (asked, fastest) = (self.peers.get(from)?, self.fastest);
        let has = |peer: &PeerId, state: &SessionPeer| {
            let is_complete = state.availability == Availability::Complete;
            want.holders.contains(peer) || is_complete && !want.lacking.contains(peer)
        };
        let known = candidates.iter();
        known
            .filter_map(|peer| Some((peer, self.peers.get(peer)?)))
            .filter(|(peer, state)| {
                is_better(state, asked, want.size, fastest)
                    && has(peer, state)
                    && can_take(want, peer, state, quota)
            })
            .min_by_key(|(_, state)| state.reluctance(now, fastest))
            .map(|(peer, _)| *peer)
    }
}

/// Returns whether a request of this size should move, and would not move back.
fn is_better(to: &SessionPeer, from: &SessionPeer, size: u64, fastest: Duration) -> bool {
    if to.is_slow(fastest) != from.is_slow(fastest) {
        return from.is_slow(fastest);
    }
    let helps_others =
        from.availability == Availability::Complete && to.availability == Availability::Partial;
    to.is_less_busy_than(from, size) || helps_others && !from.would_be_less_busy_than(to, size)
}
