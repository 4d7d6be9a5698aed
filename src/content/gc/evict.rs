//! Eviction: deletes cached content, the least recently used first, when space is needed.

use std::sync::{Arc, atomic::Ordering};

use ocipfs_node::Cid;

use super::{
    GarbageCollector, UNKNOWN, Usage,
    mark::{MarkTotals, Marked},
    marks::{Evictable, Marks},
};
use crate::content::{
    locked,
    store::index::{RetentionClass, evict_root, releases},
    store::{Error, Store, graph::file_of},
};

/// So much of a limit is freed beyond what is needed, so that not every file that comes has to look for room.
const SLACK_DIVISOR: u64 = 16;
/// Files that come only to be cached take this part of what is free on the disk.
const FREE_SPACE_DIVISOR: u64 = 2;

impl GarbageCollector {
    /// Has the store call this collector before it stores bytes that may exceed a limit: `Store::check_quota` calls
    /// [`Self::evict`], and `Store::make_room` calls [`Self::evict_for`].
    pub fn install_in(self: &Arc<Self>, store: &Store) {
        if let Some(limit) = self.max_size {
            let gc = self.clone();
            store.limit(limit, Box::new(move |store, over, more| gc.evict(store, over, more)));
        }
        let gc = self.clone();
        store.set_make_room(Box::new(move |store, more| gc.evict_for(store, more)));
    }

    /// Evicts cached content for `more` bytes that are about to be stored, if they exceed a limit.
    pub fn evict_for(&self, store: &Store, more: u64) -> Result<(), Error> {
        match self.over_with(store, more)? {
            0 => Ok(()),
            over => self.evict(store, over, more),
        }
    }

    /// Evicts at least `over` bytes of cached content, in the order of [`for_each_evictable`](super::marks::Marks::for_each_evictable); nothing if that is not
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
        self.counters.evicted(freed);
        tracing::debug!(over, freed, "evicted cached content");
        Ok(())
    }

    /// Removes cached or followed content, unless another GC root keeps it by now.
    fn evict_one(&self, store: &Store, evictable: Evictable, marks: &Marks) -> Result<bool, Error> {
        let Some(item) = store.database().read(|read| file_of(read, evictable.id))? else { return Ok(false) };
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
        self.remove_unreferenced_roots(store, &given)?;
        Ok(went)
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

    /// Whether `missing` bytes fit within `--max-size`, after the eviction of other content if necessary.
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

    /// Whether a file of this size would fit within the limits if all other evictable content were evicted.
    pub fn fits(&self, store: &Store, size: u64) -> Result<bool, Error> {
        let is_cached = self.cache_size.is_none_or(|limit| size <= limit);
        let Some(limit) = self.max_size else { return Ok(is_cached) };
        Ok(is_cached && self.kept(store)?.saturating_add(size) <= limit)
    }

    /// Bytes of kept content, as of the last mark phase.
    fn kept(&self, store: &Store) -> Result<u64, Error> {
        if self.kept.load(Ordering::Relaxed) == UNKNOWN {
            self.mark_all(store)?;
        }
        Ok(self.kept.load(Ordering::Relaxed))
    }
}
