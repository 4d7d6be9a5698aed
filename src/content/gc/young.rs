//! Loose blocks that a client stored a short while ago: the background collection spares them, since a client may store the
//! blocks of a DAG first and pin its root at the end.
//!
//! They are known by 64 bits of a keyed hash, in two generations: a block is young for one to two times [`LIFETIME`]. Another
//! block with the same bits is spared too, which does no harm.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    mem,
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::content::{locked, store::graph::BlockKey};

/// How long a block is young at least. A client may take that long between the first block of a DAG and its pin.
pub const LIFETIME: Duration = Duration::from_secs(60 * 60);
/// Blocks of one generation, which take 2.3 MB. Beyond it every block counts as young.
const MAX_BLOCKS: usize = 200_000;

/// The young blocks of a store.
pub struct YoungBlocks {
    hasher: RandomState,
    generations: Mutex<Generations>,
}

struct Generations {
    since: Instant,
    newer: Generation,
    older: Generation,
    /// A block was spared since the generations changed.
    has_spared: bool,
    /// Blocks that were spared may have ceased to be young.
    is_due: bool,
}

#[derive(Default)]
struct Generation {
    blocks: HashSet<u64>,
    /// More blocks came than it has room for.
    is_full: bool,
}

impl Default for YoungBlocks {
    fn default() -> Self {
        let (newer, older) = Default::default();
        let generations =
            Generations { since: Instant::now(), newer, older, has_spared: false, is_due: false };
        Self { hasher: RandomState::new(), generations: Mutex::new(generations) }
    }
}

impl YoungBlocks {
    /// Records that a client stored these blocks at this moment.
    pub fn note(&self, keys: impl IntoIterator<Item = BlockKey>, now: Instant) {
        let mut generations = locked(&self.generations);
        generations.age(now);
        for key in keys {
            generations.newer.insert(self.hasher.hash_one(&key));
        }
    }

    /// Whether a block is young at this moment, and is spared.
    pub fn spares(&self, key: &BlockKey, now: Instant) -> bool {
        let mut generations = locked(&self.generations);
        generations.age(now);
        let hash = self.hasher.hash_one(key);
        let is_young = generations.newer.has(hash) || generations.older.has(hash);
        generations.has_spared |= is_young;
        is_young
    }

    /// Whether blocks that were spared may not be young any more; says so once.
    pub fn take_due(&self, now: Instant) -> bool {
        let mut generations = locked(&self.generations);
        generations.age(now);
        mem::take(&mut generations.is_due)
    }
}

impl Generations {
    fn age(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age < LIFETIME {
            return;
        }
        self.since = now;
        self.is_due |= mem::take(&mut self.has_spared);
        self.older = mem::take(&mut self.newer);
        if age >= 2 * LIFETIME {
            self.older = Generation::default();
        }
    }
}

impl Generation {
    fn has(&self, hash: u64) -> bool {
        self.is_full || self.blocks.contains(&hash)
    }

    fn insert(&mut self, hash: u64) {
        if self.blocks.len() < MAX_BLOCKS {
            self.blocks.insert(hash);
        } else if !self.blocks.contains(&hash) {
            self.is_full = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use multihash_codetable::{Code, MultihashDigest};
    use ocipfs_node::Cid;

    use super::*;

    fn key(n: usize) -> BlockKey {
        BlockKey::of(&Cid::new_v1(0x55, Code::Sha2_256.digest(&n.to_le_bytes())))
    }

    #[test]
    fn a_block_is_young_for_its_lifetime_and_again_when_it_is_stored_again() {
        let (young, start) = (YoungBlocks::default(), Instant::now());
        young.note([key(1), key(2)], start);
        assert!(young.spares(&key(1), start) && !young.spares(&key(3), start));
        let later = start + LIFETIME + Duration::from_secs(1);
        young.note([key(2)], later);
        assert!(young.spares(&key(1), later));
        let later = later + LIFETIME;
        assert!(!young.spares(&key(1), later) && young.spares(&key(2), later));
        assert!(!young.spares(&key(2), later + 3 * LIFETIME));
        assert!(young.take_due(later + 3 * LIFETIME) && !young.take_due(later + 3 * LIFETIME));
    }

    #[test]
    fn all_blocks_are_young_while_there_are_more_than_are_remembered() {
        let (young, start) = (YoungBlocks::default(), Instant::now());
        young.note((0..MAX_BLOCKS).map(key), start);
        assert!(!young.spares(&key(MAX_BLOCKS), start));
        young.note([key(MAX_BLOCKS)], start);
        assert!(young.spares(&key(MAX_BLOCKS + 1), start));
        assert!(!young.spares(&key(MAX_BLOCKS + 1), start + 2 * LIFETIME));
    }
}
