//! Choosing the peer that each block is requested from.

use std::collections::HashSet;

use libp2p::PeerId;
use tokio::time::Instant;

use super::{
    DIRECT_PEERS, MAX_PLANNED_WANTS, ORDERED_WANTS, Request, SMALL_BLOCK_BYTES, SentRequest, Session,
    SessionWant, WantQuota, peer::SessionPeer,
};
use crate::Cid;

impl Session {
    /// Requests blocks from the peers that have them; the first one also from unproven peers.
    pub(super) fn request_blocks(
        &mut self,
        now: Instant,
        quota: &mut WantQuota,
        requests: &mut Vec<Request>,
    ) {
        let mut queue: Vec<(i64, Cid)> = self
            .unrequested
            .iter()
            .take(MAX_PLANNED_WANTS)
            .map(|(order, cid_v1)| (*order, *cid_v1))
            .collect();
        if self.peers.are_mixed() && queue.len() > ORDERED_WANTS {
            queue[ORDERED_WANTS..].sort_by_cached_key(|(_, cid_v1)| self.salt.hash_one(cid_v1));
        }
        let (mut open, mut may_ask_unknown) = (self.open_holders(quota), true);
        for (order, cid_v1) in queue {
            let Some(want) = self.wants.get(&cid_v1) else { continue };
            if open.is_empty() && !self.requested.is_empty() && want.holders.is_empty() {
                continue;
            }
            let peers = match self.holder_for(want, now, quota) {
                Some(peer) => vec![peer],
                None if !self.requested.is_empty() || self.some_peer_may_have(want) => continue,
                None if may_ask_unknown => self.unproven_peers_for(want, now, quota),
                None => continue,
            };
            // If no peer can be asked for one block, none is searched for the following ones, unless peers lack only
            // this block.
            may_ask_unknown =
                may_ask_unknown && (!peers.is_empty() || self.peers.has_peers_without_presences());
            let urgent = self.requested.first_key_value().is_none_or(|(first, _)| order < *first);
            for peer in peers {
                self.record_request(peer, &cid_v1, order, now);
                quota.reserve(peer);
                requests.extend(self.wants.get(&cid_v1).map(|want| Request::Block {
                    peer,
                    cid: want.cid,
                    urgent,
                }));
                if !self.can_take_wants(&peer, quota) {
                    open.remove(&peer);
                }
            }
        }
    }

    /// Returns the peers that have blocks and can be sent more wants.
    fn open_holders(&self, quota: &WantQuota) -> HashSet<PeerId> {
        let holders = self.peers.complete().chain(self.peers.partial()).map(|(peer, _)| *peer);
        holders.filter(|peer| self.can_take_wants(peer, quota)).collect()
    }

    fn can_take_wants(&self, peer: &PeerId, quota: &WantQuota) -> bool {
        self.peers.get(peer).is_some_and(SessionPeer::has_room) && quota.has_room(peer)
    }

    /// Records that a block is requested from a peer.
    pub(super) fn record_request(&mut self, peer: PeerId, cid_v1: &Cid, order: i64, now: Instant) {
        let Some(want) = self.wants.get_mut(cid_v1) else { return };
        let sent = self.peers.change(&peer, |state| {
            state.block_requested(want.size);
            state.want_sent(*cid_v1, now);
        });
        if sent.is_none() {
            return;
        }
        want.asked.insert(peer);
        want.sent.push(SentRequest { peer, at: now });
        self.unrequested.remove(&order);
        self.requested.insert(order, *cid_v1);
    }

    /// Returns the least busy peer that has the block and room in its window. Peers with part of the DAG are preferred:
    /// other downloaders need the complete ones more.
    pub(super) fn holder_for(&self, want: &SessionWant, now: Instant, quota: &WantQuota) -> Option<PeerId> {
        let holders = want.holders.iter().filter_map(|peer| Some((peer, self.peers.get(peer)?)));
        let all = self.peers.complete();
        let all = all.filter(|(peer, _)| !want.lacking.contains(peer) && !want.holders.contains(peer));
        let candidates = holders.chain(all).filter(|(peer, state)| can_take(want, peer, state, quota));
        candidates.min_by_key(|(_, state)| state.reluctance(now, self.fastest)).map(|(peer, _)| *peer)
    }

    pub(super) fn some_peer_may_have(&self, want: &SessionWant) -> bool {
        !want.holders.is_empty() || self.peers.complete().any(|(peer, _)| !want.lacking.contains(peer))
    }

    /// Returns a few unproven peers to request the first block from, while no peer is known to have it: that saves a
    /// round trip.
    fn unproven_peers_for(&self, want: &SessionWant, now: Instant, quota: &WantQuota) -> Vec<PeerId> {
        let most = if want.size > SMALL_BLOCK_BYTES { 1 } else { DIRECT_PEERS };
        let of = |is_paused: bool| {
            self.peers.unknown().filter(move |(peer, state)| {
                let open = state.is_promising() || !state.supports_presences;
                let fits =
                    state.open_requests() == 0 && quota.has_room(peer) && !want.lacking.contains(*peer);
                open && fits && state.is_paused(now) == is_paused
            })
        };
        of(false).chain(of(true)).take(most).map(|(peer, _)| *peer).collect()
    }
}

/// Returns whether a block may be requested from a peer: it has room for it, and was not asked for it.
pub(super) fn can_take(want: &SessionWant, peer: &PeerId, state: &SessionPeer, quota: &WantQuota) -> bool {
    state.fits(want.size) && quota.has_room(peer) && !want.has_open_request_to(peer)
}
