//! Asking further peers for what others owe.

use libp2p::PeerId;
use tokio::time::Instant;

use super::{Allowance, Ask, FRONT, RESCUE_AFTER, Reach, SCAN, STALL, Session, Want, source::Role};
use crate::Cid;

/// Wants at the front that may be asked of further peers.
const RESCUED: usize = 8;
/// Further peers asked at once where others were found to lie.
const AT_ONCE: usize = 64;

impl Session {
    /// Takes wants back from a peer that has all where one with parts has the block by now: others need that one more.
    pub(super) fn spare_who_has_all(&mut self, now: Instant, room: &mut Allowance, asks: &mut Vec<Ask>) {
        if !self.sources.are_mixed() {
            return;
        }
        let later = self.flying.iter().skip(FRONT).take(SCAN);
        let later: Vec<(i64, Cid)> = later.map(|(order, name)| (*order, *name)).collect();
        for (order, name) in later {
            let Some(want) = self.wants.get(&name) else { continue };
            let [asked] = want.asked.as_slice() else { continue };
            let (first, cid) = (asked.peer, want.cid);
            if !self.sources.get(&first).is_some_and(|source| source.role == Role::All) {
                continue;
            }
            let peer = self.holder_for(want, now, room);
            let has_parts =
                |peer: &PeerId| self.sources.get(peer).is_some_and(|source| source.role == Role::Parts);
            let Some(peer) = peer.filter(has_parts) else { continue };
            if let Some(want) = self.wants.get_mut(&name) {
                want.asked.clear();
                want.told.remove(&first);
                self.sources.change(&first, |source| source.settle(want.size));
            }
            self.ask(peer, &name, order, now);
            room.take(peer);
            asks.extend([Ask::Cancel { peer: first, cid }, Ask::Block { peer, cid, urgent: false }]);
        }
    }

    /// Asks further peers for what the reader waits for, or what is left at the end, where it may not come from those that
    /// were asked.
    pub(super) fn rescue(
        &mut self,
        now: Instant,
        reach: &dyn Fn(&PeerId) -> Reach,
        room: &mut Allowance,
        asks: &mut Vec<Ask>,
    ) {
        let front: Vec<(i64, Cid)> =
            self.flying.iter().take(RESCUED).map(|(order, name)| (*order, *name)).collect();
        for (order, name) in front {
            let further = self.wants.get(&name).map_or(0, |want| self.further(want, now, reach));
            for _ in 0..further {
                let Some(want) = self.wants.get(&name) else { break };
                let Some(peer) = self.rescuer_for(want, now, reach, room) else { break };
                let cid = want.cid;
                self.ask(peer, &name, order, now);
                room.take(peer);
                asks.push(Ask::Block { peer, cid, urgent: true });
            }
        }
    }

    /// How many further peers a block is asked of now. While those that were asked are silent it doubles, so that however
    /// many only say that they have the block, one that has it is soon asked.
    fn further(&self, want: &Want, now: Instant, reach: &dyn Fn(&PeerId) -> Reach) -> usize {
        let may_have = |peer: &PeerId| {
            want.holders.contains(peer)
                || self.sources.get(peer).is_some_and(|source| source.role == Role::All)
        };
        if !want.holders.is_empty() && !want.asked.iter().any(|asked| may_have(&asked.peer)) {
            return 1;
        }
        if want.asked.len() <= self.liars.min(AT_ONCE) {
            return self.liars.min(AT_ONCE) + 1 - want.asked.len();
        }
        let Some(last) = want.asked.last() else { return 0 };
        let latency = self.sources.get(&last.peer).map(|source| source.latency()).unwrap_or_default();
        let waited = now.duration_since(last.at);
        match want.asked.len() {
            _ if waited < RESCUE_AFTER.max(latency * 2) => 0,
            1 => 1,
            asked if self.is_unanswered(want, now, reach) => asked,
            _ if waited >= STALL.max(latency * 2) => 1,
            _ => 0,
        }
    }

    /// One that has the block and is not busy; where none is known, or those that are do not answer, one that can only be asked
    /// for the block itself.
    fn rescuer_for(
        &self,
        want: &Want,
        now: Instant,
        reach: &dyn Fn(&PeerId) -> Reach,
        room: &Allowance,
    ) -> Option<PeerId> {
        if let Some(peer) = self.holder_for(want, now, room) {
            return self.sources.get(&peer).filter(|source| source.is_idle()).map(|_| peer);
        }
        if self.somebody_may_have(want) && !self.is_unanswered(want, now, reach) {
            return None;
        }
        let unknown = self.sources.unknown().filter(|(peer, source)| {
            let is_open = source.is_promising() && !source.knows_presences && source.owes() == 0;
            is_open && room.has_room(peer) && !want.lacking.contains(*peer) && !want.is_asked_of(peer)
        });
        unknown.min_by_key(|(_, source)| (source.is_paused(now), source.rank)).map(|(peer, _)| *peer)
    }
}
