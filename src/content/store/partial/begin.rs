//! Beginning a partial blob, or resuming one from its rows.

use std::{
    fs::File,
    io::ErrorKind,
    sync::{Arc, Mutex, Weak, atomic::AtomicBool},
};

use ocipfs_node::Cid;

use super::{Hashed, PartialBlob, PartialBlobInner, PartialProgress, WriteState};
use crate::content::store::{
    Error, Store, disk,
    extents::Extents,
    layout::BlockKey,
    lock,
    source::OpenBytes,
    sweep::BlockSweep,
    tables::{self, FILES, HASHED, PARTIAL, ROOTS, Tables},
};

/// State of a partial blob as its rows record it.
struct Known {
    id: u64,
    size: u64,
    extents: Extents,
    hashed: Option<Hashed>,
}

impl Store {
    /// Begins a file, or goes on where its rows say; the handle of who is at it already is shared.
    pub fn begin_partial(&self, root: Cid, size: u64) -> Result<PartialBlob, Error> {
        let key = BlockKey::of(&root);
        self.guard_keys([key.clone()]);
        // Dropped after `live` is unlocked, since the drop of the last handle locks it.
        let _ended;
        let mut live = lock(&self.0.live);
        let inner = match live.get(&key).and_then(Weak::upgrade) {
            Some(inner) if !inner.state().ended => inner,
            ended => {
                _ended = ended;
                let inner = Arc::new(self.begin(root, size, self.known(&key, &root)?)?);
                live.insert(key, Arc::downgrade(&inner));
                inner
            }
        };
        drop(live);
        if inner.size != size {
            return Err(Error::Outside { root, size: inner.size, offset: 0, length: size });
        }
        Ok(PartialBlob(inner))
    }

    /// Begins a file that is only streamed through to one reader, and not kept.
    pub fn stream_through(&self, root: Cid, size: u64) -> Result<PartialBlob, Error> {
        let mut inner = self.begin(root, size, None)?;
        inner.is_streaming_through = true;
        self.0.sources.forget(inner.id);
        disk::unlink(&self.0.disk.incoming(inner.id))?;
        Ok(PartialBlob(Arc::new(inner)))
    }

    fn known(&self, key: &BlockKey, root: &Cid) -> Result<Option<Known>, Error> {
        self.0.database.read(|read| {
            let Some(id) = tables::row(read, ROOTS, key.bytes(), |id| id)? else { return Ok(None) };
            if tables::row(read, FILES, id, |_| ())?.is_some() {
                return Err(Error::Stored(*root));
            }
            let known = tables::row(read, PARTIAL, id, |(_, size, parts)| (size, Extents::from_rows(parts)))?;
            let Some((size, extents)) = known else { return Ok(None) };
            let hashed =
                tables::row(read, HASHED, id, |(length, state)| Hashed { length, state: state.into() })?;
            let hashed = hashed.filter(|hashed| extents.contain(0, hashed.length));
            Ok(Some(Known { id, size, extents, hashed }))
        })
    }

    fn begin(&self, root: Cid, size: u64, known: Option<Known>) -> Result<PartialBlobInner, Error> {
        if let Some(known) = known {
            if let Some(file) = self.open_known(&known)? {
                let Known { id, size, extents, hashed } = known;
                let hash_saved = hashed.as_ref().map_or(0, |hashed| hashed.length);
                let origin = self.origin_of_file(id)?;
                let state = WriteState { extents, hashed, hash_saved, origin, ..WriteState::default() };
                return Ok(self.handle(id, root, size, file, state));
            }
            // Without its file a row is worth nothing.
            self.remove_partial_rows(known.id, &root)?;
        }
        self.0.disk.check_space()?;
        let id = self.next_id();
        let file = self.0.disk.create(id)?;
        Ok(self.handle(id, root, size, file, WriteState::default()))
    }

    /// The file that a row names, if it has all that the row says.
    fn open_known(&self, known: &Known) -> Result<Option<File>, Error> {
        let path = self.0.disk.incoming(known.id);
        match File::options().read(true).write(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::at(&path)(error)),
            Ok(file) => {
                let length = file.metadata().map_err(Error::at(&path))?.len();
                Ok((length >= known.extents.end()).then_some(file))
            }
        }
    }

    fn handle(&self, id: u64, root: Cid, size: u64, file: File, state: WriteState) -> PartialBlobInner {
        let file = Arc::new(file);
        self.0.sources.insert(id, OpenBytes::File(file.clone()));
        self.use_file(id);
        let (state, settling) = (Mutex::new(state), Mutex::default());
        let is_cached = AtomicBool::default();
        PartialBlobInner {
            store: self.clone(),
            id,
            root,
            size,
            file,
            state,
            settling,
            is_cached,
            is_streaming_through: false,
        }
    }

    pub(in crate::content::store) fn remove_partial_rows(&self, id: u64, root: &Cid) -> Result<(), Error> {
        self.0.database.write(|write| {
            let mut tables = Tables::open(write)?;
            tables.remove_partial(id, root)?;
            // A small file goes at once with all of its blocks.
            BlockSweep::new(self).lot(&mut tables)
        })
    }

    /// The partial files, here or at the next call of `begin_partial`.
    #[cfg(test)]
    pub fn partial(&self) -> Result<Vec<PartialProgress>, Error> {
        let mut all = self.partial_rows()?;
        all.extend(self.live());
        Ok(all.into_values().collect())
    }

    /// Those that are being fetched now, by their ids.
    pub fn live(&self) -> Vec<(u64, PartialProgress)> {
        let live: Vec<Arc<PartialBlobInner>> =
            lock(&self.0.live).values().filter_map(Weak::upgrade).collect();
        let is_open = |inner: &&Arc<PartialBlobInner>| !inner.state().ended;
        live.iter().filter(is_open).map(|inner| (inner.id, inner.progress())).collect()
    }

    #[cfg(test)]
    fn partial_rows(&self) -> Result<std::collections::BTreeMap<u64, PartialProgress>, Error> {
        use redb::ReadableTable;
        self.0.database.read(|read| {
            let mut all = std::collections::BTreeMap::new();
            for row in read.open_table(PARTIAL)?.iter()? {
                let (id, row) = row?;
                let (root, size, parts) = row.value();
                let root = Cid::try_from(root).map_err(|e| Error::Damaged(e.to_string()))?;
                let written = Extents::from_rows(parts).length();
                all.insert(id.value(), PartialProgress { root, size, written, is_live: false });
            }
            Ok(all)
        })
    }
}
