// Readers need ranges, and a test often has one reader.
#![allow(clippy::single_range_in_vec_init)]
use multihash_codetable::{Code, MultihashDigest};

use super::*;

const MIB: u64 = 1 << 20;

fn cid(n: u64) -> Cid {
    Cid::new_v1(0x55, Code::Sha2_256.digest(&n.to_be_bytes()))
}

fn nowhere(_: &Range<u64>) -> bool {
    false
}

fn needs(ranges: &[Range<u64>]) -> ReadRanges {
    ReadRanges::new(ranges.to_vec(), Vec::new())
}

/// A place deep in no file.
fn root() -> Position {
    Position::root(u64::MAX)
}

/// Leaves of 1 MiB, numbered.
fn tree(leaves: u64) -> DownloadTree {
    let mut tree = DownloadTree::default();
    let children: Vec<_> = (0..leaves).map(|n| Child { cid: cid(n), size: MIB }).collect();
    tree.expand(&cid(1000), &[root()], 0, &children, &ReadRanges::default(), nowhere).unwrap();
    tree
}

/// Whether something that is needed is not here.
fn lacks_any(tree: &DownloadTree, interest: &ReadRanges) -> bool {
    interest.ranges().iter().any(|range| tree.within(range).next().is_some())
}

fn cids(wanted: &[(Cid, u64)]) -> Vec<Cid> {
    wanted.iter().map(|(cid, _)| *cid).collect()
}

fn spans(places: &[Position]) -> Vec<(u64, u64, usize)> {
    places.iter().map(|place| (place.offset, place.length, place.depth)).collect()
}

#[test]
fn a_range_wants_only_the_parts_it_overlaps() {
    for (range, expected) in [
        (0..1, 0..1),
        (0..MIB, 0..1),
        (MIB - 1..MIB + 1, 0..2),
        (MIB..2 * MIB, 1..2),
        (3 * MIB + 5..3 * MIB + 70_000, 3..4),
        (0..8 * MIB, 0..8),
    ] {
        let mut tree = tree(8);
        let interest = needs(std::slice::from_ref(&range));
        let expected: Vec<Cid> = expected.map(cid).collect();
        assert_eq!(tree.take_new(&interest, 100), expected, "{range:?}");
        assert_eq!(cids(&tree.take_missing(interest.ranges(), 100)), expected, "{range:?}");
        assert_eq!(tree.take_missing(interest.ranges(), 100), []);
    }
}

#[test]
fn wants_are_limited_and_refilled_when_blocks_arrive() {
    let (mut tree, whole) = (tree(8), needs(&[0..8 * MIB]));
    tree.take_new(&whole, 100);
    assert_eq!(cids(&tree.take_missing(whole.ranges(), 3)), [0, 1, 2].map(cid));
    assert_eq!(spans(&tree.arrived(&cid(1))), [(MIB, MIB, 1)]);
    assert!(tree.arrived(&cid(1)).is_empty());
    assert_eq!(cids(&tree.take_missing(whole.ranges(), 3)), [cid(3)]);
}

#[test]
fn wants_of_a_dropped_reader_are_surplus() {
    let mut tree = tree(8);
    let (both, one) = (needs(&[0..4 * MIB, 6 * MIB..8 * MIB]), needs(&[MIB..2 * MIB]));
    tree.take_new(&both, 100);
    assert_eq!(tree.take_missing(both.ranges(), 100).len(), 6);
    assert_eq!(tree.take_surplus(one.ranges()), [0, 2, 3, 6, 7].map(cid));
    assert_eq!(cids(&tree.take_missing(both.ranges(), 100)), [0, 2, 3, 6, 7].map(cid));
}

#[test]
fn a_block_that_is_wanted_in_another_place_is_no_surplus() {
    let mut tree = DownloadTree::default();
    let zeros: Vec<_> = (0..3).map(|_| Child { cid: cid(0), size: MIB }).collect();
    let (first, second) = (needs(&[0..1]), needs(&[2 * MIB..2 * MIB + 1]));
    tree.expand(&cid(100), &[root()], 0, &zeros, &ReadRanges::default(), nowhere).unwrap();
    for interest in [&first, &second] {
        tree.take_new(interest, 9);
        assert_eq!(cids(&tree.take_missing(interest.ranges(), 9)), [cid(0)]);
    }
    assert_eq!(tree.take_surplus(second.ranges()), [], "its other reader waits for it");
    assert_eq!(tree.take_surplus(&[]), [cid(0)]);
}

#[test]
fn urgent_blocks_are_wanted_first() {
    let mut tree = tree(8);
    let interest = ReadRanges::new(vec![0..8 * MIB], vec![5 * MIB..5 * MIB + 1]);
    assert_eq!(tree.take_new(&interest, 3), [5, 0, 1].map(cid));
    assert_eq!(cids(&tree.take_missing(interest.ranges(), 2)), [0, 1].map(cid));
    assert_eq!(tree.wanted_at(5 * MIB), None);
    assert_eq!(cids(&tree.take_urgent(interest.urgent(), 3)), [cid(5)]);
    assert_eq!(tree.wanted_at(5 * MIB), Some(cid(5)));
}

#[test]
fn an_inner_node_is_replaced_by_its_children_at_its_position() {
    let mut tree = tree(0);
    let inner = [Child { cid: cid(50), size: 3 * MIB }, Child { cid: cid(51), size: 3 * MIB }];
    let whole = needs(&[0..6 * MIB + 10]);
    tree.expand(&cid(100), &[root()], 10, &inner, &whole, nowhere).unwrap();
    tree.take_new(&whole, 100);
    assert_eq!(tree.take_missing(whole.ranges(), 100), [(cid(50), 0), (cid(51), 0)], "too long for a block");
    let places = tree.arrived(&cid(51));
    assert_eq!(spans(&places), [(3 * MIB + 10, 3 * MIB, 1)]);
    let leaves: Vec<_> = (0..3).map(|n| Child { cid: cid(n), size: MIB }).collect();
    tree.expand(&cid(51), &places, 0, &leaves, &whole, |range| range.start == 4 * MIB + 10).unwrap();
    let at = |offset: u64| tree.within(&(offset..offset + 1)).next().map(|(_, part)| part.cid);
    assert_eq!(at(5 * MIB + 10), Some(cid(2)));
    assert_eq!(at(4 * MIB + 10), None, "it is here already");
    assert_eq!(at(0), None);
    assert_eq!(at(11), Some(cid(50)));
}

#[test]
fn a_repeated_block_fills_all_its_parts() {
    let mut tree = DownloadTree::default();
    let zeros = vec![Child { cid: cid(0), size: MIB }; 5];
    let whole = needs(&[0..5 * MIB]);
    tree.expand(&cid(9), &[root()], 0, &zeros, &whole, nowhere).unwrap();
    tree.take_new(&whole, 10);
    tree.take_missing(whole.ranges(), 10);
    assert_eq!(tree.arrived(&cid(0)).len(), 5);
    assert!(!lacks_any(&tree, &whole));
}

#[test]
fn a_dag_beyond_the_maximum_depth_is_rejected() {
    let child = [Child { cid: cid(0), size: 1 }];
    for (depth, is_fine) in [(MAX_DEPTH, true), (MAX_DEPTH + 1, false)] {
        let place = Position { depth, ..root() };
        let expanded =
            DownloadTree::default().expand(&cid(1), &[place], 0, &child, &ReadRanges::default(), nowhere);
        assert_eq!(expanded.is_ok(), is_fine, "{expanded:?}");
    }
}

#[test]
fn wants_for_inner_nodes_are_limited_and_later_leaves_are_wanted() {
    let mut tree = DownloadTree::default();
    let mut children: Vec<_> = (0..9).map(|n| Child { cid: cid(n), size: 3 * MIB }).collect();
    children.push(Child { cid: cid(9), size: MIB });
    let whole = needs(&[0..28 * MIB]);
    tree.expand(&cid(100), &[root()], 0, &children, &whole, nowhere).unwrap();
    assert_eq!(tree.take_new(&whole, 100), [0, 1, 2, 3, 9].map(cid), "few are searched for, too");
    while !tree.take_new(&whole, 100).is_empty() {}
    assert_eq!(cids(&tree.take_missing(whole.ranges(), 100)), [0, 1, 2, 3, 9].map(cid));
    tree.arrived(&cid(2));
    assert_eq!(cids(&tree.take_missing(whole.ranges(), 100)), [cid(4)]);
    assert_eq!(tree.take_surplus(&[0..MIB]), [1, 3, 4, 9].map(cid));
    assert_eq!(tree.wanted(), 1);
    assert_eq!(cids(&tree.take_missing(&[20 * MIB..28 * MIB], 3)), [6, 7].map(cid));
}

/// A DAG of leaves of 1 MiB, of which no two are equal unless it is a file of zeros.
struct Dag {
    nodes: HashMap<Cid, Vec<Child>>,
    root: Cid,
    size: u64,
}

impl Dag {
    /// A root of `nodes` inner nodes of `leaves` each.
    fn new(nodes: u64, leaves: u64, zeros: bool) -> Self {
        let leaf = |n: u64| Child { cid: cid(if zeros { 0 } else { n }), size: MIB };
        let mut dag = Self { nodes: HashMap::new(), root: cid(u64::MAX), size: nodes * leaves * MIB };
        let mut top = Vec::new();
        for n in 0..nodes {
            let node = Child { cid: cid(u64::MAX - 1 - if zeros { 0 } else { n }), size: leaves * MIB };
            dag.nodes.insert(node.cid, (n * leaves..(n + 1) * leaves).map(leaf).collect());
            top.push(node);
        }
        dag.nodes.insert(dag.root, top);
        dag
    }
}

/// A file whose inner nodes are in the node directory once they came, as the task fetches it.
struct Fetch<'a> {
    dag: &'a Dag,
    tree: DownloadTree,
    known: BTreeSet<Vec<u8>>,
    here: BTreeSet<u64>,
    most: usize,
    blocks: usize,
}

impl<'a> Fetch<'a> {
    fn new(dag: &'a Dag) -> Self {
        let tree = DownloadTree::default();
        let mut fetch = Self { dag, tree, known: BTreeSet::new(), here: BTreeSet::new(), most: 0, blocks: 0 };
        let whole = needs(&[0..dag.size]);
        fetch.known.insert(dag.root.to_bytes());
        fetch.receive(&dag.root, vec![Position::root(dag.size)], &whole);
        fetch
    }

    fn receive(&mut self, block: &Cid, places: Vec<Position>, interest: &ReadRanges) {
        let Some(children) = self.dag.nodes.get(block) else {
            for place in places {
                assert_eq!(place.length, MIB);
                assert!(self.here.insert(place.offset), "it came twice: {place:?}");
            }
            return;
        };
        let here = &self.here;
        let is_here =
            |range: &Range<u64>| here.range(range.clone()).count() as u64 * MIB == range.end - range.start;
        self.tree.expand(block, &places, 0, children, interest, is_here).unwrap();
        self.most = self.most.max(self.tree.parts.len());
    }

    /// Fetches until nothing is lacking, or so many blocks came.
    fn run(&mut self, interest: &ReadRanges, blocks: usize) {
        for _ in 0..blocks {
            self.search(interest);
            if !lacks_any(&self.tree, interest) {
                return;
            }
            let first = self.tree.wanted.first().expect("something is wanted while something is lacking");
            let first = self.tree.parts[first].cid;
            let places = self.tree.arrived(&first);
            self.known.insert(first.to_bytes());
            self.blocks += 1;
            self.receive(&first, places, interest);
        }
    }

    fn search(&mut self, interest: &ReadRanges) {
        loop {
            self.tree.fold_if_full(interest);
            self.tree.take_urgent(interest.urgent(), 2112);
            self.tree.take_missing(interest.ranges(), 2048);
            if self.tree.wanted() >= 2048 {
                return;
            }
            let new = self.tree.take_new(interest, 1024);
            if new.is_empty() {
                return;
            }
            for cid in new {
                if self.known.contains(&cid.to_bytes()) {
                    let places = self.tree.arrived(&cid);
                    self.receive(&cid, places, interest);
                }
            }
        }
    }
}

#[test]
fn sparse_reads_and_a_whole_read_of_a_large_file_stay_within_max_parts() {
    let dag = Dag::new(100, 1024, false);
    let mut fetch = Fetch::new(&dag);
    let mut ranges = vec![0..1];
    // Readers that overlap in time, one in each inner node.
    for n in 0..100 {
        let offset = (n * 1024 + 7 * n) * MIB + 5;
        ranges.push(offset..offset + 3 * MIB);
        fetch.run(&ReadRanges::new(ranges.clone(), vec![offset..offset + 1]), 10);
    }
    let sparse = fetch.here.len();
    assert!((300..=401).contains(&sparse), "{sparse} leaves came");
    assert!(fetch.most <= MAX_PARTS + MAX_EXPANDED, "{} parts", fetch.most);
    fetch.run(&needs(&[0..dag.size]), usize::MAX);
    assert_eq!(fetch.here.len() as u64 * MIB, dag.size);
    assert!(fetch.most <= MAX_PARTS + MAX_EXPANDED, "{} parts", fetch.most);
    assert_eq!(fetch.blocks, 100 * 1024 + 100, "each block came once");
}

#[test]
fn a_whole_read_with_all_inner_nodes_stored_stays_within_max_parts() {
    let dag = Dag::new(100, 1024, false);
    let mut fetch = Fetch::new(&dag);
    fetch.known.extend(dag.nodes.keys().map(Cid::to_bytes));
    fetch.run(&needs(&[0..dag.size]), usize::MAX);
    assert_eq!(fetch.here.len() as u64 * MIB, dag.size);
    assert!(fetch.most <= MAX_PARTS + MAX_EXPANDED, "{} parts", fetch.most);
}

#[test]
fn a_file_of_more_equal_blocks_than_max_parts_is_read() {
    let dag = Dag::new(98, 1024, true);
    let mut fetch = Fetch::new(&dag);
    // As the store has the one leaf once it came, it is found for all others.
    fetch.known.insert(cid(0).to_bytes());
    fetch.run(&needs(&[0..dag.size]), usize::MAX);
    assert_eq!(fetch.here.len() as u64 * MIB, dag.size);
    assert!(fetch.most <= MAX_PARTS + MAX_EXPANDED, "{} parts", fetch.most);
}

#[test]
fn a_node_with_very_many_children_is_expanded_at_the_read_position() {
    let dag = Dag::new(1, 80_000, false);
    let mut fetch = Fetch::new(&dag);
    let offset = 70_000 * MIB;
    fetch.run(&ReadRanges::new(vec![0..dag.size], vec![offset..offset + 1]), 3);
    assert!(fetch.tree.wanted_at(offset).is_some() || fetch.here.contains(&offset));
    fetch.run(&needs(&[0..dag.size]), usize::MAX);
    assert_eq!(fetch.here.len(), 80_000);
    assert!(fetch.most <= MAX_PARTS + MAX_EXPANDED, "{} parts", fetch.most);
}
