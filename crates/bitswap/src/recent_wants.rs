//! The wants that a peer had until recently, so that a late block does not count as unrequested.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

use crate::Cid;

/// The latest wants, at least as many as one generation holds. They are kept as hashes with a secret seed: a CID is ten
/// times as long, and there may be a thousand peers. A generation is dropped as a whole, which costs nothing per block.
#[derive(Default)]
pub struct RecentWants {
    seed: RandomState,
    generations: [HashSet<u64>; 2],
}

impl RecentWants {
    /// Adds a want; at least the last `limit` wants are remembered.
    pub fn add(&mut self, want: &Cid, limit: usize) {
        if self.generations[0].len() >= limit {
            self.generations[1] = std::mem::take(&mut self.generations[0]);
        }
        self.generations[0].insert(self.seed.hash_one(want));
    }

    /// Returns whether a want is remembered.
    pub fn contains(&self, want: &Cid) -> bool {
        let hash = self.seed.hash_one(want);
        self.generations.iter().any(|generation| generation.contains(&hash))
    }
}

#[cfg(test)]
mod tests {
    use multihash_codetable::{Code, MultihashDigest};

    use super::*;

    #[test]
    fn the_latest_wants_are_remembered_and_old_ones_forgotten() {
        let cid = |n: u32| Cid::new_v1(0x55, Code::Sha2_256.digest(&n.to_be_bytes()));
        let mut recent = RecentWants::default();
        (0..1000).for_each(|n| recent.add(&cid(n), 100));
        assert!((900..1000).all(|n| recent.contains(&cid(n))));
        assert!((0..800).all(|n| !recent.contains(&cid(n))));
    }
}
