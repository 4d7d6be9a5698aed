//! Getting the blocks of one DAG from several peers: a pure state machine that is told the time and what came.
//!
//! - Who delivered a block is presumed to have the whole DAG, until it says otherwise; others are asked what they have.
//! - A peer has a window of bytes asked of it, which grows while blocks come quickly.
//! - The first needed goes first. A want that stalls is asked elsewhere, one at the front sooner than others.

mod presences;
mod rescue;
mod source;
mod sources;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::BuildHasher,
    time::Duration,
};

use libp2p::PeerId;
use tokio::time::Instant;

use crate::{Cid, blocks::key};
pub use presences::Inquiry;
#[cfg(test)]
use source::Role;
use source::Source;
use sources::Sources;

/// Peers that are asked for a small block at once while nobody is known to have it.
const DIRECT: usize = 3;
/// A block of a known length above this is asked of one unknown peer only.
const SMALL: u64 = 64 << 10;
/// Wants looked at in one plan.
const SCAN: usize = 512;
/// Wants at the front that keep their order where peers pull the same at once.
const FRONT: usize = 2;
/// A peer that owes blocks and says nothing for so long is asked last.
const STALL: Duration = Duration::from_secs(3);
/// A want without an answer for so long was lost.
const LOST: Duration = Duration::from_secs(30);
/// A block that does not come for so long is asked of a further peer.
const RESCUE_AFTER: Duration = Duration::from_millis(500);
/// Presences are asked for in lots, not one at every block that comes.
const PRESENCES_EVERY: Duration = Duration::from_millis(20);

/// A block to get, and its length where that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub cid: Cid,
    pub size: u64,
}

/// What is to be said to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The block; `urgent` where nothing is needed before it.
    Block {
        peer: PeerId,
        cid: Cid,
        urgent: bool,
    },
    Have {
        peer: PeerId,
        cid: Cid,
    },
    /// Somebody else was asked instead.
    Cancel {
        peer: PeerId,
        cid: Cid,
    },
}

/// What the session cannot know of a peer by itself.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// When bytes of it last came.
    pub heard: Option<Instant>,
    /// How many more wants it may be sent.
    pub room: usize,
}

#[derive(Debug)]
struct Asked {
    peer: PeerId,
    at: Instant,
}

#[derive(Debug)]
struct Want {
    cid: Cid,
    size: u64,
    order: i64,
    asked: Vec<Asked>,
    holders: Vec<PeerId>,
    lacking: HashSet<PeerId>,
    /// Peers that were sent the want, for the block or for its presence.
    told: HashSet<PeerId>,
}

/// How many more wants peers may be sent in one plan.
struct Allowance<'a> {
    reach: &'a dyn Fn(&PeerId) -> Reach,
    taken: HashMap<PeerId, usize>,
}

impl Allowance<'_> {
    fn has_room(&self, peer: &PeerId) -> bool {
        (self.reach)(peer).room > self.taken.get(peer).copied().unwrap_or_default()
    }

    fn take(&mut self, peer: PeerId) {
        *self.taken.entry(peer).or_default() += 1;
    }
}

impl Want {
    fn is_asked_of(&self, peer: &PeerId) -> bool {
        self.asked.iter().any(|asked| asked.peer == *peer)
    }
}

/// The wants of one DAG and who may have them.
#[derive(Debug, Default)]
pub struct Session {
    wants: HashMap<Cid, Want>,
    /// Not asked of anybody.
    todo: BTreeMap<i64, Cid>,
    /// Asked of somebody.
    flying: BTreeMap<i64, Cid>,
    sources: Sources,
    last: i64,
    first: i64,
    presences_asked: Option<Instant>,
    /// Peers that sent wrong bytes since the last block came.
    liars: usize,
    /// Makes each node's order another where several pull the same.
    salt: std::hash::RandomState,
}

impl Session {
    /// Adds blocks to get, the first needed first.
    pub fn want(&mut self, wanted: impl IntoIterator<Item = Wanted>) {
        for Wanted { cid, size } in wanted {
            let name = key(&cid);
            if self.wants.contains_key(&name) {
                continue;
            }
            self.last += 1;
            let order = self.last;
            let (asked, holders, lacking, told) = Default::default();
            self.wants.insert(name, Want { cid, size, order, asked, holders, lacking, told });
            self.todo.insert(order, name);
        }
        self.presences_asked = None;
    }

    /// Puts a block before all others.
    pub fn prefer(&mut self, cid: &Cid) {
        let name = key(cid);
        let Some(want) = self.wants.get_mut(&name) else { return };
        self.first -= 1;
        let list = if want.asked.is_empty() { &mut self.todo } else { &mut self.flying };
        list.remove(&want.order);
        want.order = self.first;
        list.insert(want.order, name);
    }

    /// Forgets wants.
    pub fn unwant(&mut self, cids: &[Cid]) {
        for cid in cids {
            self.remove(&key(cid));
        }
    }

    fn remove(&mut self, name: &Cid) -> Option<Want> {
        let want = self.wants.remove(name)?;
        self.todo.remove(&want.order);
        self.flying.remove(&want.order);
        for asked in &want.asked {
            self.sources.change(&asked.peer, |source| source.settle(want.size));
        }
        Some(want)
    }

    /// All that is wanted still.
    pub fn wants(&self) -> impl Iterator<Item = &Cid> {
        self.wants.keys()
    }

    /// Whether a block is wanted.
    pub fn wants_block(&self, cid: &Cid) -> bool {
        self.wants.contains_key(&key(cid))
    }

    /// Adds a peer to ask; the lower its `rank`, the sooner. One that knows no presences is asked for blocks only.
    pub fn joined(&mut self, peer: PeerId, rank: u64, knows_presences: bool) {
        // A peer chooses its id, and must not choose its turn.
        let rank = (rank, self.salt.hash_one(peer));
        self.sources.insert(peer, Source::new(rank, knows_presences));
        self.presences_asked = None;
    }

    /// Takes a peer for one that has all, until it says otherwise.
    pub fn presume(&mut self, peer: &PeerId) {
        self.sources.change(peer, Source::presume);
    }

    /// Forgets a peer: what was asked of it is asked again.
    pub fn left(&mut self, peer: &PeerId) {
        self.sources.remove(peer);
        self.release(peer, |_| true);
        for want in self.wants.values_mut() {
            want.holders.retain(|holder| holder != peer);
            want.lacking.remove(peer);
            want.told.remove(peer);
        }
    }

    /// Forgets a peer that sent wrong bytes: as there may be many, more peers are asked at once until a block comes.
    pub fn lied(&mut self, peer: &PeerId) {
        self.left(peer);
        self.liars += 1;
    }

    /// Takes back what was asked of a peer.
    fn release(&mut self, peer: &PeerId, which: impl Fn(&Asked) -> bool) {
        let flying: Vec<Cid> = self.flying.values().copied().collect();
        for name in flying {
            let Some(want) = self.wants.get_mut(&name) else { continue };
            let before = want.asked.len();
            want.asked.retain(|asked| asked.peer != *peer || !which(asked));
            if want.asked.len() == before {
                continue;
            }
            self.sources.change(peer, |source| source.settle(want.size));
            if want.asked.is_empty() {
                self.flying.remove(&want.order);
                self.todo.insert(want.order, name);
            }
        }
    }

    /// Notes that a peer has a block; whether that matters here. A session that did not ask the peer learns nothing of it.
    pub fn has(&mut self, peer: &PeerId, cid: &Cid) -> bool {
        let name = key(cid);
        let Some(source) = self.sources.get(peer) else { return false };
        let is_told = self.wants.get(&name).is_some_and(|want| want.told.contains(peer));
        let was_asked = is_told || source.was_asked_first(&name);
        if was_asked {
            self.sources.change(peer, Source::has_something);
        }
        let Some(want) = self.wants.get_mut(&name) else { return was_asked };
        want.lacking.remove(peer);
        if !want.holders.contains(peer) {
            want.holders.push(*peer);
        }
        true
    }

    /// Notes that a peer has not got a block; whether that matters here.
    pub fn lacks(&mut self, peer: &PeerId, cid: &Cid) -> bool {
        let name = key(cid);
        let Some(want) = self.wants.get_mut(&name) else { return false };
        if self.sources.change(peer, Source::lacks_something).is_none() {
            return false;
        }
        want.holders.retain(|holder| holder != peer);
        want.lacking.insert(*peer);
        // Where it wants to be told of presences, it waits for this one already.
        want.told.insert(*peer);
        let before = want.asked.len();
        want.asked.retain(|asked| asked.peer != *peer);
        if want.asked.len() < before {
            self.sources.change(peer, |source| source.settle(want.size));
            if want.asked.is_empty() {
                self.flying.remove(&want.order);
                self.todo.insert(want.order, name);
            }
        }
        true
    }

    /// Takes a block; whether it was wanted.
    pub fn came(&mut self, peer: &PeerId, cid: &Cid, size: u64, now: Instant) -> bool {
        let Some(want) = self.remove(&key(cid)) else { return false };
        self.liars = 0;
        let asked = want.asked.iter().find(|asked| asked.peer == *peer);
        let took = asked.map(|asked| now.duration_since(asked.at));
        self.sources.change(peer, |source| source.delivered(size, took));
        let late = |asked: &&Asked| asked.peer != *peer && now.duration_since(asked.at) >= RESCUE_AFTER;
        for asked in want.asked.iter().filter(late) {
            self.sources.change(&asked.peer, Source::was_outrun);
        }
        true
    }

    /// Says what to ask of whom now.
    pub fn plan(&mut self, now: Instant, reach: &dyn Fn(&PeerId) -> Reach) -> Vec<Ask> {
        let mut room = Allowance { reach, taken: HashMap::new() };
        self.give_up_on_the_silent(now, reach);
        let mut asks = Vec::new();
        self.ask_blocks(now, &mut room, &mut asks);
        self.spare_who_has_all(now, &mut room, &mut asks);
        if self.presences_asked.is_none_or(|at| now.duration_since(at) >= PRESENCES_EVERY) {
            self.presences_asked = Some(now);
            self.ask_presences(now, reach, &mut room, &mut asks);
        }
        self.rescue(now, reach, &mut room, &mut asks);
        asks
    }

    fn give_up_on_the_silent(&mut self, now: Instant, reach: &dyn Fn(&PeerId) -> Reach) {
        let mut oldest: HashMap<PeerId, Instant> = HashMap::new();
        for name in self.flying.values() {
            for asked in self.wants.get(name).into_iter().flat_map(|want| &want.asked) {
                let first = oldest.entry(asked.peer).or_insert(asked.at);
                *first = (*first).min(asked.at);
            }
        }
        for (peer, first) in oldest {
            let Some(source) = self.sources.get(&peer) else { continue };
            let lost = LOST.max(source.latency() * 4);
            if now.duration_since(reach(&peer).heard.map_or(first, |heard| heard.max(first))) >= STALL {
                self.sources.change(&peer, |source| source.stalled(now));
                // It may have lost what it was told.
                for want in self.wants.values_mut() {
                    want.told.remove(&peer);
                }
                self.release(&peer, |_| true);
            } else if now.duration_since(first) >= lost {
                self.release(&peer, |asked| now.duration_since(asked.at) >= lost);
            }
        }
    }

    fn ask_blocks(&mut self, now: Instant, room: &mut Allowance, asks: &mut Vec<Ask>) {
        let mut queue: Vec<(i64, Cid)> =
            self.todo.iter().take(SCAN).map(|(order, name)| (*order, *name)).collect();
        if self.sources.are_mixed() && queue.len() > FRONT {
            queue[FRONT..].sort_by_cached_key(|(_, name)| self.salt.hash_one(name));
        }
        let (mut open, mut may_ask_unknown) = (self.open_holders(room), true);
        for (order, name) in queue {
            let Some(want) = self.wants.get(&name) else { continue };
            if open.is_empty() && !self.flying.is_empty() && want.holders.is_empty() {
                continue;
            }
            let peers = match self.holder_for(want, now, room) {
                Some(peer) => vec![peer],
                None if !self.flying.is_empty() || self.somebody_may_have(want) => continue,
                None if may_ask_unknown => self.unknown_for(want, now, room),
                None => continue,
            };
            // Where none can be asked for one block, none is looked for at each further one, unless it lacks only that.
            may_ask_unknown = may_ask_unknown && (!peers.is_empty() || self.sources.knows_silent_ones());
            let urgent = self.flying.first_key_value().is_none_or(|(first, _)| order < *first);
            for peer in peers {
                self.ask(peer, &name, order, now);
                room.take(peer);
                asks.extend(self.wants.get(&name).map(|want| Ask::Block { peer, cid: want.cid, urgent }));
                if !self.is_open(&peer, room) {
                    open.remove(&peer);
                }
            }
        }
    }

    /// The peers that have something and can be asked for more.
    fn open_holders(&self, room: &Allowance) -> HashSet<PeerId> {
        let holders = self.sources.with_all().chain(self.sources.with_parts()).map(|(peer, _)| *peer);
        holders.filter(|peer| self.is_open(peer, room)).collect()
    }

    fn is_open(&self, peer: &PeerId, room: &Allowance) -> bool {
        self.sources.get(peer).is_some_and(Source::has_room) && room.has_room(peer)
    }

    fn ask(&mut self, peer: PeerId, name: &Cid, order: i64, now: Instant) {
        let Some(want) = self.wants.get_mut(name) else { return };
        let asked = self.sources.change(&peer, |source| {
            source.asked(want.size);
            source.tell(*name, now);
        });
        if asked.is_none() {
            return;
        }
        want.told.insert(peer);
        want.asked.push(Asked { peer, at: now });
        self.todo.remove(&order);
        self.flying.insert(order, *name);
    }

    /// The least busy of those that have the block and room in their window; whoever has parts is asked before
    /// who has all, since others need that one more.
    fn holder_for(&self, want: &Want, now: Instant, room: &Allowance) -> Option<PeerId> {
        let holders = want.holders.iter().filter_map(|peer| Some((peer, self.sources.get(peer)?)));
        let all = self.sources.with_all();
        let all = all.filter(|(peer, _)| !want.lacking.contains(peer) && !want.holders.contains(peer));
        let fits = |(peer, source): &(&PeerId, &Source)| {
            source.fits(want.size) && room.has_room(peer) && !want.is_asked_of(peer)
        };
        let candidates = holders.chain(all).filter(fits);
        candidates.min_by_key(|(_, source)| source.reluctance(now)).map(|(peer, _)| *peer)
    }

    fn somebody_may_have(&self, want: &Want) -> bool {
        !want.holders.is_empty() || self.sources.with_all().any(|(peer, _)| !want.lacking.contains(peer))
    }

    /// While nobody is known to have anything, a few are asked for the first block itself: that saves a round trip.
    fn unknown_for(&self, want: &Want, now: Instant, room: &Allowance) -> Vec<PeerId> {
        let most = if want.size > SMALL { 1 } else { DIRECT };
        let of = |is_paused: bool| {
            self.sources.unknown().filter(move |(peer, source)| {
                let open = source.is_promising() || !source.knows_presences;
                let fits = source.owes() == 0 && room.has_room(peer) && !want.lacking.contains(*peer);
                open && fits && source.is_paused(now) == is_paused
            })
        };
        of(false).chain(of(true)).take(most).map(|(peer, _)| *peer).collect()
    }

    /// The peers that were told of a want in any way.
    pub fn told(&self, cid: &Cid) -> HashSet<PeerId> {
        let name = key(cid);
        self.wants.get(&name).map(|want| want.told.clone()).unwrap_or_default()
    }
}
