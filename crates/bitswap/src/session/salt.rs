//! The order that only one session has.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};

/// A secret that gives each session an order of its own: several nodes that pull the same DAG get different blocks first,
/// and a peer cannot choose its position by its id.
#[derive(Clone, Copy, Debug)]
pub struct Salt(pub u64);

impl Default for Salt {
    fn default() -> Self {
        Self(RandomState::new().hash_one(()))
    }
}

impl Salt {
    /// Returns a hash that only this salt yields.
    pub fn hash_one(&self, value: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.0, value).hash(&mut hasher);
        hasher.finish()
    }
}
