//! Roots whose last holder released them: collected within seconds, where there are any.

use std::{collections::HashSet, sync::atomic::Ordering};

use ocipfs_node::Cid;

use super::{Collected, Space, WhenFull};
use crate::content::{
    Content, Error as ContentError,
    index::{Class, freed, is_free, settle_freed},
    locked,
    store::{Error, Store, Stored},
};

/// Roots that are looked at in one census.
const AT_ONCE: usize = 4096;

impl Space {
    /// Asks the layers above to release so many bytes, if `--max-size` is exceeded; returns the bytes that were released.
    pub(super) fn let_go(&self, store: &Store, over: u64) -> Result<u64, Error> {
        let Some(when_full) = self.when_full.get() else { return Ok(0) };
        let is_full =
            self.max_size.map_or(Ok(false), |max| Ok::<_, Error>(store.used_bytes()? + over > max))?;
        if is_full { when_full(over) } else { Ok(0) }
    }

    /// Removes released roots, unless another root reaches them or they are in use.
    pub fn collect_freed(&self, store: &Store) -> Result<Collected, Error> {
        let _turn = locked(&self.turn);
        let mut all = Collected::default();
        loop {
            let roots = store.database().read(|read| freed(read, AT_ONCE))?;
            if roots.is_empty() {
                return Ok(all);
            }
            let (collected, settled) = self.collect_roots(store, &roots)?;
            all = all + collected;
            // What is in use stays until the next time.
            if settled < roots.len() {
                self.has_freed.store(true, Ordering::Relaxed);
                return Ok(all);
            }
        }
    }

    /// Collects released roots; returns what was removed, and how many roots are settled.
    fn collect_roots(&self, store: &Store, roots: &[Cid]) -> Result<(Collected, usize), Error> {
        let _guard = store.guard();
        let marks = self.census(store)?.marks;
        let (mut free, mut files) = (Vec::new(), Vec::new());
        for root in roots {
            if marks.class(root)? == Class::default() {
                free.push(*root);
                files.extend(store.file(root)?);
            }
        }
        let gone: HashSet<Cid> = self.remove_free(store, &free)?.into_iter().collect();
        let collected = removed(store, files)?;
        let is_here = free.iter().map(|root| Ok(!gone.contains(root) && store.file(root)?.is_some()));
        let is_here = is_here.collect::<Result<Vec<bool>, Error>>()?;
        let left: HashSet<&Cid> =
            free.iter().zip(is_here).filter(|(_, here)| *here).map(|(root, _)| root).collect();
        let settled = store.database().write(|write| {
            let mut settled = Vec::new();
            for root in roots {
                if !left.contains(root) || !is_free(write, root)? {
                    settled.push(*root);
                }
            }
            settle_freed(write, &settled)?;
            Ok(settled.len())
        })?;
        Ok((collected, settled))
    }
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

impl Content {
    /// Removes released roots now.
    pub async fn collect_freed(&self) -> Result<Collected, ContentError> {
        let space = self.0.space.clone();
        Ok(self.0.store.run(move |store| space.collect_freed(store)).await?)
    }

    /// Sets what releases content when `--max-size` is reached and the pull cache is empty. Set once.
    pub fn when_full(&self, let_go: WhenFull) {
        let _ = self.0.space.when_full.set(let_go);
    }
}
