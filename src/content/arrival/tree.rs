//! What of a file's DAG is still to come: which parts, where they belong, and who reads where. It knows no peers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};

use ocipfs_node::Cid;

use crate::content::{Error, dag::Child};

/// No peer sends a longer block, so a longer part is an inner node.
const MAX_BLOCK: u64 = 2 << 20;
const MAX_DEPTH: usize = 32;
/// Parts known at once. A file of 16 GiB in the smallest usual blocks has as many, and of a longer one not all are
/// known at once, unless it is the same few blocks again and again.
const MAX_PARTS: usize = 1 << 16;
/// Inner nodes wanted at once: what is known of a file stays near to where it is read.
const MAX_INNER: usize = 4;

/// How far getting a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The node directory was not searched for it.
    New,
    Missing,
    Wanted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    cid: Cid,
    end: u64,
    depth: usize,
    stage: Stage,
}

/// Where a block belongs in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub offset: u64,
    pub length: u64,
    pub depth: usize,
}

/// The parts that are not here, by their offset.
#[derive(Debug, Default)]
pub struct Tree {
    parts: BTreeMap<u64, Part>,
    /// One block may be many parts: think of zeros.
    offsets: HashMap<Cid, Vec<u64>>,
    /// The offsets of the parts in each stage, since a file may have very many that nothing is to be done with.
    new: BTreeSet<u64>,
    missing: BTreeSet<u64>,
    wanted: BTreeSet<u64>,
    wanted_inner: usize,
}

/// The one name of a block under both versions of its CID.
fn key(cid: &Cid) -> Cid {
    Cid::new_v1(cid.codec(), *cid.hash())
}

impl Tree {
    /// Takes up the children of a node that belongs at `places`, behind its `own` bytes; but for those that are `here`.
    pub fn expand(
        &mut self,
        node: &Cid,
        places: &[Place],
        own: u64,
        children: &[Child],
        here: impl Fn(&Range<u64>) -> bool,
    ) -> Result<(), Error> {
        let corrupt = |why: String| Error::Corrupt { cid: *node, why };
        if places.iter().any(|place| place.depth > MAX_DEPTH) {
            return Err(corrupt(format!("its DAG is deeper than {MAX_DEPTH}")));
        }
        if self.parts.len() + places.len().saturating_mul(children.len()) > MAX_PARTS {
            return Err(corrupt(format!("its DAG has more than {MAX_PARTS} parts")));
        }
        for place in places {
            let mut offset = place.offset + own;
            for child in children {
                let range = offset..offset + child.size;
                offset = range.end;
                if !range.is_empty() && !here(&range) {
                    self.add(child.cid, range, place.depth + 1);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, cid: Cid, range: Range<u64>, depth: usize) {
        self.offsets.entry(key(&cid)).or_default().push(range.start);
        self.new.insert(range.start);
        self.parts.insert(range.start, Part { cid, end: range.end, depth, stage: Stage::New });
    }

    /// Whether something in the ranges is not here.
    pub fn lacks_any(&self, ranges: &[Range<u64>]) -> bool {
        ranges.iter().any(|range| self.within(range).next().is_some())
    }

    /// The parts that overlap a range.
    fn within(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, &Part)> {
        let first = self.parts.range(..=range.start).next_back();
        let first =
            first.filter(|(_, part)| part.end > range.start).map_or(range.start, |(offset, _)| *offset);
        self.parts.range(first..range.end.max(first)).map(|(offset, part)| (*offset, part))
    }

    /// The parts in the ranges that nobody has searched the node directory for; they count as missing now.
    pub fn take_new(&mut self, ranges: &[Range<u64>], limit: usize) -> Vec<Cid> {
        let mut taken = Vec::new();
        for range in ranges {
            for offset in self.overlapping(&self.new, range).take(limit - taken.len()).collect::<Vec<_>>() {
                taken.extend(self.advance(offset, Stage::Missing).map(|(cid, _)| cid));
            }
        }
        taken
    }

    /// The parts in the ranges that are missing, with the length of their blocks where it is known; they count as
    /// wanted now. No more than `limit` are wanted at once.
    pub fn take_missing(&mut self, ranges: &[Range<u64>], limit: usize) -> Vec<(Cid, u64)> {
        let mut taken = Vec::new();
        for range in ranges {
            let room = limit.saturating_sub(self.wanted.len());
            for offset in self.overlapping(&self.missing, range).take(room).collect::<Vec<_>>() {
                if self.is_inner(offset) && self.wanted_inner >= MAX_INNER {
                    continue;
                }
                taken.extend(self.advance(offset, Stage::Wanted));
            }
        }
        taken.into_iter().map(|(cid, size)| (cid, if size > MAX_BLOCK { 0 } else { size })).collect()
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
        self.parts.get(&offset).is_some_and(|part| part.end - offset > MAX_BLOCK)
    }

    fn advance(&mut self, offset: u64, to: Stage) -> Option<(Cid, u64)> {
        self.leave_stage(offset);
        let part = self.parts.get_mut(&offset)?;
        part.stage = to;
        let (cid, size) = (part.cid, part.end - offset);
        match to {
            Stage::New => self.new.insert(offset),
            Stage::Missing => self.missing.insert(offset),
            Stage::Wanted => {
                self.wanted_inner += usize::from(size > MAX_BLOCK);
                self.wanted.insert(offset)
            }
        };
        Some((cid, size))
    }

    fn leave_stage(&mut self, offset: u64) {
        match self.parts.get(&offset).map(|part| part.stage) {
            Some(Stage::New) => self.new.remove(&offset),
            Some(Stage::Missing) => self.missing.remove(&offset),
            Some(Stage::Wanted) => {
                self.wanted_inner -= usize::from(self.is_inner(offset));
                self.wanted.remove(&offset)
            }
            None => false,
        };
    }

    /// What is wanted and in none of the ranges; it counts as missing again.
    pub fn take_surplus(&mut self, ranges: &[Range<u64>]) -> Vec<Cid> {
        let is_surplus = |offset: &u64| {
            let end = self.parts.get(offset).map_or(*offset, |part| part.end);
            !ranges.iter().any(|range| *offset < range.end && end > range.start)
        };
        let surplus: Vec<u64> = self.wanted.iter().copied().filter(is_surplus).collect();
        surplus.into_iter().filter_map(|offset| Some(self.advance(offset, Stage::Missing)?.0)).collect()
    }

    /// The part that covers an offset.
    pub fn at(&self, offset: u64) -> Option<Cid> {
        self.within(&(offset..offset + 1)).next().map(|(_, part)| part.cid)
    }

    /// Where a block belongs that came; its parts are here now.
    pub fn arrived(&mut self, cid: &Cid) -> Vec<Place> {
        let offsets = self.offsets.remove(&key(cid)).unwrap_or_default();
        let mut places = Vec::with_capacity(offsets.len());
        for offset in offsets {
            self.leave_stage(offset);
            let Some(part) = self.parts.remove(&offset) else { continue };
            places.push(Place { offset, length: part.end - offset, depth: part.depth });
        }
        places
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // Readers' ranges, of which there may be one.
mod tests {
    use multihash_codetable::{Code, MultihashDigest};

    use super::*;

    const MIB: u64 = 1 << 20;

    fn cid(n: u64) -> Cid {
        Cid::new_v1(0x55, Code::Sha2_256.digest(&n.to_be_bytes()))
    }

    fn nowhere(_: &Range<u64>) -> bool {
        false
    }

    const ROOT: Place = Place { offset: 0, length: u64::MAX, depth: 0 };

    /// Leaves of 1 MiB, numbered.
    fn tree(leaves: u64) -> Tree {
        let mut tree = Tree::default();
        let children: Vec<_> = (0..leaves).map(|n| Child { cid: cid(n), size: MIB }).collect();
        tree.expand(&cid(1000), &[ROOT], 0, &children, nowhere).unwrap();
        tree
    }

    fn cids(wanted: &[(Cid, u64)]) -> Vec<Cid> {
        wanted.iter().map(|(cid, _)| *cid).collect()
    }

    #[test]
    fn a_range_takes_the_parts_it_overlaps_and_no_other() {
        for (range, expected) in [
            (0..1, 0..1),
            (0..MIB, 0..1),
            (MIB - 1..MIB + 1, 0..2),
            (MIB..2 * MIB, 1..2),
            (3 * MIB + 5..3 * MIB + 70_000, 3..4),
            (0..8 * MIB, 0..8),
        ] {
            let mut tree = tree(8);
            let ranges = [range.clone()];
            let expected: Vec<Cid> = expected.map(cid).collect();
            assert_eq!(tree.take_new(&ranges, 100), expected, "{range:?}");
            assert_eq!(cids(&tree.take_missing(&ranges, 100)), expected, "{range:?}");
            assert_eq!(tree.take_missing(&ranges, 100), []);
        }
    }

    #[test]
    fn no_more_is_wanted_than_the_limit_and_more_when_something_came() {
        let (mut tree, whole) = (tree(8), [0..8 * MIB]);
        tree.take_new(&whole, 100);
        assert_eq!(cids(&tree.take_missing(&whole, 3)), [0, 1, 2].map(cid));
        assert_eq!(tree.arrived(&cid(1)), [Place { offset: MIB, length: MIB, depth: 1 }]);
        assert_eq!(tree.arrived(&cid(1)), []);
        assert_eq!(cids(&tree.take_missing(&whole, 3)), [cid(3)]);
    }

    #[test]
    fn what_only_a_reader_who_left_needed_is_surplus() {
        let mut tree = tree(8);
        let (both, one) = ([0..4 * MIB, 6 * MIB..8 * MIB], [MIB..2 * MIB]);
        tree.take_new(&both, 100);
        assert_eq!(tree.take_missing(&both, 100).len(), 6);
        assert_eq!(tree.take_surplus(&one), [0, 2, 3, 6, 7].map(cid));
        assert_eq!(cids(&tree.take_missing(&both, 100)), [0, 2, 3, 6, 7].map(cid));
    }

    #[test]
    fn an_inner_node_is_replaced_by_its_children_where_it_stood() {
        let mut tree = tree(0);
        let inner = [Child { cid: cid(50), size: 3 * MIB }, Child { cid: cid(51), size: 3 * MIB }];
        tree.expand(&cid(100), &[ROOT], 10, &inner, nowhere).unwrap();
        let whole = [0..6 * MIB + 10];
        tree.take_new(&whole, 100);
        assert_eq!(tree.take_missing(&whole, 100), [(cid(50), 0), (cid(51), 0)], "too long for a block");
        let place = tree.arrived(&cid(51))[0];
        assert_eq!(place, Place { offset: 3 * MIB + 10, length: 3 * MIB, depth: 1 });
        let leaves: Vec<_> = (0..3).map(|n| Child { cid: cid(n), size: MIB }).collect();
        tree.expand(&cid(51), &[place], 0, &leaves, |range| range.start == 4 * MIB + 10).unwrap();
        assert_eq!(tree.at(5 * MIB + 10), Some(cid(2)));
        assert_eq!(tree.at(4 * MIB + 10), None, "it is here already");
        assert_eq!(tree.at(0), None);
        assert_eq!(tree.at(11), Some(cid(50)));
    }

    #[test]
    fn one_block_may_be_many_parts() {
        let mut tree = Tree::default();
        let zeros = vec![Child { cid: cid(0), size: MIB }; 5];
        tree.expand(&cid(9), &[ROOT], 0, &zeros, nowhere).unwrap();
        let whole = [0..5 * MIB];
        tree.take_new(&whole, 10);
        tree.take_missing(&whole, 10);
        assert_eq!(tree.arrived(&cid(0)).len(), 5);
        assert!(!tree.lacks_any(&whole));
    }

    #[test]
    fn a_dag_that_is_too_deep_or_too_wide_is_refused() {
        let child = [Child { cid: cid(0), size: 1 }];
        let mut tree = Tree::default();
        let mut expand =
            |place: Place, children: &[Child]| tree.expand(&cid(1), &vec![place; 1000], 0, children, nowhere);
        assert!(expand(Place { depth: MAX_DEPTH, ..ROOT }, &child).is_ok());
        for (place, children) in [
            (Place { depth: MAX_DEPTH + 1, ..ROOT }, child.to_vec()),
            (ROOT, vec![child[0].clone(); MAX_PARTS / 1000 + 1]),
        ] {
            assert!(matches!(expand(place, &children), Err(Error::Corrupt { .. })));
        }
    }

    #[test]
    fn few_inner_nodes_are_wanted_at_once_and_leaves_behind_them_are() {
        let mut tree = Tree::default();
        let mut children: Vec<_> = (0..9).map(|n| Child { cid: cid(n), size: 3 * MIB }).collect();
        children.push(Child { cid: cid(9), size: MIB });
        tree.expand(&cid(100), &[ROOT], 0, &children, nowhere).unwrap();
        let whole = [0..28 * MIB];
        tree.take_new(&whole, 100);
        assert_eq!(cids(&tree.take_missing(&whole, 100)), [0, 1, 2, 3, 9].map(cid));
        tree.arrived(&cid(2));
        assert_eq!(cids(&tree.take_missing(&whole, 100)), [cid(4)]);
        assert_eq!(tree.take_surplus(&[0..MIB]), [1, 3, 4, 9].map(cid));
        assert_eq!(tree.wanted(), 1);
        assert_eq!(cids(&tree.take_missing(&[20 * MIB..28 * MIB], 3)), [6, 7].map(cid));
    }
}
