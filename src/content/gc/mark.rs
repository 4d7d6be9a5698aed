//! The mark phase: what is stored and why, in one snapshot of the index.

use std::{cell::RefCell, collections::HashSet, sync::atomic::Ordering, time::Instant};

use ocipfs_node::Cid;
use redb::ReadTransaction;

use super::{
    GarbageCollector,
    marks::{Evictable, Marking, Marks},
};
use crate::content::{
    locked,
    store::index::{RetentionClass, for_each_root, pins, releases},
    store::{
        Error, Store,
        graph::{self, BlockKey, Graph, GraphFile},
    },
};

/// Small content of followed names is never evicted: it leads to the rest.
const SMALL_BYTES: u64 = 64 << 10;

/// The result of a mark phase.
pub struct Marked {
    /// Blocks by why they are retained, and what may go.
    pub marks: Marks,
    /// The sums.
    pub counted: MarkTotals,
}

/// The sums of a mark phase.
#[derive(Clone, Copy, Debug, Default)]
pub struct MarkTotals {
    /// How the room is used.
    pub usage: Usage,
    /// Bytes of blobs and parts of files that may be evicted.
    pub evictable: u64,
    /// Bytes of blobs and parts of files that are unreferenced.
    pub unreferenced: u64,
    /// Bytes of blocks that belong to no file and that are unreferenced.
    pub loose: u64,
    /// Their number.
    pub loose_blocks: u64,
    /// Bytes of what is being fetched now.
    pub coming: u64,
    /// How often something had been released.
    pub releases: u64,
}

/// How the room is used, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All of it, with what is on its way.
    pub used: u64,
    /// Added, imported, pushed or pinned.
    pub kept: u64,
    /// Pinned, be it added too or not.
    pub pinned: u64,
    /// Content of followed names that nothing else keeps.
    pub followed: u64,
    /// Only pulled, with what has come of what is being pulled now.
    pub cached: u64,
    /// How many CIDs are pinned.
    pub pins: u64,
}

impl MarkTotals {
    /// Returns the bytes that can be freed.
    pub fn removable(&self) -> u64 {
        self.evictable + self.loose
    }
}

/// The sums stay valid for this many times the duration of their mark phase.
const TOTALS_VALIDITY: u32 = 10;

impl GarbageCollector {
    /// Returns how the space is used. The kept and cached sums may be those of the last mark phase.
    pub fn usage(&self, store: &Store) -> Result<Usage, Error> {
        if let Some((counted, when, took)) = *locked(&self.counted)
            && when.elapsed() < took * TOTALS_VALIDITY
        {
            return Ok(Usage { used: store.used_bytes()?, ..counted.usage });
        }
        Ok(self.mark_all(store)?.counted.usage)
    }

    /// Invalidates the sums, because something was removed.
    pub(super) fn forget_counted(&self) {
        *locked(&self.counted) = None;
    }

    /// Counts what there is: in one snapshot, so that what is moved from one GC root to another is retained at any time.
    pub fn mark_all(&self, store: &Store) -> Result<Marked, Error> {
        self.mark_all_with(store, &mut |_| {})
    }

    /// Does the same as [`Self::mark_all`]; `progress` is told how many blocks and files were visited.
    pub fn mark_all_with(&self, store: &Store, progress: &mut dyn FnMut(u64)) -> Result<Marked, Error> {
        let begun = Instant::now();
        #[cfg(test)]
        self.marks_taken.fetch_add(1, Ordering::Relaxed);
        // Before the snapshot: what arrived until it is taken is retained in it.
        let downloading = self.downloads.roots();
        let live = store.live();
        let live_roots: HashSet<Cid> = live.iter().map(|(_, file)| file.root).collect();
        let progress = RefCell::new(progress);
        let mut marked = store.database().read(|read| {
            let progress = &mut **progress.borrow_mut();
            let mut counted = MarkTotals { releases: releases(read)?, ..MarkTotals::default() };
            let marks = Marks::fill(store, |marking| {
                mark(read, marking, &downloading, progress)?;
                count(read, marking, &live_roots, &mut counted, progress)
            })?;
            counted.usage.pins = pins(read)?.len() as u64;
            Ok(Marked { marks, counted })
        })?;
        for (_, file) in &live {
            marked.counted.coming = marked.counted.coming.saturating_add(file.written);
            if !marked.marks.class(&file.root)?.contains(RetentionClass::KEPT) {
                marked.counted.usage.cached += file.written;
            }
        }
        let usage = &mut marked.counted.usage;
        usage.used = store.used_bytes()?;
        let known = usage.cached + usage.followed + store.draft_bytes();
        self.kept.store(usage.used.saturating_sub(known), Ordering::Relaxed);
        *locked(&self.counted) = Some((marked.counted, Instant::now(), begun.elapsed()));
        Ok(marked)
    }
}

/// Marks everything that is retained.
fn mark(
    read: &ReadTransaction,
    marking: &mut Marking,
    downloading: &[Cid],
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let graph = Graph::open(read)?;
    for_each_root(read, |root, class| {
        marking.mark(&graph, root, class)?;
        progress(marking.visited);
        Ok(())
    })?;
    downloading.iter().try_for_each(|root| marking.mark(&graph, *root, RetentionClass::CACHED))
}

/// Counts blobs and blocks by why they are retained, and records what may go.
fn count(
    read: &ReadTransaction,
    marking: &mut Marking,
    live: &HashSet<Cid>,
    counted: &mut MarkTotals,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let mut visited = marking.visited;
    let mut count_one = || {
        visited += 1;
        progress(visited);
    };
    graph::for_each_file(read, |item| {
        count_one();
        let class = class_of(marking, &item)?;
        let is_live = !item.is_stored() && item.layouts.iter().any(|(root, _)| live.contains(root));
        counted
            .usage
            .add(class, if is_live && !class.contains(RetentionClass::KEPT) { 0 } else { item.bytes });
        counted.usage.pinned += if class.contains(RetentionClass::PINNED) { item.bytes } else { 0 };
        match evictable(class, &item) {
            Some(item) if !is_live => {
                counted.evictable += item.bytes;
                counted.unreferenced += if item.is_retained { 0 } else { item.bytes };
                marking.add_evictable(item)
            }
            _ => Ok(()),
        }
    })?;
    graph::for_each_loose_block(read, |block| {
        count_one();
        let class = marking.class(&block.key)?;
        counted.usage.add(class, block.bytes);
        if class != RetentionClass::default() {
            return Ok(());
        }
        counted.loose += block.bytes;
        counted.loose_blocks += 1;
        marking.add_loose(&block.key, block.bytes)
    })
}

fn class_of(marking: &Marking, item: &GraphFile) -> Result<RetentionClass, Error> {
    item.layouts.iter().try_fold(RetentionClass::default(), |class, (root, _)| {
        Ok(class.and(marking.class(&BlockKey::of(root))?))
    })
}

fn evictable(class: RetentionClass, item: &GraphFile) -> Option<Evictable> {
    let is_followed = class.contains(RetentionClass::FOLLOWED);
    let stays = class.contains(RetentionClass::KEPT) || is_followed && item.bytes <= SMALL_BYTES;
    let (id, is_retained) = (item.layouts.first()?.1, class != RetentionClass::default());
    let (bytes, used, is_stored) = (item.bytes, item.used, item.is_stored());
    (!stays).then_some(Evictable { id, bytes, used, is_followed, is_retained, is_stored })
}

impl Usage {
    fn add(&mut self, class: RetentionClass, bytes: u64) {
        if class.contains(RetentionClass::KEPT) {
            self.kept += bytes;
        } else if class.contains(RetentionClass::FOLLOWED) {
            self.followed += bytes;
        } else {
            self.cached += bytes;
        }
    }
}
