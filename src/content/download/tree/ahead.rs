//! Inner nodes that no reader needs yet.
//!
//! Who reads a range of a file often reads another one next, as a lazy pull does, and would wait a round trip for the node there
//! before it could ask for a block. So the first node that is fetched for a range brings others with it.

use ocipfs_node::Cid;

use super::{DownloadTree, Position};
use crate::content::download::read_ranges::{ReadRanges, overlaps};

/// Nodes of one level of the DAG that come with the first one: with those of Kubo's defaults, 350 MiB of a file.
const MAX_AHEAD: usize = 8;

/// For which levels nodes were chosen.
#[derive(Debug, Default)]
pub struct Ahead {
    /// Where the first node of a level is fetched, for which none were chosen yet.
    begun: Option<u64>,
    /// How deep that is, or was the last time. Each level has its turn once: a file may have very many nodes.
    depth: usize,
}

impl DownloadTree {
    /// Notes that the node at an offset is fetched for a reader.
    pub(super) fn propose_ahead(&mut self, offset: u64) {
        let depth = self.parts.get(&offset).map_or(0, |part| part.place.depth);
        if depth > self.ahead.depth {
            self.ahead = Ahead { begun: Some(offset), depth };
        }
    }

    /// Chooses the nodes to fetch ahead, those first that follow the one that is fetched. They stay parts that were not looked
    /// for: a reader that needs one later looks for it as for any other.
    pub fn take_ahead(&mut self, interest: &ReadRanges) -> Vec<Cid> {
        let Some(from) = self.ahead.begun.take() else { return Vec::new() };
        let is_ahead = |place: &Position| {
            let is_outside = !overlaps(interest.ranges(), &place.covers);
            place.depth == self.ahead.depth && place.is_whole() && is_outside
        };
        let mut chosen = Vec::new();
        for offset in self.new.range(from..).chain(self.new.range(..from)) {
            let part = self.parts.get(offset).filter(|part| is_ahead(&part.place));
            if let Some(part) = part.filter(|part| self.is_inner(*offset) && !chosen.contains(&part.cid)) {
                chosen.push(part.cid);
            }
            if chosen.len() == MAX_AHEAD {
                break;
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use multihash_codetable::{Code, MultihashDigest};
    use ocipfs_unixfs::Child;

    use super::*;

    const NODE: u64 = 4 << 20;

    fn cid(n: u64) -> Cid {
        Cid::new_v1(0x70, Code::Sha2_256.digest(&n.to_be_bytes()))
    }

    fn needs(range: &Range<u64>) -> ReadRanges {
        ReadRanges::new(vec![range.clone()], Vec::new())
    }

    /// A file of these numbered inner nodes that is read at `range`, of which the first nodes are wanted.
    fn read(nodes: impl Iterator<Item = u64>, range: Range<u64>) -> (DownloadTree, ReadRanges, Vec<Cid>) {
        let (mut tree, interest) = (DownloadTree::default(), needs(&range));
        let children: Vec<_> = nodes.map(|n| Child { cid: cid(n), size: NODE }).collect();
        let root = Position::root(children.len() as u64 * NODE);
        tree.expand(&cid(1000), &[root], 0, &children, &interest, |_| false).unwrap();
        tree.take_new(&interest, 100);
        assert_eq!(tree.take_ahead(&interest), [], "nothing is fetched yet");
        let wanted = tree.take_missing(interest.ranges(), 100);
        (tree, interest, wanted.into_iter().map(|(cid, _)| cid).collect())
    }

    #[test]
    fn the_first_node_of_a_range_brings_those_that_follow_it_and_those_before() {
        let (mut tree, interest, wanted) = read(0..6, 3 * NODE + 5..3 * NODE + 9);
        assert_eq!(wanted, [cid(3)]);
        assert_eq!(tree.take_ahead(&interest), [4, 5, 0, 1, 2].map(cid));
        assert_eq!(tree.take_ahead(&interest), [], "once");
        let elsewhere = needs(&(0..1));
        assert_eq!(tree.take_new(&elsewhere, 9), [cid(0)], "a reader looks for it as for any other");
        assert_eq!(tree.take_missing(elsewhere.ranges(), 9), [(cid(0), 0)]);
        assert_eq!(tree.take_ahead(&elsewhere), [], "once for a level");
    }

    #[test]
    fn each_level_brings_few_nodes_each_once_and_none_where_all_of_it_is_read() {
        let (mut tree, interest, _) = read(0..60, 50 * NODE..50 * NODE + 1);
        assert_eq!(tree.take_ahead(&interest), [51, 52, 53, 54, 55, 56, 57, 58].map(cid));
        let places = tree.arrived(&cid(50));
        let children: Vec<_> = (100..102).map(|n| Child { cid: cid(n), size: NODE / 2 }).collect();
        tree.expand(&cid(50), &places, 0, &children, &interest, |_| false).unwrap();
        tree.take_new(&interest, 100);
        tree.take_missing(interest.ranges(), 100);
        assert_eq!(tree.take_ahead(&interest), [], "leaves are no nodes");
        let (mut tree, interest, _) = read([1, 2, 2, 3, 2].into_iter(), 0..1);
        assert_eq!(tree.take_ahead(&interest), [2, 3].map(cid));
        let (mut tree, interest, wanted) = read(0..6, 0..6 * NODE);
        assert_eq!(wanted, [0, 1, 2, 3].map(cid));
        assert_eq!(tree.take_ahead(&interest), []);
    }
}
