//! Inner nodes that no reader needs yet.
//!
//! Who reads a range of a file often reads another one next, as a lazy pull does, and would wait a round trip for the node there
//! before it could ask for a block. So the first node that is fetched for a range brings others with it, which are small.

use std::collections::BTreeSet;

use ocipfs_node::Cid;

use super::{DownloadTree, PartState, Position};
use crate::content::download::read_ranges::{ReadRanges, overlaps};

/// Nodes fetched with the first one: with those of Kubo's defaults, which have 8 KiB each, 700 MiB of a file.
const MAX_AHEAD: usize = 16;

/// Which nodes are fetched ahead of readers.
#[derive(Debug, Default)]
pub struct NodesAhead {
    state: State,
    offsets: BTreeSet<u64>,
}

#[derive(Debug, Default)]
enum State {
    /// No node was fetched.
    #[default]
    Idle,
    /// One was, at this offset.
    Begun(u64),
    /// Others were chosen. That happens once: a file may have very many nodes.
    Chosen,
}

impl NodesAhead {
    /// A node at this offset is fetched for a reader.
    pub fn begin(&mut self, offset: u64) {
        if matches!(self.state, State::Idle) {
            self.state = State::Begun(offset);
        }
    }

    /// Whether the node at an offset was chosen, and is not here.
    pub fn has(&self, offset: u64) -> bool {
        self.offsets.contains(&offset)
    }

    /// The part at an offset is here, or is folded into another: its offset is that of others from now on.
    pub fn remove(&mut self, offset: u64) {
        self.offsets.remove(&offset);
    }
}

impl DownloadTree {
    /// Chooses the nodes to fetch ahead, those first that follow the one that is fetched, once there is one. The node directory
    /// is to be searched for them; they count as missing now.
    pub fn take_new_ahead(&mut self, interest: &ReadRanges) -> Vec<Cid> {
        let State::Begun(from) = self.ahead.state else { return Vec::new() };
        self.ahead.state = State::Chosen;
        if !self.has_room() {
            return Vec::new();
        }
        let is_ahead = |offset: &u64| {
            let place = self.parts.get(offset).map(|part| &part.place);
            let is_outside = |place: &Position| !overlaps(interest.ranges(), &place.covers);
            self.is_inner(*offset) && place.is_some_and(|place| place.is_whole() && is_outside(place))
        };
        let offsets = self.new.range(from..).chain(self.new.range(..from)).copied();
        self.ahead.offsets = offsets.filter(is_ahead).take(MAX_AHEAD).collect();
        let chosen = self.ahead.offsets.clone();
        chosen.into_iter().filter_map(|offset| Some(self.advance(offset, PartState::Missing)?.0)).collect()
    }

    /// The nodes ahead that are not here; they count as wanted now.
    pub fn take_missing_ahead(&mut self) -> Vec<(Cid, u64)> {
        let missing: Vec<u64> = self.ahead.offsets.intersection(&self.missing).copied().collect();
        let wanted = missing.into_iter().filter_map(|offset| self.advance(offset, PartState::Wanted));
        // The length of the file below a node says nothing about the node's own.
        wanted.map(|(cid, _)| (cid, 0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use multihash_codetable::{Code, MultihashDigest};
    use ocipfs_unixfs::Child;

    use super::*;

    const NODE: u64 = 4 << 20;

    fn cid(n: u64) -> Cid {
        Cid::new_v1(0x70, Code::Sha2_256.digest(&n.to_be_bytes()))
    }

    /// A file of so many numbered inner nodes, read at these ranges, of which the first nodes are wanted.
    fn read(nodes: u64, ranges: &[std::ops::Range<u64>]) -> (DownloadTree, ReadRanges, Vec<Cid>) {
        let (mut tree, interest) = (DownloadTree::default(), ReadRanges::new(ranges.to_vec(), Vec::new()));
        let children: Vec<_> = (0..nodes).map(|n| Child { cid: cid(n), size: NODE }).collect();
        let root = Position::root(nodes * NODE);
        tree.expand(&cid(1000), &[root], 0, &children, &interest, |_| false).unwrap();
        tree.take_new(&interest, 100);
        assert_eq!(tree.take_new_ahead(&interest), [], "nothing is fetched yet");
        let wanted = tree.take_missing(interest.ranges(), 100);
        (tree, interest, wanted.into_iter().map(|(cid, _)| cid).collect())
    }

    #[test]
    fn the_first_node_of_a_range_brings_those_that_follow_it_and_those_before() {
        let here = 3 * NODE + 5..3 * NODE + 9;
        let (mut tree, interest, wanted) = read(6, std::slice::from_ref(&here));
        assert_eq!(wanted, [cid(3)]);
        assert_eq!(tree.take_new_ahead(&interest), [4, 5, 0, 1, 2].map(cid));
        assert_eq!(tree.take_new_ahead(&interest), [], "once");
        // Found in the node directory.
        let places = tree.arrived(&cid(0));
        let leaves: Vec<_> = (50..54).map(|n| Child { cid: cid(n), size: 1 << 20 }).collect();
        tree.expand(&cid(0), &places, 0, &leaves, &interest, |_| false).unwrap();
        assert_eq!(
            tree.take_missing_ahead(),
            [1, 2, 4, 5].map(|n| (cid(n), 0)),
            "the others come from peers"
        );
        assert_eq!(tree.take_missing_ahead(), []);
        assert_eq!(tree.take_surplus(std::slice::from_ref(&here)), [], "a reader that moves cancels none");
        assert_eq!(tree.take_new(&ReadRanges::new(vec![0..1], Vec::new()), 9), [cid(50)]);
        assert_eq!(tree.take_missing_ahead(), [], "a leaf is none of them, where its node was one");
    }

    #[test]
    fn few_nodes_come_ahead_in_a_large_file_and_none_where_all_of_it_is_read() {
        let (mut tree, interest, _) = read(60, &[50 * NODE..50 * NODE + 1]);
        let expected: Vec<_> = (51..60).chain(0..7).map(cid).collect();
        assert_eq!(tree.take_new_ahead(&interest), expected);
        let (mut tree, interest, wanted) = read(6, &[0..6 * NODE]);
        assert_eq!(wanted, [0, 1, 2, 3].map(cid));
        assert_eq!(tree.take_new_ahead(&interest), []);
        assert_eq!(tree.take_missing_ahead(), []);
    }
}
