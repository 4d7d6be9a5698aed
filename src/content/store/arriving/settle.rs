//! What makes an arriving file durable, whole or gone: the data first, then the rows that count on it.

use std::{io, os::unix::fs::FileExt, sync::PoisonError};

use ocipfs_oci::Digest;
use redb::ReadableTable;

use super::{Arriving, Extents, Inner};
use crate::content::store::{
    Error, Stored, disk,
    draft::SMALL,
    files::{Whole, sha256},
    layout::{Key, Place},
    lock,
    tables::Tables,
    usage::now,
};

type Batch = [(Key, Place)];

impl Arriving {
    /// Makes what was written before it durable: after a crash it is here again.
    pub fn checkpoint(&self) -> Result<(), Error> {
        let inner = &self.0;
        let _alone = lock(&inner.settling);
        let nothing_new = {
            let state = inner.state();
            state.pending.is_empty() && !state.ended
        };
        if nothing_new {
            return Ok(());
        }
        inner.settle(|batch, extents| {
            inner.store.0.disk.check_space()?;
            inner.sync()?;
            inner.store.0.database.write(|write| inner.save(&mut Tables::open(write)?, batch, extents))
        })?;
        inner.state().saved = true;
        Ok(())
    }

    /// Stores the file, whose bytes the caller has seen to have the sha256 `digest`.
    pub fn finish(&self, digest: &Digest, aliases: &[Digest]) -> Result<Stored, Error> {
        let inner = &self.0;
        let sha256 = sha256(digest)?;
        let _alone = lock(&inner.settling);
        inner.check_whole()?;
        let small = inner.small().map_err(|e| inner.failed(e))?;
        let whole = Whole { sha256, size: inner.size, aliases, small: small.as_deref() };
        let id = inner.settle(|batch, _| {
            inner.store.0.disk.check_space()?;
            if small.is_none() {
                inner.sync()?;
            }
            let _placing = inner.store.0.placing.read().unwrap_or_else(PoisonError::into_inner);
            let id = inner
                .store
                .0
                .database
                .write(|write| inner.promote(&mut Tables::open(write)?, batch, &whole))?;
            inner.store.settle_file(inner.id, &sha256, whole.small.is_some());
            Ok(id)
        })?;
        inner.end();
        Ok(Stored { id, digest: digest.clone(), size: inner.size, root: inner.root })
    }

    /// Removes the file and what is known of it.
    pub fn discard(&self) -> Result<(), Error> {
        let inner = &self.0;
        let _alone = lock(&inner.settling);
        if inner.state().ended {
            return Ok(());
        }
        inner.end();
        if inner.state().saved {
            inner
                .store
                .0
                .database
                .write(|write| Tables::open(write)?.remove_arriving(inner.id, &inner.root))?;
            inner.store.sweep()?;
        }
        inner.store.0.sources.forget(inner.id);
        disk::unlink(&inner.store.0.disk.incoming(inner.id))
    }
}

impl Inner {
    /// Commits what is pending; where that fails, it stays pending.
    fn settle<T>(&self, commit: impl FnOnce(&Batch, &Extents) -> Result<T, Error>) -> Result<T, Error> {
        let (mut batch, extents) = {
            let mut state = self.state();
            if state.ended {
                return Err(Error::Ended(self.root));
            }
            (std::mem::take(&mut state.pending), state.extents.clone())
        };
        // In the order of the table: neighbours fall into one page.
        batch.sort_by(|(one, _), (other, _)| one.cmp(other));
        let result = commit(&batch, &extents);
        let mut state = self.state();
        if result.is_ok() || state.ended {
            self.store.0.pending.forget(self.id, batch.iter().map(|(key, _)| key));
        } else {
            state.pending.append(&mut batch);
        }
        result
    }

    fn save(&self, tables: &mut Tables, batch: &Batch, extents: &Extents) -> Result<(), Error> {
        self.own(tables, batch)?;
        let row = (&*self.root.to_bytes(), self.size, extents.rows());
        tables.set_arriving(self.id, row)?;
        if tables.used.get(self.id)?.is_none() {
            tables.used.insert(self.id, now())?;
        }
        let key = Key::of(&self.root);
        let is_known = tables.roots.get(key.bytes())?.is_some();
        if !is_known {
            tables.roots.insert(key.bytes(), self.id)?;
        }
        tables.used_ids(self.store.ids_used())
    }

    /// Turns the rows of an arriving file into those of a stored one, unless its layout came in another way.
    fn promote(&self, tables: &mut Tables, batch: &Batch, whole: &Whole) -> Result<u64, Error> {
        tables.used_ids(self.store.ids_used())?;
        tables.add_blob(whole)?;
        if let Some(known) = tables.stored_root(&Key::of(&self.root))? {
            if known != self.id {
                tables.remove_arriving(self.id, &self.root)?;
            }
            return Ok(known);
        }
        self.own(tables, batch)?;
        tables.forget_arriving(self.id)?;
        tables.add_file(self.id, &self.root, whole)?;
        Ok(self.id)
    }

    fn own(&self, tables: &mut Tables, batch: &Batch) -> Result<(), Error> {
        batch.iter().try_for_each(|(key, place)| tables.own(key, self.id, place))
    }

    fn check_whole(&self) -> Result<(), Error> {
        let state = self.state();
        if state.extents.contain(0, self.size) {
            return Ok(());
        }
        Err(Error::Incomplete { root: self.root, written: state.extents.length(), size: self.size })
    }

    /// The bytes, where they are few enough for the index.
    fn small(&self) -> io::Result<Option<Vec<u8>>> {
        if self.size > SMALL as u64 {
            return Ok(None);
        }
        let mut bytes = vec![0; self.size as usize];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(Some(bytes))
    }

    /// Has the disk take what is written. Where it fails, nobody knows what it has: only the rows count then.
    fn sync(&self) -> Result<(), Error> {
        let synced = self.file.sync_data().map_err(|e| self.failed(e));
        let synced = synced.and_then(|()| self.store.0.disk.sync_incoming());
        if synced.is_err() {
            self.end();
        }
        synced
    }

    /// Takes nothing more.
    fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        let rest = std::mem::take(&mut state.pending);
        self.store.0.pending.forget(self.id, rest.iter().map(|(key, _)| key));
    }
}
