//! Compaction of the index, once much of it was deleted.

use std::sync::atomic::Ordering;

use super::GarbageCollector;
use crate::content::{
    locked,
    store::{Error, Store},
};

impl GarbageCollector {
    /// Compacts the index if most of it is free pages. If that fails, as on a full disk, collected content is free all the
    /// same.
    pub(super) fn compact_index(&self, store: &Store) {
        // A collection reads for long, which would delay it.
        let _turn = locked(&self.turn);
        let compacted = store.compact_index().and_then(|_| store.index_rows());
        match compacted {
            Ok(rows) => self.most_rows.store(rows, Ordering::Relaxed),
            Err(error) => tracing::warn!("cannot compact the index: {error}"),
        }
    }

    /// Compacts the index if half of its rows were deleted since it was last measured: that reads all rows.
    pub(super) fn compact_if_emptied(&self, store: &Store) -> Result<(), Error> {
        let rows = store.index_rows()?;
        let most = self.most_rows.fetch_max(rows, Ordering::Relaxed).max(rows);
        if rows < most / 2 {
            self.compact_index(store);
        }
        Ok(())
    }
}
