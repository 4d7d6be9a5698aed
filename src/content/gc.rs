//! Garbage collection: evicts cached content when space is needed, and collects unreferenced content.
//!
//! ```text
//! GC roots ─► mark ─► marks ─┬─► kept: stays
//!                            ├─► cached, then followed: `evict` deletes it by last use, above --cache-size or --max-size
//!                            └─► unreferenced: `evict` deletes loose blocks first; `collect` deletes all of it
//! ```
//!
//! Nothing stands still for it. A GC guard is open while it works: content that is stored or found meanwhile is left alone,
//! and whether a root is referenced is checked again in the transaction that deletes it. Every call blocks.

mod collect;
mod compact;
mod evict;
mod gc_task;
mod mark;
mod marks;
mod released;
#[cfg(test)]
mod tests;
mod totals;
mod young;

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ocipfs_node::Cid;
use tokio::sync::Notify;

use super::{
    Content, Error as ContentError,
    download::Downloads,
    store::{Error, graph::BlockKey},
};
pub use collect::{CollectStep, Collected};
pub use gc_task::run;
use mark::MarkTotals;
pub use mark::Usage;
use totals::GcCounters;
pub use totals::GcTotals;
use young::YoungBlocks;

/// Nothing was counted yet.
const UNKNOWN: u64 = u64::MAX;

/// The garbage collector of one store.
pub struct GarbageCollector {
    cache_size: Option<u64>,
    max_size: Option<u64>,
    downloads: Arc<Downloads>,
    /// Bytes of kept content, as of the last mark phase.
    kept: AtomicU64,
    /// The last sums, when they were taken, and how long that took.
    counted: Mutex<Option<(MarkTotals, Instant, Duration)>>,
    /// Set when too little could be evicted: the number of releases, and the bytes that cannot be evicted.
    exhausted: Mutex<Option<(u64, u64)>>,
    /// Held by the one that is removing.
    turn: Mutex<()>,
    /// Roots that went and are still announced.
    withdrawn: Mutex<Vec<Cid>>,
    wants_full_collection: AtomicBool,
    /// The most rows that the index had since its size was last compared with them.
    most_rows: AtomicU64,
    /// Roots were released since the last collection.
    has_released: AtomicBool,
    /// Blocks that the background collection spares.
    young: YoungBlocks,
    /// Releases content of the layers above.
    when_full: OnceLock<WhenFull>,
    wake: Notify,
    counters: GcCounters,
    /// How often everything was counted.
    #[cfg(test)]
    marks_taken: AtomicU64,
}

/// Releases at least so many bytes if it can, and returns how many are unreferenced now.
pub type WhenFull = Box<dyn Fn(u64) -> Result<u64, Error> + Send + Sync>;

impl GarbageCollector {
    pub fn new(cache_size: Option<u64>, max_size: Option<u64>, downloads: Arc<Downloads>) -> Self {
        Self {
            cache_size,
            max_size,
            downloads,
            kept: AtomicU64::new(UNKNOWN),
            counted: Mutex::default(),
            exhausted: Mutex::default(),
            turn: Mutex::default(),
            withdrawn: Mutex::default(),
            wants_full_collection: AtomicBool::default(),
            most_rows: AtomicU64::default(),
            // Of the process before.
            has_released: AtomicBool::new(true),
            young: YoungBlocks::default(),
            when_full: OnceLock::new(),
            wake: Notify::default(),
            counters: GcCounters::default(),
            #[cfg(test)]
            marks_taken: AtomicU64::default(),
        }
    }

    /// Has the background collection spare these blocks, which a client stores without a pin and may pin later.
    pub fn spare_blocks<'a>(&self, cids: impl IntoIterator<Item = &'a Cid>) {
        self.young.note(cids.into_iter().map(BlockKey::of), Instant::now());
    }

    /// Has unreferenced content collected within minutes.
    fn collect_unreferenced_later(&self) {
        self.wants_full_collection.store(true, Ordering::Relaxed);
    }

    /// Has released roots collected within seconds.
    fn collect_released_soon(&self) {
        self.has_released.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }
}

impl Content {
    /// Removes released roots now, unless other roots reach them.
    pub(super) async fn withdraw_and_collect(&self, roots: Vec<Cid>) -> Result<(), ContentError> {
        for root in &roots {
            self.0.node.withdraw(*root).await;
        }
        let gc = self.0.gc.clone();
        Ok(self.0.store.run(move |store| gc.collect_roots_now(store, &roots)).await?)
    }

    /// Removes everything that is unreachable and not in use; `dry` only counts it.
    pub async fn collect(&self, dry: bool) -> Result<Collected, ContentError> {
        self.collect_with(dry, |_| {}).await
    }

    /// Does the same as [`Self::collect`]; `progress` is told how far it is.
    pub async fn collect_with(
        &self,
        dry: bool,
        mut progress: impl FnMut(CollectStep) + Send + 'static,
    ) -> Result<Collected, ContentError> {
        let gc = self.0.gc.clone();
        Ok(self.0.store.run(move |store| gc.collect_with(store, dry, &mut progress)).await?)
    }

    /// Collects released roots within seconds, in the background.
    pub fn collect_released_soon(&self) {
        self.0.gc.collect_released_soon();
    }

    /// Collects unreferenced content within minutes, in the background.
    pub fn collect_unreferenced_later(&self) {
        self.0.gc.collect_unreferenced_later();
    }

    /// How the room on the disk is used; where counting takes long, as it was a short while ago.
    pub async fn usage(&self) -> Result<Usage, ContentError> {
        let gc = self.0.gc.clone();
        Ok(self.0.store.run(move |store| gc.usage(store)).await?)
    }

    /// What garbage collection did since the start.
    pub fn gc_totals(&self) -> GcTotals {
        self.0.gc.counters.totals()
    }

    /// Returns `--cache-size` and `--max-size`, in bytes.
    pub fn limits(&self) -> (Option<u64>, Option<u64>) {
        (self.0.settings.cache_size, self.0.settings.max_size)
    }

    /// Removes released roots now.
    pub async fn collect_released(&self) -> Result<Collected, ContentError> {
        let gc = self.0.gc.clone();
        Ok(self.0.store.run(move |store| gc.collect_released(store)).await?)
    }

    /// Sets what releases content when `--max-size` is reached and what can be evicted is not enough. Set once.
    pub fn when_full(&self, release_more: WhenFull) {
        let _ = self.0.gc.when_full.set(release_more);
    }
}
