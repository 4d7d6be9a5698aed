//! Garbage collection: evicts cached content when space is needed, and collects unreferenced content.
//!
//! ```text
//! holders ─► Marks (mark)   ─┬─► kept: stays
//!                            ├─► pulled, then followed: goes by last use above --cache-size or --max-size
//!                            └─► neither: loose blocks go first; `collect` takes all of it
//! ```
//!
//! Nothing stands still for it. A guard is open while it works: what is put or found meanwhile is left alone, and
//! whether a root is held is asked again in the transaction that removes it. Every call blocks.

mod collected;
mod gc_task;
mod mark;
mod marks;
mod released;
mod requests;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ocipfs_node::Cid;
use tokio::sync::Notify;

use super::{
    download::Downloads,
    locked,
    store::index::{RetentionClass, evict_root, is_unreferenced, releases},
    store::{
        Error, Store,
        graph::{StoredItem, item},
    },
};
pub use collected::Collected;
pub use gc_task::run;
pub use mark::Usage;
use mark::{MarkTotals, Marked};
use marks::{Evictable, Marks};

/// Removed in one commit.
const BATCH_SIZE: usize = 128;
/// So much of a limit is freed beyond what is needed, so that not every file that comes has to look for room.
const SLACK_DIVISOR: u64 = 16;

/// Files that come only to be cached take this part of what is free on the disk.
const FREE_SPACE_DIVISOR: u64 = 2;
/// Nothing was counted yet.
const UNKNOWN: u64 = u64::MAX;

/// The garbage collector of one store.
pub struct GarbageCollector {
    cache_size: Option<u64>,
    max_size: Option<u64>,
    downloads: Arc<Downloads>,
    /// Bytes that a holder keeps, as they were last counted.
    kept: AtomicU64,
    /// The last sums, when they were taken, and how long that took.
    counted: Mutex<Option<(MarkTotals, Instant, Duration)>>,
    /// Set when too little could be evicted: the number of releases, and the bytes that cannot be evicted.
    exhausted: Mutex<Option<(u64, u64)>>,
    /// Held by the one that is removing.
    turn: Mutex<()>,
    /// Roots that went and are still announced.
    withdrawn: Mutex<Vec<Cid>>,
    wants_collection: AtomicBool,
    /// Roots were released since the last collection.
    has_freed: AtomicBool,
    /// Releases content of the layers above.
    when_full: OnceLock<WhenFull>,
    wake: Notify,
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
            wants_collection: AtomicBool::default(),
            // Of the process before.
            has_freed: AtomicBool::new(true),
            when_full: OnceLock::new(),
            wake: Notify::default(),
            #[cfg(test)]
            marks_taken: AtomicU64::default(),
        }
    }

    /// Whether a file that comes, and was begun, may be kept beside the others that come: others go for it as its bytes
    /// come, since its size is only a claim.
    pub fn admits(&self, store: &Store) -> Result<bool, Error> {
        let (claimed, missing) = store.claimed_bytes();
        Ok(self.cache_size.is_none_or(|limit| claimed <= limit)
            && self.has_room(store, missing)?
            && missing <= store.free_bytes()? / FREE_SPACE_DIVISOR)
    }

    /// Whether content that is to be kept is admitted: it does not count as cached, and may use the whole
    /// disk.
    pub fn admits_kept(&self, store: &Store) -> Result<bool, Error> {
        self.has_room(store, store.claimed_bytes().1)
    }

    /// Whether so many bytes more have room within `--max-size`, be it that others go for them.
    fn has_room(&self, store: &Store, missing: u64) -> Result<bool, Error> {
        let Some(max) = self.max_size else { return Ok(true) };
        let over = store.used_bytes()?.saturating_add(missing).saturating_sub(max);
        if over == 0 {
            return Ok(true);
        }
        if self.is_exhausted(store, over)? {
            return Ok(false);
        }
        let counted = self.mark_all(store)?.counted;
        if counted.removable() < over {
            self.remember_exhausted(store, &counted)?;
        }
        Ok(counted.removable() >= over)
    }

    /// Whether a file of this size has room within the limits, were all else that is not kept evicted.
    pub fn fits(&self, store: &Store, size: u64) -> Result<bool, Error> {
        let is_cached = self.cache_size.is_none_or(|limit| size <= limit);
        let Some(limit) = self.max_size else { return Ok(is_cached) };
        Ok(is_cached && self.kept(store)?.saturating_add(size) <= limit)
    }

    /// Bytes that a holder keeps, as they were last counted.
    fn kept(&self, store: &Store) -> Result<u64, Error> {
        if self.kept.load(Ordering::Relaxed) == UNKNOWN {
            self.mark_all(store)?;
        }
        Ok(self.kept.load(Ordering::Relaxed))
    }

    /// Evicts cached content for `more` bytes that are about to be stored, if they exceed a limit.
    pub fn evict_for(&self, store: &Store, more: u64) -> Result<(), Error> {
        match self.over_with(store, more)? {
            0 => Ok(()),
            over => self.evict(store, over, more),
        }
    }

    /// By how many bytes a limit is passed, as far as is known without counting.
    pub fn over(&self, store: &Store) -> Result<u64, Error> {
        self.over_with(store, 0)
    }

    /// By how many bytes a limit is passed once `more` bytes are stored; these do not count towards
    /// `--cache-size` yet.
    fn over_with(&self, store: &Store, more: u64) -> Result<u64, Error> {
        if self.cache_size.is_none() && self.max_size.is_none() {
            return Ok(0);
        }
        let used = store.used_bytes()?;
        let over = self.max_size.map_or(0, |limit| used.saturating_add(more).saturating_sub(limit));
        let Some(limit) = self.cache_size else { return Ok(over) };
        let pulled = used.saturating_sub(store.draft_bytes() + self.kept(store)?);
        Ok(over.max(pulled.saturating_sub(limit)))
    }

    /// Evicts at least `over` bytes of cached content, the least recently used first; nothing if that is not
    /// enough. They count with the `more` bytes that are about to be stored.
    pub fn evict(&self, store: &Store, over: u64, more: u64) -> Result<(), Error> {
        let _turn = locked(&self.turn);
        // Content that the layers above released a moment ago is not known to be evictable yet.
        if self.is_exhausted(store, over)? && self.release_more(store, over, more)? == 0 {
            return Ok(());
        }
        let _guard = store.gc_guard();
        store.save_uses()?;
        let mut marked = self.mark_all(store)?;
        // Others may have made room, and only now it is known what is kept.
        let over = self.over_with(store, more)?.min(over);
        let removable = marked.counted.removable();
        if over > removable && self.release_more(store, over - removable, more)? > 0 {
            marked = self.mark_all(store)?;
        }
        let Marked { marks, counted } = marked;
        let enough = over + self.slack_missing(&counted.usage, over);
        if counted.removable() < over {
            return self.remember_exhausted(store, &counted);
        }
        if enough == 0 {
            return Ok(());
        }
        let mut freed = self.remove_loose(store, &marks)?.bytes;
        marks.for_each_evictable(|evictable| {
            if freed < enough && self.evict_one(store, evictable, &marks)? {
                freed += evictable.bytes;
            }
            Ok(freed < enough)
        })?;
        self.forget_counted();
        tracing::debug!(over, freed, "evicted cached content");
        Ok(())
    }

    /// Returns how many bytes to free beyond `over`, so that the next mark phase is due only after as many
    /// more are stored.
    fn slack_missing(&self, usage: &Usage, over: u64) -> u64 {
        let slack = self.cache_size.or(self.max_size).unwrap_or(0) / SLACK_DIVISOR;
        let spare =
            self.cache_size.map_or(u64::MAX, |limit| limit.saturating_sub(usage.cached + usage.followed));
        if over > 0 { slack } else { slack.saturating_sub(spare) }
    }

    /// Whether so much cannot be freed, as far as is known without counting: only what is released can be evicted that
    /// could not before, and what came since.
    fn is_exhausted(&self, store: &Store, over: u64) -> Result<bool, Error> {
        let Some((known, fixed)) = *locked(&self.exhausted) else { return Ok(false) };
        let stored = store.used_bytes()?.saturating_sub(store.draft_bytes());
        Ok(store.database().read(releases)? == known && stored.saturating_sub(fixed) < over)
    }

    fn remember_exhausted(&self, store: &Store, counted: &MarkTotals) -> Result<(), Error> {
        let stored = store.used_bytes()?.saturating_sub(store.draft_bytes());
        let fixed = stored.saturating_sub(counted.evictable + counted.loose + counted.coming);
        *locked(&self.exhausted) = Some((counted.releases, fixed));
        Ok(())
    }

    /// Removes pulled or followed content, unless another holder keeps it by now.
    fn evict_one(&self, store: &Store, evictable: Evictable, marks: &Marks) -> Result<bool, Error> {
        let Some(item) = store.database().read(|read| item(read, evictable.id))? else { return Ok(false) };
        let (mut given, mut free) = (Vec::new(), Vec::new());
        let mut evict_root = |write: &redb::WriteTransaction, root: &Cid| {
            let freed = evict_root(write, root, &item.hashes)?;
            let is_given = freed.is_some();
            given.extend(is_given.then_some(*root));
            free.extend(freed.into_iter().flatten());
            Ok(is_given)
        };
        let went = match (item.is_stored(), item.layouts.first()) {
            (true, _) => store.remove_layouts(&item.roots(), evict_root)?.len() == item.layouts.len(),
            (false, Some((root, id))) => store.remove_partial(root, *id, |write| evict_root(write, root))?,
            (false, None) => false,
        };
        for root in free {
            let class = marks.class(&root)?;
            if !class.contains(RetentionClass::KEPT) && !class.contains(RetentionClass::FOLLOWED) {
                given.push(root);
            }
        }
        self.remove_free(store, &given)?;
        Ok(went)
    }

    /// Removes roots without a holder, files or blocks, and stops announcing them. Returns the files that went.
    fn remove_free(&self, store: &Store, roots: &[Cid]) -> Result<Vec<Cid>, Error> {
        let mut files = Vec::new();
        for roots in roots.chunks(BATCH_SIZE) {
            files.extend(store.remove_layouts(roots, is_unreferenced)?);
            store.remove_blocks(roots, is_unreferenced)?;
        }
        if !roots.is_empty() {
            locked(&self.withdrawn).extend(roots);
            self.wake.notify_one();
        }
        Ok(files)
    }

    /// Removes released roots, except content that other roots reach.
    pub fn release(&self, store: &Store, roots: &[Cid]) -> Result<(), Error> {
        let _turn = locked(&self.turn);
        let _guard = store.gc_guard();
        let marks = self.mark_all(store)?.marks;
        let mut free = Vec::new();
        for root in roots {
            if marks.class(root)? == RetentionClass::default() {
                free.push(*root);
            }
        }
        self.remove_free(store, &free)?;
        self.forget_counted();
        self.collect_later();
        Ok(())
    }

    /// Removes everything that is unreachable and not in use; `dry` only counts it.
    pub fn collect(&self, store: &Store, dry: bool) -> Result<Collected, Error> {
        self.collect_older(store, dry, None)
    }

    /// Collects like [`Self::collect`]; with `before`, files used since then and partial blobs stay.
    fn collect_older(&self, store: &Store, dry: bool, before: Option<u64>) -> Result<Collected, Error> {
        let _turn = locked(&self.turn);
        let _guard = store.gc_guard();
        store.save_uses()?;
        let Marked { marks, counted } = self.mark_all(store)?;
        let mut collected = match dry {
            true => Collected::of_blocks(counted.loose_blocks, counted.loose),
            false => self.remove_loose(store, &marks)?,
        };
        let mut lot = Vec::new();
        marks.for_each_evictable(|evictable| {
            let is_due = before.is_none_or(|before| evictable.is_stored && evictable.used < before);
            if evictable.is_held || !is_due {
                if !evictable.is_held && evictable.is_stored {
                    self.collect_later();
                }
                return Ok(true);
            }
            lot.push(evictable);
            if lot.len() == BATCH_SIZE {
                collected = collected + self.collect_lot(store, std::mem::take(&mut lot), dry)?;
            }
            Ok(true)
        })?;
        collected = collected + self.collect_lot(store, lot, dry)?;
        // What is kept is known better now.
        if !dry {
            self.mark_all(store)?;
        }
        Ok(collected)
    }

    fn collect_lot(&self, store: &Store, lot: Vec<Evictable>, dry: bool) -> Result<Collected, Error> {
        if dry {
            return Ok(Collected::of_files(lot.iter()));
        }
        let items: Vec<StoredItem> = store.database().read(|read| {
            let found = lot.iter().map(|evictable| item(read, evictable.id));
            found.filter_map(Result::transpose).collect()
        })?;
        let gone = self.remove_unheld(store, &items)?;
        Ok(Collected::of_files(lot.iter().filter(|evictable| gone.contains(&evictable.id))))
    }

    /// Removes files that nothing holds; the ids of the first layouts of those that went whole.
    fn remove_unheld(&self, store: &Store, items: &[StoredItem]) -> Result<HashSet<u64>, Error> {
        let roots: Vec<Cid> =
            items.iter().filter(|item| item.is_stored()).flat_map(|item| item.roots()).collect();
        let mut gone: HashSet<Cid> = store.remove_layouts(&roots, is_unreferenced)?.into_iter().collect();
        for item in items.iter().filter(|item| !item.is_stored()) {
            for (root, id) in &item.layouts {
                if store.remove_partial(root, *id, |write| is_unreferenced(write, root))? {
                    gone.insert(*root);
                }
            }
        }
        let went = |item: &&StoredItem| item.layouts.iter().all(|(root, _)| gone.contains(root));
        Ok(items.iter().filter(went).filter_map(|item| item.layouts.first().map(|(_, id)| *id)).collect())
    }

    fn remove_loose(&self, store: &Store, marks: &Marks) -> Result<Collected, Error> {
        let mut removed = Collected::default();
        marks.for_each_loose(BATCH_SIZE, |blocks| {
            let cids: Vec<Cid> = blocks.iter().map(|(cid, _)| *cid).collect();
            let gone: HashSet<Cid> = store.remove_blocks(&cids, is_unreferenced)?.into_iter().collect();
            let gone = blocks.iter().filter(|(cid, _)| gone.contains(cid));
            removed = gone.fold(removed, |sum, (_, bytes)| sum + Collected::of_blocks(1, *bytes));
            Ok(())
        })?;
        Ok(removed)
    }

    /// Schedules a collection of unreferenced content in the background.
    pub fn collect_later(&self) {
        self.wants_collection.store(true, Ordering::Relaxed);
    }
}
