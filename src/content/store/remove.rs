//! Removal of rows and files, in one commit, and only of what is not in use.

use std::{collections::HashSet, sync::PoisonError};

use ocipfs_node::Cid;
use redb::WriteTransaction;

use super::{
    Error, Store,
    blocks::{FORMER_OWNER, NO_OWNER},
    disk, files,
    layout::BlockKey,
    lock,
    partial::is_fetched,
    sweep::BlockSweep,
    tables::{self, Hash, STORED, Tables},
};

/// Files of blobs whose rows are gone.
#[derive(Default)]
pub struct Unlinked {
    /// Those that went since the last commit: DOOMED names them still.
    done: HashSet<Hash>,
    /// Those that could not be unlinked.
    failed: HashSet<Hash>,
    /// Blobs that were removed and may still be announced.
    pub(super) removed: Vec<Hash>,
}

impl Store {
    /// Removes the layout with this root, and with its last layout the blob; says whether it was stored.
    pub fn remove(&self, root: &Cid) -> Result<bool, Error> {
        let removed = self.remove_layouts_with(std::slice::from_ref(root), |_, _| Ok(true))?;
        self.sweep()?;
        Ok(!removed.is_empty())
    }

    /// Removes of these layouts those of which `may_remove` says, within the transaction, that they may go, except those
    /// that are in use; a blob is removed with its last layout. Returns those that were removed.
    pub fn remove_layouts(
        &self,
        roots: &[Cid],
        mut may_remove: impl FnMut(&WriteTransaction, &Cid) -> Result<bool, Error>,
    ) -> Result<Vec<Cid>, Error> {
        let removed = self.remove_layouts_with(roots, |write, root| {
            Ok(!self.is_guarded(&BlockKey::of(root)) && may_remove(write, root)?)
        })?;
        self.sweep()?;
        Ok(removed)
    }

    fn remove_layouts_with(
        &self,
        roots: &[Cid],
        mut may_remove: impl FnMut(&WriteTransaction, &Cid) -> Result<bool, Error>,
    ) -> Result<Vec<Cid>, Error> {
        let _moving = self.0.moving_files.write().unwrap_or_else(PoisonError::into_inner);
        let mut stored = Vec::new();
        for root in roots {
            stored.extend(self.file(root)?);
        }
        if stored.is_empty() {
            return Ok(Vec::new());
        }
        let (removed, done) = self.0.database.write(|write| {
            let mut tables = Tables::open(write)?;
            let done = self.forget_doomed(&mut tables)?;
            let mut removed: Vec<(Cid, u64, Hash, bool)> = Vec::new();
            for file in &stored {
                let is_gone = redb::ReadableTable::get(&tables.files, file.id)?.is_none();
                if is_gone || !may_remove(write, &file.root)? {
                    continue;
                }
                let sha256 = files::sha256(&file.digest)?;
                removed.push((file.root, file.id, sha256, tables.remove_file(file.id, &file.root, &sha256)?));
            }
            // Small files go at once with all of their blocks.
            BlockSweep::new(self).lot(&mut tables)?;
            Ok((removed, done))
        })?;
        self.forgot_doomed(&done);
        let mut going = {
            let mut unlinked = lock(&self.0.unlinked);
            unlinked
                .removed
                .extend(removed.iter().filter(|(.., is_last)| *is_last).map(|(_, _, hash, _)| *hash));
            std::mem::take(&mut unlinked.failed)
        };
        for (_, id, sha256, is_last) in &removed {
            self.0.sources.forget(*id);
            if *is_last {
                going.insert(*sha256);
                self.unlink_incoming(*id);
            }
        }
        self.unlink_blobs(going)?;
        Ok(removed.into_iter().map(|(root, ..)| root).collect())
    }

    /// Unlinks blobs, unless they were stored again; those that fail are tried again with the next.
    pub(super) fn unlink_blobs(&self, blobs: HashSet<Hash>) -> Result<(), Error> {
        for sha256 in blobs {
            let is_stored =
                self.0.database.read(|read| tables::row(read, STORED, &sha256, |_| ()))?.is_some();
            match if is_stored { Ok(()) } else { disk::unlink(&self.0.disk.blob(&sha256)) } {
                Ok(()) => self.unlinked(sha256),
                Err(error) => {
                    tracing::warn!("cannot delete the file of a removed blob: {error}");
                    lock(&self.0.unlinked).failed.insert(sha256);
                }
            }
        }
        Ok(())
    }

    /// Forgets of the blobs whose rows are gone those whose files are gone too.
    pub(super) fn forget_doomed(&self, tables: &mut Tables) -> Result<HashSet<Hash>, Error> {
        let done = lock(&self.0.unlinked).done.clone();
        for sha256 in &done {
            tables.doomed.remove(sha256)?;
        }
        Ok(done)
    }

    /// Ends it, once that is committed.
    pub(super) fn forgot_doomed(&self, done: &HashSet<Hash>) {
        lock(&self.0.unlinked).done.retain(|sha256| !done.contains(sha256));
    }

    /// Remembers that DOOMED need not name a blob any more.
    pub(super) fn unlinked(&self, sha256: Hash) {
        lock(&self.0.unlinked).done.insert(sha256);
    }

    fn unlink_incoming(&self, id: u64) {
        if let Err(error) = disk::unlink(&self.0.disk.incoming(id)) {
            tracing::warn!("file stays until the next start: {error}");
        }
    }

    /// Removes a partial file that is not in use, if `may_remove` agrees. Returns whether it was removed.
    pub fn remove_partial(
        &self,
        root: &Cid,
        id: u64,
        may_remove: impl FnOnce(&WriteTransaction) -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        let key = BlockKey::of(root);
        // Held, so that no download resumes it meanwhile.
        let live = lock(&self.0.live);
        if is_fetched(&live, &key) {
            return Ok(false);
        }
        let removed = self.0.database.write(|write| {
            let mut tables = Tables::open(write)?;
            let is_arriving = redb::ReadableTable::get(&tables.partial, id)?.is_some();
            if !is_arriving || self.is_guarded(&key) || !may_remove(write)? {
                return Ok(false);
            }
            tables.remove_partial(id, root)?;
            BlockSweep::new(self).lot(&mut tables)?;
            Ok(true)
        })?;
        if removed {
            self.0.sources.forget(id);
            self.unlink_incoming(id);
            drop(live);
            self.sweep()?;
        }
        Ok(removed)
    }

    /// Forgets blocks that were put, if `may_remove` says so; where one is part of a file too, it stays. Those that went.
    pub fn remove_blocks(
        &self,
        cids: &[Cid],
        mut may_remove: impl FnMut(&WriteTransaction, &Cid) -> Result<bool, Error>,
    ) -> Result<Vec<Cid>, Error> {
        self.0.database.write(|write| {
            let mut tables = Tables::open(write)?;
            let mut removed = Vec::new();
            for cid in cids {
                let key = BlockKey::of(cid);
                if !self.is_guarded(&key) && may_remove(write, cid)? {
                    [NO_OWNER, FORMER_OWNER].iter().try_for_each(|owner| tables.disown(&key, *owner))?;
                    removed.push(*cid);
                }
            }
            Ok(removed)
        })
    }
}
