//! Commits of a partial blob: checkpointed, complete or deleted. Data is synced before the rows that refer to
//! it.

use std::{
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    sync::{Arc, PoisonError},
};

use ocipfs_node::Cid;
use ocipfs_oci::Digest;
use redb::{ReadableTable, WriteTransaction};

use super::{Hashed, PartialBlob, PartialBlobInner};
use crate::content::store::{
    Error, Origin, Store, Stored, disk,
    draft::SMALL_BLOB_BYTES,
    files::{NewBlobRow, sha256},
    layout::{BlockKey, BlockPlace},
    lock,
    lost::is_damaged,
    tables::{Hash, Tables},
    usage::now,
};

/// Rows of a partial blob that one commit makes durable.
struct CommitRows {
    store: Store,
    id: u64,
    root: Cid,
    size: u64,
    blocks: Vec<(BlockKey, BlockPlace)>,
    extents: Vec<(u64, u64)>,
    hashed: Option<Hashed>,
    origin: Origin,
}

impl PartialBlob {
    /// Makes the bytes that were written so far durable: they survive a crash.
    pub fn checkpoint(&self) -> Result<(), Error> {
        let inner = &self.0;
        let _alone = lock(&inner.settling);
        if !inner.has_news() {
            return Ok(());
        }
        inner.settle(|rows| {
            inner.store.0.disk.check_space()?;
            inner.sync()?;
            inner.store.0.database.write_together(move |write| rows.save(&mut Tables::open(write)?))
        })
    }

    /// Stores the file, whose bytes the caller has seen to have the sha256 `digest`, and does something else in the same
    /// commit, which others share: `record` may run twice.
    pub fn finish(
        &self,
        digest: &Digest,
        aliases: &[Digest],
        record: impl FnMut(&WriteTransaction) -> Result<(), Error> + Send + 'static,
    ) -> Result<Stored, Error> {
        let inner = &self.0;
        let sha256 = sha256(digest)?;
        let _alone = lock(&inner.settling);
        inner.check_whole()?;
        inner.check_limits(0)?;
        let small = inner.small().map_err(|e| inner.failed(e))?;
        if small.is_none() {
            inner.check_name()?;
        }
        let id = inner.settle(|rows| inner.promote(rows, sha256, aliases.to_vec(), small, record))?;
        inner.end();
        Ok(Stored { id, digest: digest.clone(), size: inner.size, root: inner.root })
    }

    /// Removes the file and what is known of it.
    pub fn discard(&self) -> Result<(), Error> {
        let _alone = lock(&self.0.settling);
        self.0.remove()
    }

    /// Discards the file, unless it was stored before and is damaged: then it is checkpointed.
    pub fn discard_new(&self) -> Result<(), Error> {
        let inner = &self.0;
        if inner.store.0.database.read(|read| is_damaged(read, inner.id))? {
            return self.checkpoint();
        }
        self.discard()
    }
}

impl PartialBlobInner {
    fn has_news(&self) -> bool {
        let state = self.state();
        let is_hashed_further = state.hashed.as_ref().is_some_and(|hashed| hashed.length > state.hash_saved);
        state.ended || !state.pending.is_empty() || is_hashed_further
    }

    /// Commits what is pending; where that fails, it stays pending.
    fn settle<T>(&self, commit: impl FnOnce(Arc<CommitRows>) -> Result<T, Error>) -> Result<T, Error> {
        let rows = self.collect_rows()?;
        let result = commit(rows.clone());
        let mut state = self.state();
        if result.is_err() && !state.broken {
            state.pending.extend(rows.blocks.iter().cloned());
            return result;
        }
        self.store.0.pending.forget(self.id, rows.blocks.iter().map(|(key, _)| key));
        match &result {
            Ok(_) => state.hash_saved = rows.hashed.as_ref().map_or(0, |hashed| hashed.length),
            // Only what the rows say counts now.
            Err(_) => self.end_with(&mut state),
        }
        result
    }

    fn collect_rows(&self) -> Result<Arc<CommitRows>, Error> {
        let mut state = self.state();
        if state.ended {
            return Err(Error::Ended(self.root));
        }
        let mut blocks = std::mem::take(&mut state.pending);
        let (extents, hashed, origin) = (state.extents.rows(), state.hashed.clone(), state.origin);
        drop(state);
        // In the order of the table: neighbours fall into one page.
        blocks.sort_by(|(one, _), (other, _)| one.cmp(other));
        let (store, id, root, size) = (self.store.clone(), self.id, self.root, self.size);
        Ok(Arc::new(CommitRows { store, id, root, size, blocks, extents, hashed, origin }))
    }

    /// Makes the file a stored one; its id, or that of the file with this root that is stored already.
    fn promote(
        &self,
        rows: Arc<CommitRows>,
        sha256: Hash,
        aliases: Vec<Digest>,
        small: Option<Vec<u8>>,
        mut record: impl FnMut(&WriteTransaction) -> Result<(), Error> + Send + 'static,
    ) -> Result<u64, Error> {
        let (disk, is_small, size) = (&self.store.0.disk, small.is_some(), self.size);
        disk.check_space()?;
        if !is_small {
            self.sync()?;
        }
        let _moving = self.store.0.moving_files.read().unwrap_or_else(PoisonError::into_inner);
        let id = self.store.0.database.write_together(move |write| {
            let whole = NewBlobRow { sha256, size, aliases: &aliases, small: small.as_deref() };
            let id = rows.promote(&mut Tables::open(write)?, &whole)?;
            record(write)?;
            Ok(id)
        })?;
        self.store.move_into_place(self.id, &sha256, is_small);
        Ok(id)
    }

    /// Removes the rows and the file, unless the handle has ended.
    fn remove(&self) -> Result<(), Error> {
        // Held to the end: another handle begins when rows and file are gone.
        let _live = lock(&self.store.0.live);
        if self.state().ended {
            return Ok(());
        }
        self.end();
        if self.has_rows() {
            self.store.remove_partial_rows(self.id, &self.root)?;
        }
        self.store.0.sources.forget(self.id);
        disk::unlink(&self.store.0.disk.incoming(self.id))
    }

    fn check_whole(&self) -> Result<(), Error> {
        let state = self.state();
        if state.ended {
            return Err(Error::Ended(self.root));
        }
        if state.extents.contain(0, self.size) {
            return Ok(());
        }
        Err(Error::Incomplete { root: self.root, written: state.extents.length(), size: self.size })
    }

    /// Holds that the file can be moved to its place: a row must not be promised a file that has lost its name.
    fn check_name(&self) -> Result<(), Error> {
        let path = self.store.0.disk.incoming(self.id);
        let Err(error) = std::fs::metadata(&path) else { return Ok(()) };
        if error.kind() == ErrorKind::NotFound {
            self.remove()?;
        }
        Err(Error::at(&path)(error))
    }

    /// The bytes, where they are few enough for the index.
    fn small(&self) -> io::Result<Option<Vec<u8>>> {
        if self.size > SMALL_BLOB_BYTES as u64 {
            return Ok(None);
        }
        let mut bytes = vec![0; self.size as usize];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(Some(bytes))
    }

    /// Has the disk take what is written. Where it fails, it is unknown what the disk has: only the rows count then.
    fn sync(&self) -> Result<(), Error> {
        let synced = self.file.sync_data().map_err(|e| self.failed(e));
        let synced = synced.and_then(|()| self.store.0.disk.sync_incoming());
        if synced.is_err() {
            self.state().broken = true;
        }
        synced
    }

    /// Takes nothing more.
    fn end(&self) {
        self.end_with(&mut self.state());
    }

    fn end_with(&self, state: &mut super::WriteState) {
        state.ended = true;
        let rest = std::mem::take(&mut state.pending);
        self.store.0.pending.forget(self.id, rest.iter().map(|(key, _)| key));
    }
}

impl CommitRows {
    fn save(&self, tables: &mut Tables) -> Result<(), Error> {
        self.own(tables)?;
        tables.set_origin(self.id, self.origin)?;
        tables.set_partial(self.id, (&*self.root.to_bytes(), self.size, self.extents.clone()))?;
        if let Some(Hashed { length, state }) = &self.hashed {
            tables.hashed.insert(self.id, (*length, state.as_slice()))?;
        }
        if tables.used.get(self.id)?.is_none() {
            tables.used.insert(self.id, now())?;
        }
        let key = BlockKey::of(&self.root);
        let is_known = tables.roots.get(key.bytes())?.is_some();
        if !is_known {
            tables.roots.insert(key.bytes(), self.id)?;
        }
        tables.used_ids(self.store.ids_used())
    }

    /// Turns the rows of a partial file into those of a stored one, unless its layout came in another way.
    fn promote(&self, tables: &mut Tables, whole: &NewBlobRow) -> Result<u64, Error> {
        tables.used_ids(self.store.ids_used())?;
        tables.add_blob(whole)?;
        if let Some(known) = tables.stored_root(&BlockKey::of(&self.root))? {
            if known != self.id {
                tables.remove_partial(self.id, &self.root)?;
                if self.origin == Origin::Peers {
                    tables.set_origin(known, self.origin)?;
                }
            }
            return Ok(known);
        }
        self.own(tables)?;
        tables.set_origin(self.id, self.origin)?;
        tables.forget_partial(self.id)?;
        tables.hashed.remove(self.id)?;
        tables.add_file(self.id, &self.root, whole)?;
        Ok(self.id)
    }

    fn own(&self, tables: &mut Tables) -> Result<(), Error> {
        self.blocks.iter().try_for_each(|(key, place)| tables.own(key, self.id, place))
    }
}
