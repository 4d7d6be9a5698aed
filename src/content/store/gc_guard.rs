//! Guards against garbage collection: what is stored or found while a guard is open is not removed.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Mutex,
};

use super::{
    Store,
    layout::{BlobLayout, BlockKey},
    lock,
};

/// Number of entries beyond which those without a guard are cleared.
const CLEAR_THRESHOLD: usize = 1024;

#[derive(Default)]
pub struct GuardedBlocks(Mutex<GuardState>);

#[derive(Default)]
struct GuardState {
    clock: u64,
    /// When each of the open guards began.
    guards: BTreeSet<u64>,
    /// When each block was touched last.
    blocks: HashMap<BlockKey, u64>,
    /// How many there were when they were cleared away last.
    cleared: usize,
}

/// Protects content that is stored or found while it lives from garbage collection.
pub struct GcGuard {
    store: Store,
    began: u64,
}

impl Store {
    /// Opens a guard.
    pub fn gc_guard(&self) -> GcGuard {
        let mut state = lock(&self.0.guarded.0);
        state.clock += 1;
        let began = state.clock;
        state.guards.insert(began);
        GcGuard { store: self.clone(), began }
    }

    /// Marks these blocks as in use.
    pub fn guard_keys(&self, keys: impl IntoIterator<Item = BlockKey>) {
        let mut state = lock(&self.0.guarded.0);
        if state.guards.is_empty() {
            return;
        }
        let now = state.clock;
        state.blocks.extend(keys.into_iter().map(|key| (key, now)));
        state.clear();
    }

    pub(super) fn guard_layouts(&self, layouts: &[BlobLayout]) {
        self.guard_keys(layouts.iter().map(|layout| BlockKey::of(&layout.root)));
    }

    /// Whether a block may be in use. Call it within the transaction that removes the block.
    pub(super) fn is_guarded(&self, key: &BlockKey) -> bool {
        let state = lock(&self.0.guarded.0);
        let oldest = state.guards.first();
        state.blocks.get(key).is_some_and(|when| oldest.is_some_and(|oldest| when >= oldest))
    }
}

impl GuardState {
    fn clear(&mut self) {
        if self.blocks.len() < 2 * self.cleared + CLEAR_THRESHOLD {
            return;
        }
        let oldest = self.guards.first().copied().unwrap_or(u64::MAX);
        self.blocks.retain(|_, when| *when >= oldest);
        self.cleared = self.blocks.len();
    }
}

impl Drop for GcGuard {
    fn drop(&mut self) {
        let mut state = lock(&self.store.0.guarded.0);
        state.guards.remove(&self.began);
        if state.guards.is_empty() {
            (state.blocks, state.cleared) = Default::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use multihash_codetable::{Code, MultihashDigest};
    use ocipfs_node::Cid;

    use super::*;

    #[test]
    fn gc_guard_protects_blocks_touched_while_it_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let [one, two] = [1, 2].map(|n| BlockKey::of(&Cid::new_v1(0x55, Code::Sha2_256.digest(&[n]))));
        store.guard_keys([one.clone()]);
        let first = store.gc_guard();
        assert!(!store.is_guarded(&one), "it was touched before");
        store.guard_keys([one.clone()]);
        let second = store.gc_guard();
        store.guard_keys([two.clone()]);
        assert!(store.is_guarded(&one) && store.is_guarded(&two));
        drop(first);
        assert!(!store.is_guarded(&one) && store.is_guarded(&two));
        drop(second);
        assert!(!store.is_guarded(&two));
    }
}
