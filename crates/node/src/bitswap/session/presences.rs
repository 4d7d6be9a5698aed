//! Asking peers which blocks they have, and how far that has come.

use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

use super::{Allowance, Ask, RESCUE_AFTER, Reach, STALL, Session, Want, source::Source};
use crate::{Cid, blocks::key};

/// Peers asked in one round whether they have the first block; further rounds ask the others.
const BROADCAST: usize = 64;
/// How far ahead a peer that has parts is asked what it has.
const LOOK_AHEAD: usize = 256;
/// Peers of which nothing is known that are asked ahead too: they may be about to get what we are about to get.
const SCOUTS: usize = 16;
const SCOUTED: usize = 64;
/// How long a peer has to answer before it counts as one that does not have the block.
const ANSWER_TIME: Duration = Duration::from_millis(2500);

/// Progress of asking the connected peers for one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// Peers that were not asked yet.
    pub unasked: usize,
    /// Peers that said that they have it.
    pub holders: usize,
    /// When the last peer was asked.
    pub last_asked: Option<Instant>,
}

impl Inquiry {
    /// Returns when every peer had its time to answer; none while some were not asked, or one has the block.
    pub fn ends(&self, begun: Instant) -> Option<Instant> {
        let is_open = self.unasked > 0 || self.holders > 0;
        (!is_open).then(|| self.last_asked.map_or(begun, |at| at + ANSWER_TIME))
    }
}

impl Session {
    /// Returns the progress of asking the connected peers for a block.
    pub fn inquiry(&self, cid: &Cid) -> Inquiry {
        let want = self.wants.get(&key(cid));
        let knows = |want: &Want| want.told.union(&want.lacking).count();
        Inquiry {
            unasked: self.sources.len() - want.map_or(0, knows),
            holders: want.map_or(0, |want| want.holders.len()),
            last_asked: self.sources.last_asked(),
        }
    }

    pub(super) fn ask_presences(
        &mut self,
        now: Instant,
        reach: &dyn Fn(&PeerId) -> Reach,
        room: &mut Allowance,
        asks: &mut Vec<Ask>,
    ) {
        let ahead: Vec<Cid> =
            self.flying.values().chain(self.todo.values()).take(LOOK_AHEAD).copied().collect();
        let Some(first) = ahead.first() else { return };
        for (peer, names) in self.asked_ahead(&ahead) {
            self.ask_presences_of(peer, names, now, room, asks);
        }
        for peer in self.strangers(first, now, reach, room) {
            self.ask_presences_of(peer, &ahead[..1], now, room, asks);
        }
    }

    fn ask_presences_of(
        &mut self,
        peer: PeerId,
        names: &[Cid],
        now: Instant,
        room: &mut Allowance,
        asks: &mut Vec<Ask>,
    ) {
        for name in names {
            if !room.has_room(&peer) {
                return;
            }
            if let Some(want) = self.wants.get_mut(name)
                && want.told.insert(peer)
            {
                self.sources.change(&peer, |source| source.tell(*name, now));
                room.take(peer);
                asks.push(Ask::Have { peer, cid: want.cid });
            }
        }
    }

    /// The peers that are asked for more than the first block, each with its names.
    fn asked_ahead<'a>(&self, ahead: &'a [Cid]) -> Vec<(PeerId, &'a [Cid])> {
        let scouted = &ahead[..ahead.len().min(SCOUTED)];
        let parts = self.sources.with_parts().map(|peer| (peer, ahead));
        let scouts = self.sources.unknown().take(SCOUTS).map(|peer| (peer, scouted));
        let asked = parts.chain(scouts).filter(|((_, source), _)| source.knows_presences);
        asked.map(|((peer, _), names)| (*peer, names)).collect()
    }

    /// The next round of peers of which nothing is known: each is asked once, and again where it is in doubt that a block
    /// comes from those that are known.
    fn strangers(
        &self,
        first: &Cid,
        now: Instant,
        reach: &dyn Fn(&PeerId) -> Reach,
        room: &Allowance,
    ) -> Vec<PeerId> {
        let Some(want) = self.wants.get(first) else { return Vec::new() };
        let is_next = |(peer, source): &(&PeerId, &Source)| {
            source.knows_presences && !want.told.contains(*peer) && room.has_room(peer)
        };
        let some = |peers: &mut dyn Iterator<Item = (&PeerId, &Source)>| {
            peers.filter(is_next).take(BROADCAST).map(|(peer, _)| *peer).collect()
        };
        match self.is_in_doubt(want, now, reach) {
            true => some(&mut self.sources.unknown()),
            false => some(&mut self.sources.unasked()),
        }
    }

    /// Whether a block may come from none of the peers that are known to have something.
    fn is_in_doubt(&self, want: &Want, now: Instant, reach: &dyn Fn(&PeerId) -> Reach) -> bool {
        !self.somebody_may_have(want)
            || self.is_unanswered(want, now, reach)
            || want.asked.iter().any(|asked| now.duration_since(asked.at) >= STALL)
    }

    /// Whether those that were asked for a block are silent.
    pub(super) fn is_unanswered(&self, want: &Want, now: Instant, reach: &dyn Fn(&PeerId) -> Reach) -> bool {
        let is_silent = |asked: &super::Asked| {
            let heard = reach(&asked.peer).heard.map_or(asked.at, |heard| heard.max(asked.at));
            now.saturating_duration_since(heard) >= RESCUE_AFTER
        };
        !want.asked.is_empty() && want.asked.iter().all(is_silent)
    }
}
