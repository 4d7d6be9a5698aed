//! Blocks that are written and not yet in the index: they can be served, but are not durable.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use super::{
    Origin,
    layout::{BlockKey, BlockPlace},
    source::OpenBytes,
};

/// A block between its writing and the next checkpoint.
#[derive(Clone)]
pub struct PendingBlock {
    pub owner: u64,
    pub place: BlockPlace,
    pub source: OpenBytes,
    pub origin: Origin,
}

/// Those of every arriving file; where two have the same block, the later one shows.
#[derive(Default)]
pub struct Pending(RwLock<HashMap<BlockKey, PendingBlock>>);

impl Pending {
    pub fn get(&self, key: &BlockKey) -> Option<PendingBlock> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    pub fn insert(&self, key: BlockKey, waiting: PendingBlock) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(key, waiting);
    }

    /// Forgets blocks of `owner`.
    pub fn forget<'a>(&self, owner: u64, keys: impl Iterator<Item = &'a BlockKey>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            if all.get(key).is_some_and(|waiting| waiting.owner == owner) {
                all.remove(key);
            }
        }
    }
}
