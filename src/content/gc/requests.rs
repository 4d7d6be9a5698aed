//! Requests to content about space: garbage collection, usage and limits.

use ocipfs_node::Cid;

use super::{Collected, Usage};
use crate::content::{Content, Error};

impl Content {
    /// Removes roots without a holder, unless other roots reach them.
    pub(in crate::content) async fn remove_free(&self, roots: Vec<Cid>) -> Result<(), Error> {
        for root in &roots {
            self.0.node.withdraw(*root).await;
        }
        let gc = self.0.gc.clone();
        Ok(self.0.store.run(move |store| gc.release(store, &roots)).await?)
    }

    /// Removes everything that is unreachable and not in use; `dry` only counts it.
    pub async fn collect(&self, dry: bool) -> Result<Collected, Error> {
        let gc = self.0.gc.clone();
        Ok(self.0.store.run(move |store| gc.collect(store, dry)).await?)
    }

    /// Collects released roots within seconds, in the background.
    pub fn collect_later(&self) {
        self.0.gc.freed();
    }

    /// Collects what no holder leads to any more within minutes, in the background.
    pub fn collect_unreachable_later(&self) {
        self.0.gc.collect_later();
    }

    /// How the room on the disk is used; where counting takes long, as it was a short while ago.
    pub async fn usage(&self) -> Result<Usage, Error> {
        let gc = self.0.gc.clone();
        Ok(self.0.store.run(move |store| gc.usage(store)).await?)
    }

    /// Returns `--cache-size` and `--max-size`, in bytes.
    pub fn limits(&self) -> (Option<u64>, Option<u64>) {
        (self.0.settings.cache_size, self.0.settings.max_size)
    }
}
