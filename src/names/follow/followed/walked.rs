//! How far the walk of a root is, for those that wait for it.

use std::sync::Arc;

use crate::images::layout::FetchCount;

/// Counts of one walk. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct WalkCounts(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    repositories: FetchCount,
    bytes: FetchCount,
    directories: FetchCount,
}

impl WalkCounts {
    /// Repositories that changed.
    pub fn repositories(&self) -> &FetchCount {
        &self.0.repositories
    }

    /// Bytes of their blobs, as far as manifests were read.
    pub fn bytes(&self) -> &FetchCount {
        &self.0.bytes
    }

    /// Directories that were read: what moves before it is known what changed.
    pub fn directories(&self) -> &FetchCount {
        &self.0.directories
    }

    /// Returns whether these are the counts of the same walk.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
