//! The nodes by which two versions of a DAG differ.

use std::collections::HashMap;

use ocipfs_block::{Block, Cid};

/// Returns the nodes of `after` that are new at their places, and those of `before` that have left theirs: a node that is in
/// both cancels out as often as it is in both.
pub(super) fn replaced(before: Vec<Cid>, mut after: Vec<Block>) -> (Vec<Block>, Vec<Cid>) {
    let mut counts: HashMap<Cid, usize> = HashMap::new();
    for cid in before {
        *counts.entry(cid).or_default() += 1;
    }
    after.retain(|block| match counts.get_mut(&block.cid) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    });
    let removed = counts.into_iter().flat_map(|(cid, count)| std::iter::repeat_n(cid, count));
    (after, removed.collect())
}
