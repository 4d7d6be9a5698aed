//! Room on the disk: what was only pulled goes when others need its place, and what nobody keeps is collected.
//!
//! ```text
//! holders ─► Reached (census) ─┬─► kept: stays
//!                              ├─► pulled: goes by last use above --cache-size or --max-size
//!                              └─► neither: loose blocks go first; `collect` takes all of it
//! ```
//!
//! Nothing stands still for it. A guard is open while it works: what is put or found meanwhile is left alone, and
//! whether a root is held is asked again in the transaction that removes it. Every call blocks.

mod ask;
mod census;
mod freed;
mod keeper;
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
    arrival::Arrivals,
    index::{give_up, is_free},
    locked,
    store::{
        Error, Store,
        census::{Item, Loose, Reached},
    },
};
use census::Taken;
pub use census::Usage;
pub use keeper::run as keep;

/// Removed in one commit.
const AT_ONCE: usize = 128;
/// So much of a limit is freed beyond what is needed, so that not every file that comes has to look for room.
const SLACK: u64 = 16;

/// What decides about room, for one store.
pub struct Space {
    cache_size: Option<u64>,
    max_size: Option<u64>,
    arrivals: Arc<Arrivals>,
    /// Bytes that somebody keeps, as they were last counted.
    kept: AtomicU64,
    /// What was counted last, when, and how long that took.
    counted: Mutex<Option<(Usage, Instant, Duration)>>,
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
}

/// Releases at least so many bytes if it can, and returns how many are unreferenced now.
pub type WhenFull = Box<dyn Fn(u64) -> Result<u64, Error> + Send + Sync>;

/// What was collected, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Stored blobs.
    pub blobs: u64,
    /// Files that had come in part.
    pub partial: u64,
    /// Blocks that were no part of a file.
    pub blocks: u64,
    /// The bytes of all of them.
    pub bytes: u64,
}

impl Space {
    pub fn new(cache_size: Option<u64>, max_size: Option<u64>, arrivals: Arc<Arrivals>) -> Self {
        Self {
            cache_size,
            max_size,
            arrivals,
            kept: AtomicU64::default(),
            counted: Mutex::default(),
            turn: Mutex::default(),
            withdrawn: Mutex::default(),
            wants_collection: AtomicBool::default(),
            // Of the process before.
            has_freed: AtomicBool::new(true),
            when_full: OnceLock::new(),
            wake: Notify::default(),
        }
    }

    /// Whether a file of this size, whose room is reserved, may be kept, be it that others go for it.
    pub fn admits(&self, store: &Store, size: u64) -> Result<bool, Error> {
        let least = [self.cache_size, self.max_size].into_iter().flatten().min();
        match (least, self.over(store)?) {
            (_, 0) => return Ok(true),
            (Some(limit), _) if size > limit => return Ok(false),
            _ if self.max_size.is_some_and(|max| self.kept.load(Ordering::Relaxed) + size > max) => {
                return Ok(false);
            }
            (_, over) => self.make_room(store, over)?,
        }
        Ok(self.over(store)? == 0)
    }

    /// By how many bytes a limit is passed, as far as is known without counting.
    pub fn over(&self, store: &Store) -> Result<u64, Error> {
        if self.cache_size.is_none() && self.max_size.is_none() {
            return Ok(0);
        }
        let used = store.used_bytes()?;
        let pulled = used.saturating_sub(store.draft_bytes() + self.kept.load(Ordering::Relaxed));
        let over = |limit: Option<u64>, bytes: u64| limit.map_or(0, |limit| bytes.saturating_sub(limit));
        Ok(over(self.max_size, used).max(over(self.cache_size, pulled)))
    }

    /// Frees at least `over` bytes of what was only pulled, what was used least lately first; nothing if that is not
    /// enough.
    pub fn make_room(&self, store: &Store, over: u64) -> Result<(), Error> {
        let _turn = locked(&self.turn);
        let _guard = store.guard();
        store.save_uses()?;
        let mut census = self.census(store)?;
        // Others may have made room, and only now it is known what is kept.
        let over = self.over(store)?.min(over);
        if over > census.removable() && self.let_go(store, over - census.removable())? > 0 {
            census = self.census(store)?;
        }
        if over == 0 || census.removable() < over {
            return Ok(());
        }
        let slack = self.cache_size.or(self.max_size).unwrap_or(0) / SLACK;
        let mut freed = self.remove_loose(store, &census.loose)?.bytes;
        // What nothing holds goes before what somebody pulled.
        census.pulled.sort_by_key(|Taken { item, is_held }| {
            (*is_held, item.used, item.layouts.first().map(|first| first.1))
        });
        for Taken { item, .. } in &census.pulled {
            if freed >= over + slack {
                break;
            }
            if self.evict(store, item, &census.kept)? {
                freed += item.bytes;
            }
        }
        tracing::debug!(over, freed, "room was made");
        Ok(())
    }

    /// Removes what was only pulled, unless somebody keeps it by now.
    fn evict(&self, store: &Store, item: &Item, kept: &Reached) -> Result<bool, Error> {
        let mut gone = Vec::new();
        let mut give_up = |write: &redb::WriteTransaction, root: &Cid| {
            let given = give_up(write, root, &item.hashes)?;
            let is_given = given.is_some();
            gone.extend(given.into_iter().flatten().chain(is_given.then_some(*root)));
            Ok(is_given)
        };
        let went = match (item.is_stored(), item.layouts.first()) {
            (true, _) => store.remove_layouts(&item.roots(), give_up)?.len() == item.layouts.len(),
            (false, Some((root, id))) => store.remove_arriving(root, *id, |write| give_up(write, root))?,
            (false, None) => false,
        };
        gone.retain(|root| !kept.contains(root));
        self.remove_free(store, &gone)?;
        Ok(went)
    }

    /// Removes roots that nobody holds, be they files or blocks, and announces them no more. The files that went.
    fn remove_free(&self, store: &Store, roots: &[Cid]) -> Result<Vec<Cid>, Error> {
        let files = store.remove_layouts(roots, is_free)?;
        store.remove_blocks(roots, is_free)?;
        if !roots.is_empty() {
            locked(&self.withdrawn).extend(roots);
            self.wake.notify_one();
        }
        Ok(files)
    }

    /// Removes what was held until now, but for what others lead to.
    pub fn release(&self, store: &Store, roots: &[Cid]) -> Result<(), Error> {
        let _turn = locked(&self.turn);
        let _guard = store.guard();
        let census = self.census(store)?;
        let free: Vec<Cid> = roots.iter().filter(|root| !census.held.contains(root)).copied().collect();
        self.remove_free(store, &free)?;
        self.collect_later();
        Ok(())
    }

    /// Removes everything that no holder leads to and nobody is at; `dry` only counts it.
    pub fn collect(&self, store: &Store, dry: bool) -> Result<Collected, Error> {
        self.collect_older(store, dry, None)
    }

    /// The same; where a time is given, files that were used since stay, and those that came in part.
    fn collect_older(&self, store: &Store, dry: bool, before: Option<u64>) -> Result<Collected, Error> {
        let _turn = locked(&self.turn);
        let _guard = store.guard();
        store.save_uses()?;
        let census = self.census(store)?;
        let is_due = |item: &Item| before.is_none_or(|before| item.is_stored() && item.used < before);
        let unheld = census.pulled.iter().filter(|taken| !taken.is_held).map(|taken| &taken.item);
        let (due, young): (Vec<&Item>, Vec<&Item>) = unheld.partition(|item| is_due(item));
        if young.iter().any(|item| item.is_stored()) {
            self.collect_later();
        }
        if dry {
            return Ok(Collected::of_items(&due) + Collected::of_blocks(&census.loose));
        }
        let mut collected = self.remove_loose(store, &census.loose)?;
        for items in due.chunks(AT_ONCE) {
            collected = collected + self.remove_unheld(store, items)?;
        }
        // What is kept is known better now.
        self.census(store)?;
        Ok(collected)
    }

    fn remove_unheld(&self, store: &Store, items: &[&Item]) -> Result<Collected, Error> {
        let roots: Vec<Cid> =
            items.iter().filter(|item| item.is_stored()).flat_map(|item| item.roots()).collect();
        let mut gone: HashSet<Cid> = store.remove_layouts(&roots, is_free)?.into_iter().collect();
        for item in items.iter().filter(|item| !item.is_stored()) {
            for (root, id) in &item.layouts {
                if store.remove_arriving(root, *id, |write| is_free(write, root))? {
                    gone.insert(*root);
                }
            }
        }
        let removed: Vec<&Item> = items.iter().copied().filter(|item| item.is_among(&gone)).collect();
        Ok(Collected::of_items(&removed))
    }

    fn remove_loose(&self, store: &Store, loose: &[Loose]) -> Result<Collected, Error> {
        let mut removed = Collected::default();
        for blocks in loose.chunks(AT_ONCE) {
            let cids = blocks.iter().map(|block| block.key.cid()).collect::<Result<Vec<_>, _>>()?;
            let gone: HashSet<Cid> = store.remove_blocks(&cids, is_free)?.into_iter().collect();
            let blocks: Vec<Loose> = blocks
                .iter()
                .zip(&cids)
                .filter(|(_, cid)| gone.contains(cid))
                .map(|(block, _)| block.clone())
                .collect();
            removed = removed + Collected::of_blocks(&blocks);
        }
        Ok(removed)
    }

    /// Has what nobody keeps collected soon, in the background.
    pub fn collect_later(&self) {
        self.wants_collection.store(true, Ordering::Relaxed);
    }
}

impl Collected {
    fn of_blocks(loose: &[Loose]) -> Self {
        let bytes = loose.iter().map(|block| block.bytes).sum();
        Self { blocks: loose.len() as u64, bytes, ..Self::default() }
    }

    fn of_items(items: &[&Item]) -> Self {
        let blobs = items.iter().filter(|item| item.is_stored()).count() as u64;
        let bytes = items.iter().map(|item| item.bytes).sum();
        Self { blobs, partial: items.len() as u64 - blobs, bytes, blocks: 0 }
    }
}

impl std::ops::Add for Collected {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            blobs: self.blobs + other.blobs,
            partial: self.partial + other.partial,
            blocks: self.blocks + other.blocks,
            bytes: self.bytes + other.bytes,
        }
    }
}
