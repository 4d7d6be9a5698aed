//! Collects roots that the last GC root released, within seconds.

use std::{collections::HashSet, sync::atomic::Ordering};

use ocipfs_node::Cid;

use super::{Collected, GarbageCollector};
use crate::content::{
    locked,
    store::index::{RetentionClass, forget_released, is_unreferenced, released},
    store::{Error, Store, Stored, graph::file_of},
};

/// Roots that are looked at in one mark phase.
const BATCH_SIZE: usize = 4096;

impl GarbageCollector {
    /// Asks the layers above to release so many bytes, if `more` bytes exceed `--max-size`; returns the bytes that were
    /// released.
    pub(super) fn release_more(&self, store: &Store, over: u64, more: u64) -> Result<u64, Error> {
        let Some(when_full) = self.when_full.get() else { return Ok(0) };
        let is_full = self
            .max_size
            .map_or(Ok(false), |max| Ok::<_, Error>(store.used_bytes()?.saturating_add(more) > max))?;
        // Set by the sweeper of the repositories: untagged manifests, the oldest first.
        if is_full { when_full(over) } else { Ok(0) }
    }

    /// Removes these roots now, except content that other roots reach or that is in use.
    pub fn collect_roots_now(&self, store: &Store, roots: &[Cid]) -> Result<(), Error> {
        let _turn = locked(&self.turn);
        let _guard = store.gc_guard();
        let marks = self.mark_all(store)?.marks;
        let (mut free, mut files) = (Vec::new(), Vec::new());
        for root in roots {
            if marks.class(root)? == RetentionClass::default() {
                free.push(*root);
                files.extend(store.file(root)?);
            }
        }
        self.remove_unreferenced_roots(store, &free)?;
        self.counters.collected(removed(store, files)?.bytes);
        self.forget_counted();
        self.collect_unreferenced_later();
        Ok(())
    }

    /// Removes released roots, unless another root reaches them or they are in use.
    pub fn collect_released(&self, store: &Store) -> Result<Collected, Error> {
        let _turn = locked(&self.turn);
        let mut all = Collected::default();
        loop {
            let roots = store.database().read(|read| released(read, BATCH_SIZE))?;
            if roots.is_empty() {
                return Ok(all);
            }
            let (collected, settled) = self.collect_batch(store, &roots)?;
            all = all + collected;
            // What is in use stays until the next time.
            if settled < roots.len() {
                self.has_released.store(true, Ordering::Relaxed);
                return Ok(all);
            }
        }
    }

    /// Collects released roots. Returns the sums, and how many roots are done.
    fn collect_batch(&self, store: &Store, roots: &[Cid]) -> Result<(Collected, usize), Error> {
        let _guard = store.gc_guard();
        let marks = self.mark_all(store)?.marks;
        let (mut free, mut files) = (Vec::new(), Vec::new());
        for root in roots {
            if marks.class(root)? == RetentionClass::default() {
                free.push(*root);
                files.extend(store.file(root)?);
            }
        }
        let gone: HashSet<Cid> = self.remove_unreferenced_roots(store, &free)?.into_iter().collect();
        let collected = removed(store, files)? + remove_parts(store, &free)?;
        self.counters.collected(collected.bytes);
        self.forget_counted();
        let is_here = free.iter().map(|root| {
            Ok(store.partial_id(root)?.is_some() || !gone.contains(root) && store.file(root)?.is_some())
        });
        let is_here = is_here.collect::<Result<Vec<bool>, Error>>()?;
        let left: HashSet<&Cid> =
            free.iter().zip(is_here).filter(|(_, here)| *here).map(|(root, _)| root).collect();
        let settled = store.database().write(|write| {
            let mut settled = Vec::new();
            for root in roots {
                if !left.contains(root) || !is_unreferenced(write, root)? {
                    settled.push(*root);
                }
            }
            forget_released(write, &settled)?;
            Ok(settled.len())
        })?;
        Ok((collected, settled))
    }
}

/// Removes what is here in part of roots that are unreferenced: a damaged blob is being downloaded.
fn remove_parts(store: &Store, roots: &[Cid]) -> Result<Collected, Error> {
    let mut removed = Collected::default();
    for root in roots {
        let Some(id) = store.partial_id(root)? else { continue };
        let bytes = store.database().read(|read| file_of(read, id))?.map_or(0, |item| item.bytes);
        if store.remove_partial(root, id, |write| is_unreferenced(write, root))? {
            removed = removed + Collected { partial: 1, bytes, ..Collected::default() };
        }
    }
    Ok(removed)
}

/// Counts the blobs that went with the last of their layouts.
fn removed(store: &Store, files: Vec<Stored>) -> Result<Collected, Error> {
    let (mut collected, mut seen) = (Collected::default(), HashSet::new());
    for Stored { digest, size, .. } in files {
        if store.blob(&digest)?.is_none() && seen.insert(digest) {
            collected.blobs += 1;
            collected.bytes += size;
        }
    }
    Ok(collected)
}
