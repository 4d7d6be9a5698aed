//! Collection: deletes everything that is unreferenced and not in use.

use std::{collections::HashSet, time::Instant};

use ocipfs_node::Cid;

use super::{
    GarbageCollector,
    mark::Marked,
    marks::{Evictable, Marks},
};
use crate::content::{
    Error as ContentError, locked,
    store::index::{RetentionClass, is_unreferenced},
    store::{
        Error, Store,
        graph::{BlockKey, GraphFile, file_of},
        now,
    },
};

/// Removed in one commit.
const BATCH_SIZE: usize = 128;

/// The collected content, or in a dry run the content that would be collected.
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

/// How far a collection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectStep {
    /// Blocks and files that were visited by the mark phase so far.
    Marked(u64),
    /// Bytes that were deleted, or that turned out to be in use.
    Deleted {
        /// So far.
        done: u64,
        /// Of all that was found unreferenced.
        total: u64,
    },
}

impl Collected {
    fn of_blocks(blocks: u64, bytes: u64) -> Self {
        Self { blocks, bytes, ..Self::default() }
    }

    fn of_files<'a>(files: impl Iterator<Item = &'a Evictable>) -> Self {
        files.fold(Self::default(), |sum, file| {
            let (blobs, partial) = (u64::from(file.is_stored), u64::from(!file.is_stored));
            sum + Self { blobs, partial, blocks: 0, bytes: file.bytes }
        })
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

impl GarbageCollector {
    /// Removes a block, or the file with this root, unless something keeps it. Returns false if it is not here.
    pub fn remove_block(&self, store: &Store, cid: Cid) -> Result<bool, ContentError> {
        let _turn = locked(&self.turn);
        let _guard = store.gc_guard();
        if store.size(&cid)?.is_none() {
            return Ok(false);
        }
        if self.mark_all(store)?.marks.class(&cid)? != RetentionClass::default() {
            return Err(ContentError::InUse { cid, why: "pinned, or part of what is kept" });
        }
        self.remove_unreferenced_roots(store, &[cid])?;
        self.forget_counted();
        match store.size(&cid)? {
            Some(_) => Err(ContentError::InUse { cid, why: "part of a file, or just read" }),
            None => Ok(true),
        }
    }

    /// Removes everything that is unreachable and not in use, and compacts the index; `dry` only counts what would go.
    #[cfg(test)]
    pub fn collect(&self, store: &Store, dry: bool) -> Result<Collected, Error> {
        self.collect_with(store, dry, &mut |_| {})
    }

    /// Removes everything that is unreachable and not in use, and compacts the index; `dry` only counts what would go.
    /// `progress` is told how far it is.
    pub fn collect_with(
        &self,
        store: &Store,
        dry: bool,
        progress: &mut dyn FnMut(CollectStep),
    ) -> Result<Collected, Error> {
        let collected = self.collect_older(store, dry, None, progress)?;
        if !dry {
            self.compact_index(store);
        }
        Ok(collected)
    }

    /// Collects like [`Self::collect_with`]; with `before`, files used since then, partial blobs and young blocks stay.
    pub(super) fn collect_older(
        &self,
        store: &Store,
        dry: bool,
        before: Option<u64>,
        progress: &mut dyn FnMut(CollectStep),
    ) -> Result<Collected, Error> {
        let _turn = locked(&self.turn);
        let _guard = store.gc_guard();
        store.save_uses()?;
        store.correct_uses(now())?;
        let Marked { marks, counted } =
            self.mark_all_with(store, &mut |visited| progress(CollectStep::Marked(visited)))?;
        let (mut done, total) = (counted.loose, counted.loose + counted.unreferenced);
        let mut told = |more: u64| {
            done += more;
            if !dry {
                progress(CollectStep::Deleted { done, total });
            }
        };
        let mut collected = match dry {
            true => Collected::of_blocks(counted.loose_blocks, counted.loose),
            false if before.is_none() => self.remove_loose(store, &marks)?,
            false => self.remove_older_loose(store, &marks)?,
        };
        told(0);
        let mut lot = Vec::new();
        marks.for_each_evictable(|evictable| {
            let is_due = before.is_none_or(|before| evictable.is_stored && evictable.used < before);
            if evictable.is_retained || !is_due {
                if !evictable.is_retained && evictable.is_stored {
                    self.collect_unreferenced_later();
                }
                return Ok(true);
            }
            lot.push(evictable);
            if lot.len() == BATCH_SIZE {
                let bytes = lot.iter().map(|evictable| evictable.bytes).sum();
                collected = collected + self.collect_lot(store, std::mem::take(&mut lot), dry)?;
                told(bytes);
            }
            Ok(true)
        })?;
        collected = collected + self.collect_lot(store, lot, dry)?;
        // What is kept is known better now.
        if !dry {
            self.counters.collected(collected.bytes);
            self.mark_all(store)?;
        }
        Ok(collected)
    }

    fn collect_lot(&self, store: &Store, lot: Vec<Evictable>, dry: bool) -> Result<Collected, Error> {
        if dry {
            return Ok(Collected::of_files(lot.iter()));
        }
        let items: Vec<GraphFile> = store.database().read(|read| {
            let found = lot.iter().map(|evictable| file_of(read, evictable.id));
            found.filter_map(Result::transpose).collect()
        })?;
        let gone = self.remove_unreferenced_files(store, &items)?;
        Ok(Collected::of_files(lot.iter().filter(|evictable| gone.contains(&evictable.id))))
    }

    /// Removes files that are unreferenced; the ids of the first layouts of those that went whole.
    fn remove_unreferenced_files(&self, store: &Store, items: &[GraphFile]) -> Result<HashSet<u64>, Error> {
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
        let went = |item: &&GraphFile| item.layouts.iter().all(|(root, _)| gone.contains(root));
        Ok(items.iter().filter(went).filter_map(|item| item.layouts.first().map(|(_, id)| *id)).collect())
    }

    /// Removes unreferenced blocks that belong to no file.
    pub(super) fn remove_loose(&self, store: &Store, marks: &Marks) -> Result<Collected, Error> {
        self.remove_loose_if(store, marks, |_| true)
    }

    /// Does the same as [`Self::remove_loose`], except for young blocks.
    fn remove_older_loose(&self, store: &Store, marks: &Marks) -> Result<Collected, Error> {
        let now = Instant::now();
        self.remove_loose_if(store, marks, |cid| !self.young.spares(&BlockKey::of(cid), now))
    }

    fn remove_loose_if(
        &self,
        store: &Store,
        marks: &Marks,
        is_due: impl Fn(&Cid) -> bool,
    ) -> Result<Collected, Error> {
        let mut removed = Collected::default();
        marks.for_each_loose(BATCH_SIZE, |mut blocks| {
            blocks.retain(|(cid, _)| is_due(cid));
            if blocks.is_empty() {
                return Ok(());
            }
            let cids: Vec<Cid> = blocks.iter().map(|(cid, _)| *cid).collect();
            let gone: HashSet<Cid> = store.remove_blocks(&cids, is_unreferenced)?.into_iter().collect();
            let gone = blocks.iter().filter(|(cid, _)| gone.contains(cid));
            removed = gone.fold(removed, |sum, (_, bytes)| sum + Collected::of_blocks(1, *bytes));
            Ok(())
        })?;
        Ok(removed)
    }

    /// Removes unreferenced roots, files or blocks, and stops announcing them. Returns the files that went.
    pub(super) fn remove_unreferenced_roots(&self, store: &Store, roots: &[Cid]) -> Result<Vec<Cid>, Error> {
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
}
