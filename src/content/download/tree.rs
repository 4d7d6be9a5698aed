//! Missing parts of a file's DAG: which blocks, where they belong, and where readers are. It does not know
//! peers.
//!
//! An inner node stands for its children until it is expanded. If a node has many children, or if many parts
//! are known already, only the children near a reader are expanded: the others stay folded in the node, and
//! parts that no reader is near are folded back.

mod ahead;
mod fold;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use ocipfs_node::{Block, Cid, as_v1};
use ocipfs_unixfs::Child;

use super::read_ranges::{ReadRanges, overlaps};
use ahead::Ahead;
// No peer sends a block longer than `MAX_BLOCK_BYTES`, so a longer part is an inner node.
use crate::content::{Error, store::MAX_BLOCK_BYTES};

const MAX_DEPTH: usize = 32;
/// Parts known at once, but for what readers wait for.
const MAX_PARTS: usize = 1 << 16;
/// Children of one node taken up at once.
const MAX_EXPANDED: usize = 2048;
/// Inner nodes wanted at once, or searched for: what is known of a file stays near to where it is read.
const MAX_INNER: usize = 4;
/// Inner nodes wanted at once where readers wait for them.
const MAX_URGENT_INNER: usize = 64;

/// How far getting a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PartState {
    /// The node directory was not searched for it.
    New,
    Missing,
    Wanted,
}

#[derive(Clone, Debug)]
struct FilePart {
    cid: Cid,
    place: Position,
    stage: PartState,
}

/// Where a block belongs in the file.
#[derive(Clone, Debug)]
pub struct Position {
    pub offset: u64,
    pub length: u64,
    pub depth: usize,
    /// Range still to come with this block; for an inner node, less than its length if children were expanded
    /// before.
    covers: Range<u64>,
    parent: Option<Arc<Parent>>,
}

/// The inner node that a part was a child of.
#[derive(Debug)]
struct Parent {
    cid: Cid,
    place: Position,
}

/// The parts that are not here, by their offset.
#[derive(Debug, Default)]
pub struct DownloadTree {
    parts: BTreeMap<u64, FilePart>,
    /// One block may be many parts: think of zeros.
    offsets: HashMap<Cid, BTreeSet<u64>>,
    /// The offsets of the parts in each stage, since a file may have very many that nothing is to be done with.
    new: BTreeSet<u64>,
    missing: BTreeSet<u64>,
    wanted: BTreeSet<u64>,
    wanted_inner: usize,
    ahead: Ahead,
}

impl Position {
    /// The place of a file's root.
    pub fn root(size: u64) -> Self {
        Self { offset: 0, length: size, depth: 0, covers: 0..size, parent: None }
    }

    /// Returns the range of the file that is still to come with this block.
    pub fn range(&self) -> Range<u64> {
        self.covers.clone()
    }

    /// Whether nothing of it was taken up before.
    pub fn is_whole(&self) -> bool {
        self.covers.end - self.covers.start == self.length
    }
}

impl DownloadTree {
    /// Takes up the children of a node that belongs at `places`, behind its `own` bytes, as far as there is room; but
    /// for those that are `here`.
    pub fn expand(
        &mut self,
        node: &Cid,
        places: &[Position],
        own: u64,
        children: &[Child],
        interest: &ReadRanges,
        here: impl Fn(&Range<u64>) -> bool,
    ) -> Result<(), Error> {
        if places.iter().any(|place| place.depth > MAX_DEPTH) {
            return Err(Error::Corrupt { cid: *node, why: format!("DAG is deeper than {MAX_DEPTH} levels") });
        }
        if children.is_empty() {
            return Ok(());
        }
        let mut room = self.room();
        for place in places {
            let before = self.parts.len();
            self.expand_at(node, place, own, children, (interest, room.min(MAX_EXPANDED)), &here);
            room = room.saturating_sub(self.parts.len().saturating_sub(before));
        }
        Ok(())
    }

    /// Folds back what no reader is near to, where too many parts are known: not between the arrival of a block and its
    /// expansion, when no part stands for its children.
    pub fn fold_if_full(&mut self, interest: &ReadRanges) {
        if !self.has_room() {
            self.fold(interest);
        }
    }

    /// Takes back blocks that came and were not written.
    pub fn put_back(&mut self, blocks: Vec<(Block, Vec<Position>)>) {
        for (block, places) in blocks {
            places.into_iter().for_each(|place| self.add(block.cid, place));
        }
    }

    /// Whether a block is a part that is not here.
    pub fn lacks(&self, cid: &Cid) -> bool {
        self.offsets.contains_key(&as_v1(cid))
    }

    fn add(&mut self, cid: Cid, place: Position) {
        let offset = place.covers.start;
        self.offsets.entry(as_v1(&cid)).or_default().insert(offset);
        self.new.insert(offset);
        self.parts.insert(offset, FilePart { cid, place, stage: PartState::New });
    }

    fn remove(&mut self, offset: u64) -> Option<FilePart> {
        self.leave_stage(offset);
        let part = self.parts.remove(&offset)?;
        let name = as_v1(&part.cid);
        if let Some(offsets) = self.offsets.get_mut(&name) {
            offsets.remove(&offset);
            if offsets.is_empty() {
                self.offsets.remove(&name);
            }
        }
        Some(part)
    }

    /// The parts that overlap a range.
    fn within(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, &FilePart)> {
        let first = self.parts.range(..=range.start).next_back();
        let first = first
            .filter(|(_, part)| part.place.covers.end > range.start)
            .map_or(range.start, |(offset, _)| *offset);
        self.parts.range(first..range.end.max(first)).map(|(offset, part)| (*offset, part))
    }

    /// The parts that readers need and for which the node directory was not searched, what they wait for first; they
    /// count as missing now.
    pub fn take_new(&mut self, interest: &ReadRanges, limit: usize) -> Vec<Cid> {
        let mut taken = Vec::new();
        let may_grow = self.has_room() || self.wanted.is_empty();
        for (ranges, may_grow) in [(interest.urgent(), true), (interest.ranges(), may_grow)] {
            let mut inner = if may_grow { MAX_INNER } else { 0 };
            for range in ranges {
                let room = limit.saturating_sub(taken.len());
                for offset in self.overlapping(&self.new, range).take(room).collect::<Vec<_>>() {
                    if self.is_inner(offset) {
                        if inner == 0 {
                            continue;
                        }
                        inner -= 1;
                    }
                    taken.extend(self.advance(offset, PartState::Missing).map(|(cid, _)| cid));
                }
            }
        }
        taken
    }

    /// The parts in the ranges that are missing, with the length of their blocks where it is known; they count as
    /// wanted now. At most `limit` are wanted at once.
    pub fn take_missing(&mut self, ranges: &[Range<u64>], limit: usize) -> Vec<(Cid, u64)> {
        self.take_missing_with(ranges, limit, MAX_INNER)
    }

    /// Takes missing parts that readers wait for, like [`Self::take_missing`].
    pub fn take_urgent(&mut self, ranges: &[Range<u64>], limit: usize) -> Vec<(Cid, u64)> {
        self.take_missing_with(ranges, limit, MAX_URGENT_INNER)
    }

    fn take_missing_with(&mut self, ranges: &[Range<u64>], limit: usize, inner: usize) -> Vec<(Cid, u64)> {
        let mut taken = Vec::new();
        for range in ranges {
            let room = limit.saturating_sub(self.wanted.len());
            for offset in self.overlapping(&self.missing, range).take(room).collect::<Vec<_>>() {
                if self.is_inner(offset) {
                    if self.wanted_inner >= inner {
                        continue;
                    }
                    self.propose_ahead(offset);
                }
                taken.extend(self.advance(offset, PartState::Wanted));
            }
        }
        taken.into_iter().map(|(cid, size)| (cid, if size > MAX_BLOCK_BYTES { 0 } else { size })).collect()
    }

    /// How many parts are wanted.
    pub fn wanted(&self) -> usize {
        self.wanted.len()
    }

    /// Those of one stage that overlap a range.
    fn overlapping<'a>(
        &self,
        stage: &'a BTreeSet<u64>,
        range: &Range<u64>,
    ) -> impl Iterator<Item = u64> + use<'a> {
        let first = self.within(range).next().map_or(range.end, |(offset, _)| offset);
        stage.range(first..range.end.max(first)).copied()
    }

    fn is_inner(&self, offset: u64) -> bool {
        self.parts.get(&offset).is_some_and(|part| part.place.length > MAX_BLOCK_BYTES)
    }

    fn advance(&mut self, offset: u64, to: PartState) -> Option<(Cid, u64)> {
        self.leave_stage(offset);
        let part = self.parts.get_mut(&offset)?;
        part.stage = to;
        let (cid, size) = (part.cid, part.place.length);
        match to {
            PartState::New => self.new.insert(offset),
            PartState::Missing => self.missing.insert(offset),
            PartState::Wanted => {
                self.wanted_inner += usize::from(size > MAX_BLOCK_BYTES);
                self.wanted.insert(offset)
            }
        };
        Some((cid, size))
    }

    fn leave_stage(&mut self, offset: u64) {
        match self.parts.get(&offset).map(|part| part.stage) {
            Some(PartState::New) => self.new.remove(&offset),
            Some(PartState::Missing) => self.missing.remove(&offset),
            Some(PartState::Wanted) => {
                self.wanted_inner -= usize::from(self.is_inner(offset));
                self.wanted.remove(&offset)
            }
            None => false,
        };
    }

    /// Marks the wanted parts as missing that lie outside all ranges, which are disjoint and in order. Returns the blocks that
    /// are not wanted in any place now.
    pub fn take_surplus(&mut self, ranges: &[Range<u64>]) -> Vec<Cid> {
        let is_surplus =
            |offset: &u64| self.parts.get(offset).is_none_or(|part| !overlaps(ranges, &part.place.covers));
        let surplus: Vec<u64> = self.wanted.iter().copied().filter(is_surplus).collect();
        let mut cids: Vec<Cid> = surplus
            .into_iter()
            .filter_map(|offset| Some(self.advance(offset, PartState::Missing)?.0))
            .collect();
        // One block may be very many parts.
        let mut seen = HashSet::new();
        cids.retain(|cid| seen.insert(as_v1(cid)) && !self.wants(cid));
        cids
    }

    /// Has a block looked for again that was missing, and is here now.
    pub fn look_again(&mut self, cid: &Cid) {
        let offsets = self.offsets.get(&as_v1(cid)).cloned().unwrap_or_default();
        for offset in offsets.intersection(&self.missing).copied().collect::<Vec<_>>() {
            self.advance(offset, PartState::New);
        }
    }

    /// Whether a block is wanted in any place.
    pub fn wants(&self, cid: &Cid) -> bool {
        let mut offsets = self.offsets.get(&as_v1(cid)).into_iter().flatten();
        offsets.any(|offset| self.wanted.contains(offset))
    }

    /// The wanted part that covers an offset.
    pub fn wanted_at(&self, offset: u64) -> Option<Cid> {
        let (_, part) = self.within(&(offset..offset + 1)).next()?;
        (part.stage == PartState::Wanted).then_some(part.cid)
    }

    /// Where a block belongs that came; its parts are here now.
    pub fn arrived(&mut self, cid: &Cid) -> Vec<Position> {
        let offsets = self.offsets.get(&as_v1(cid)).cloned().unwrap_or_default();
        offsets.into_iter().filter_map(|offset| Some(self.remove(offset)?.place)).collect()
    }
}
