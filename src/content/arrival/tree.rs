//! What of a file's DAG is still to come: which parts, where they belong, and who reads where. It knows no peers.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use ocipfs_node::Cid;

use crate::content::{Error, dag::Child};

/// No peer sends a longer block, so a longer part is an inner node.
const MAX_BLOCK: u64 = 2 << 20;
const MAX_DEPTH: usize = 32;
/// Parts known at once; a file of 256 GiB in the smallest usual blocks has as many.
const MAX_PARTS: usize = 1 << 20;

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
    wanted: usize,
}

/// The one name of a block under both versions of its CID.
fn key(cid: &Cid) -> Cid {
    Cid::new_v1(cid.codec(), *cid.hash())
}

impl Tree {
    /// Takes up the children of a node whose children begin at `offset`, but for those that are `here`.
    pub fn expand(
        &mut self,
        node: &Cid,
        depth: usize,
        mut offset: u64,
        children: &[Child],
        here: impl Fn(&Range<u64>) -> bool,
    ) -> Result<(), Error> {
        let corrupt = |why: String| Error::Corrupt { cid: *node, why };
        if depth > MAX_DEPTH {
            return Err(corrupt(format!("its DAG is deeper than {MAX_DEPTH}")));
        }
        if self.parts.len() + children.len() > MAX_PARTS {
            return Err(corrupt(format!("its DAG has more than {MAX_PARTS} parts")));
        }
        for child in children {
            let range = offset..offset + child.size;
            offset = range.end;
            if range.is_empty() || here(&range) {
                continue;
            }
            self.offsets.entry(key(&child.cid)).or_default().push(range.start);
            let part = Part { cid: child.cid, end: range.end, depth: depth + 1, stage: Stage::New };
            self.parts.insert(range.start, part);
        }
        Ok(())
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
        self.advance(ranges, limit, Stage::New, Stage::Missing).into_iter().map(|(cid, _)| cid).collect()
    }

    /// The parts in the ranges that are missing, with the length of their blocks where it is known; they count as wanted now.
    pub fn take_missing(&mut self, ranges: &[Range<u64>], limit: usize) -> Vec<(Cid, u64)> {
        let limit = limit.saturating_sub(self.wanted);
        let taken = self.advance(ranges, limit, Stage::Missing, Stage::Wanted);
        self.wanted += taken.len();
        taken.into_iter().map(|(cid, size)| (cid, if size > MAX_BLOCK { 0 } else { size })).collect()
    }

    fn advance(&mut self, ranges: &[Range<u64>], limit: usize, from: Stage, to: Stage) -> Vec<(Cid, u64)> {
        let mut found: Vec<u64> = Vec::new();
        for range in ranges {
            let fits = self.within(range).filter(|(_, part)| part.stage == from);
            found.extend(fits.map(|(offset, _)| offset).take(limit.saturating_sub(found.len())));
        }
        found.dedup();
        let mut taken = Vec::with_capacity(found.len());
        for offset in found {
            if let Some(part) = self.parts.get_mut(&offset)
                && part.stage == from
            {
                part.stage = to;
                taken.push((part.cid, part.end - offset));
            }
        }
        taken
    }

    /// What is wanted and in none of the ranges; it counts as missing again.
    pub fn take_surplus(&mut self, ranges: &[Range<u64>]) -> Vec<Cid> {
        let mut surplus = Vec::new();
        for (offset, part) in &mut self.parts {
            let needed = ranges.iter().any(|range| *offset < range.end && part.end > range.start);
            if part.stage == Stage::Wanted && !needed {
                part.stage = Stage::Missing;
                surplus.push(part.cid);
            }
        }
        self.wanted -= surplus.len();
        surplus
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
            let Some(part) = self.parts.remove(&offset) else { continue };
            self.wanted -= usize::from(part.stage == Stage::Wanted);
            places.push(Place { offset, length: part.end - offset, depth: part.depth });
        }
        places
    }
}

#[cfg(test)]
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

    /// Leaves of 1 MiB, numbered.
    fn tree(leaves: u64) -> Tree {
        let mut tree = Tree::default();
        let children: Vec<_> = (0..leaves).map(|n| Child { cid: cid(n), size: MIB }).collect();
        tree.expand(&cid(1000), 0, 0, &children, nowhere).unwrap();
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
        tree.expand(&cid(100), 0, 10, &inner, nowhere).unwrap();
        let whole = [0..6 * MIB + 10];
        tree.take_new(&whole, 100);
        assert_eq!(tree.take_missing(&whole, 100), [(cid(50), 0), (cid(51), 0)], "too long for a block");
        let place = tree.arrived(&cid(51))[0];
        assert_eq!(place, Place { offset: 3 * MIB + 10, length: 3 * MIB, depth: 1 });
        let leaves: Vec<_> = (0..3).map(|n| Child { cid: cid(n), size: MIB }).collect();
        tree.expand(&cid(51), place.depth, place.offset, &leaves, |range| range.start == 4 * MIB + 10)
            .unwrap();
        assert_eq!(tree.at(5 * MIB + 10), Some(cid(2)));
        assert_eq!(tree.at(4 * MIB + 10), None, "it is here already");
        assert_eq!(tree.at(0), None);
        assert_eq!(tree.at(11), Some(cid(50)));
    }

    #[test]
    fn one_block_may_be_many_parts() {
        let mut tree = Tree::default();
        let zeros = vec![Child { cid: cid(0), size: MIB }; 5];
        tree.expand(&cid(9), 0, 0, &zeros, nowhere).unwrap();
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
        assert!(tree.expand(&cid(1), MAX_DEPTH, 0, &child, nowhere).is_ok());
        assert!(matches!(
            tree.expand(&cid(1), MAX_DEPTH + 1, 0, &child, nowhere),
            Err(Error::Corrupt { .. })
        ));
        let many = vec![child[0].clone(); MAX_PARTS];
        assert!(matches!(tree.expand(&cid(1), 0, 10, &many, nowhere), Err(Error::Corrupt { .. })));
    }
}
