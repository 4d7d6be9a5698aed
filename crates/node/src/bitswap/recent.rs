//! The wants that a peer had until a moment ago, so that a block which was on its way is not taken for one that nobody
//! asked for.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

use crate::Cid;

/// The latest wants, at least so many as a lot holds. They are kept as hashes with a secret seed: a CID is ten times
/// as long, and there may be a thousand peers. The older lot is forgotten at once, which costs nothing at each block.
#[derive(Default)]
pub struct Recent {
    seed: RandomState,
    lots: [HashSet<u64>; 2],
}

impl Recent {
    /// Adds a want; `lot` is how many are certainly remembered.
    pub fn add(&mut self, want: &Cid, lot: usize) {
        if self.lots[0].len() >= lot {
            self.lots[1] = std::mem::take(&mut self.lots[0]);
        }
        self.lots[0].insert(self.seed.hash_one(want));
    }

    /// Returns whether a want is remembered.
    pub fn contains(&self, want: &Cid) -> bool {
        let hash = self.seed.hash_one(want);
        self.lots.iter().any(|lot| lot.contains(&hash))
    }
}

#[cfg(test)]
mod tests {
    use multihash_codetable::{Code, MultihashDigest};

    use super::*;

    #[test]
    fn the_latest_wants_of_a_peer_are_remembered_and_old_ones_forgotten() {
        let cid = |n: u32| Cid::new_v1(0x55, Code::Sha2_256.digest(&n.to_be_bytes()));
        let mut recent = Recent::default();
        (0..1000).for_each(|n| recent.add(&cid(n), 100));
        assert!((900..1000).all(|n| recent.contains(&cid(n))));
        assert!((0..800).all(|n| !recent.contains(&cid(n))));
    }
}
