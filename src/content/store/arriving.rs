//! A file that comes in any order: a sparse file, what of it is written, and rows that follow the disk.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, ErrorKind},
    ops::Range,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex, MutexGuard, Weak},
};

use bytes::Bytes;
use ocipfs_node::Cid;

use super::{
    Error, Leaf, Store, disk,
    draft::CHECK_EVERY,
    extents::Extents,
    layout::{Key, Place, frame},
    lock,
    pending::Waiting,
    source::Source,
    tables::{self, ARRIVING, FILES, ROOTS},
};

mod settle;

/// A file that is arriving. Clones write the same; there is one for each root.
#[derive(Clone)]
pub struct Arriving(Arc<Inner>);

/// How far an arriving file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Its root.
    pub root: Cid,
    /// Its size.
    pub size: u64,
    /// The bytes of it that are here.
    pub written: u64,
    /// Whether somebody is at it.
    pub is_live: bool,
}

impl Progress {
    /// What it takes of the room there is: all of it while it comes.
    pub fn reserved(&self) -> u64 {
        if self.is_live { self.size } else { self.written }
    }
}

pub(super) struct Inner {
    store: Store,
    id: u64,
    root: Cid,
    size: u64,
    file: Arc<File>,
    state: Mutex<State>,
    /// Held by the one checkpoint, `finish` or `discard` that is at work.
    settling: Mutex<()>,
    /// Only passed on: it has no rows and no name on the disk, and its parts go when they were read.
    is_passing: bool,
}

#[derive(Default)]
struct State {
    extents: Extents,
    /// Rows to be committed when what they name is synced.
    pending: Vec<(Key, Place)>,
    /// Whether there are rows that need the file.
    saved: bool,
    unchecked: u64,
    ended: bool,
}

type Known = (u64, u64, Extents);

impl Store {
    /// Begins a file, or goes on where its rows say; the handle of who is at it already is shared.
    pub fn arrive(&self, root: Cid, size: u64) -> Result<Arriving, Error> {
        let key = Key::of(&root);
        self.touch([key.clone()]);
        let mut live = lock(&self.0.live);
        let shared = live.get(&key).and_then(Weak::upgrade).filter(|inner| !inner.state().ended);
        let inner = match shared {
            Some(inner) => inner,
            None => {
                let inner = Arc::new(self.begin(root, size, self.known(&key, &root)?)?);
                live.insert(key, Arc::downgrade(&inner));
                inner
            }
        };
        drop(live);
        if inner.size != size {
            return Err(Error::Outside { root, size: inner.size, offset: 0, length: size });
        }
        Ok(Arriving(inner))
    }

    /// Begins a file that is only passed on to one reader, and not kept.
    pub fn pass_on(&self, root: Cid, size: u64) -> Result<Arriving, Error> {
        let mut inner = self.begin(root, size, None)?;
        inner.is_passing = true;
        self.0.sources.forget(inner.id);
        disk::unlink(&self.0.disk.incoming(inner.id))?;
        Ok(Arriving(Arc::new(inner)))
    }

    fn known(&self, key: &Key, root: &Cid) -> Result<Option<Known>, Error> {
        self.0.database.read(|read| {
            let Some(id) = tables::row(read, ROOTS, key.bytes(), |id| id)? else { return Ok(None) };
            if tables::row(read, FILES, id, |_| ())?.is_some() {
                return Err(Error::Stored(*root));
            }
            tables::row(read, ARRIVING, id, |(_, size, parts)| (id, size, Extents::from_rows(parts)))
        })
    }

    fn begin(&self, root: Cid, size: u64, known: Option<Known>) -> Result<Inner, Error> {
        let (id, size, extents, file) = match known {
            Some((id, size, extents)) => {
                let path = self.0.disk.incoming(id);
                let file = File::options().read(true).write(true).open(&path).map_err(Error::at(&path))?;
                (id, size, extents, file)
            }
            None => {
                self.0.disk.check_space()?;
                let id = self.next_id();
                (id, size, Extents::default(), self.0.disk.create(id)?)
            }
        };
        let saved = extents != Extents::default();
        let state = Mutex::new(State { extents, saved, ..State::default() });
        let file = Arc::new(file);
        self.0.sources.insert(id, Source::File(file.clone()));
        self.use_file(id);
        let settling = Mutex::default();
        Ok(Inner { store: self.clone(), id, root, size, file, state, settling, is_passing: false })
    }

    /// The files that are arriving, here or at the next call of `arrive`.
    pub fn arriving(&self) -> Result<Vec<Progress>, Error> {
        let mut all = self.arriving_rows()?;
        all.extend(self.live());
        Ok(all.into_values().collect())
    }

    /// Those that are being fetched now, by their ids.
    pub fn live(&self) -> Vec<(u64, Progress)> {
        let live: Vec<Arc<Inner>> = lock(&self.0.live).values().filter_map(Weak::upgrade).collect();
        let is_open = |inner: &&Arc<Inner>| !inner.state().ended;
        live.iter().filter(is_open).map(|inner| (inner.id, inner.progress())).collect()
    }

    fn arriving_rows(&self) -> Result<BTreeMap<u64, Progress>, Error> {
        use redb::ReadableTable;
        self.0.database.read(|read| {
            let mut all = BTreeMap::new();
            for row in read.open_table(ARRIVING)?.iter()? {
                let (id, row) = row?;
                let (root, size, parts) = row.value();
                let root = Cid::try_from(root).map_err(|e| Error::Damaged(e.to_string()))?;
                let written = Extents::from_rows(parts).length();
                all.insert(id.value(), Progress { root, size, written, is_live: false });
            }
            Ok(all)
        })
    }
}

impl Arriving {
    /// The root of its DAG.
    pub fn root(&self) -> Cid {
        self.0.root
    }

    /// The file's length in bytes.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// How many bytes of it are written.
    pub fn written(&self) -> u64 {
        self.0.progress().written
    }

    /// Whether the data of this leaf is written here, at this place.
    pub fn has(&self, leaf: &Leaf) -> bool {
        self.has_range(leaf.offset, leaf.length)
    }

    /// Whether every byte of a range is written.
    pub fn has_range(&self, offset: u64, length: u64) -> bool {
        self.0.state().extents.contain(offset, offset.saturating_add(length))
    }

    /// How many bytes from an offset on are written without a gap.
    pub fn available(&self, offset: u64) -> u64 {
        self.0.state().extents.from(offset)
    }

    /// Keeps an inner node of the DAG, whose bytes the caller has verified; parents come before children.
    pub fn insert_node(&self, cid: Cid, block: Bytes) -> Result<(), Error> {
        self.0.take(Key::of(&cid), Place::Inline(block), (0, 0))
    }

    /// Writes the data of a leaf, which is `data` of its `block` that the caller has verified.
    pub fn write(&self, leaf: &Leaf, block: &Bytes, data: Range<usize>) -> Result<(), Error> {
        let inner = &self.0;
        let end = leaf.offset.checked_add(leaf.length).filter(|end| *end <= inner.size);
        let bytes = block.get(data.clone()).filter(|bytes| bytes.len() as u64 == leaf.length);
        let (Some(end), Some(bytes)) = (end, bytes) else {
            let Leaf { offset, length, .. } = *leaf;
            return Err(Error::Outside { root: inner.root, size: inner.size, offset, length });
        };
        inner.check_space(leaf.length)?;
        inner.file.write_all_at(bytes, leaf.offset).map_err(|e| inner.failed(e))?;
        let (head, tail) = frame(&leaf.cid, leaf.length);
        let is_framed = block[..data.start] == head && block[data.end..] == tail;
        let place = if is_framed { Place::window(leaf) } else { Place::Inline(block.clone()) };
        inner.take(Key::of(&leaf.cid), place, (leaf.offset, end))
    }

    /// Whether it is only passed on.
    pub fn is_passing(&self) -> bool {
        self.0.is_passing
    }

    /// Gives back the disk's room before an offset, where the file is only passed on: it is not read there again.
    pub fn forget_before(&self, offset: u64) -> Result<(), Error> {
        match self.0.is_passing && offset > 0 {
            true => disk::punch(&self.0.file, offset).map_err(|e| self.0.failed(e)),
            false => Ok(()),
        }
    }

    /// Reads what is written; where something of it is not, it is an error of kind `UnexpectedEof`.
    pub fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        if !self.has_range(offset, length as u64) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let source = Source::File(self.0.file.clone());
        self.0.store.0.buffers.read(&source, offset, length, (&[], &[]))
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn progress(&self) -> Progress {
        let written = self.state().extents.length();
        Progress { root: self.root, size: self.size, written, is_live: true }
    }

    /// Takes up a block whose data, if it has any here, is in the file from `start` to `end`.
    fn take(&self, key: Key, place: Place, (start, end): (u64, u64)) -> Result<(), Error> {
        let mut state = self.state();
        if state.ended {
            return Err(Error::Ended(self.root));
        }
        state.extents.insert(start, end);
        if self.is_passing {
            return Ok(());
        }
        state.pending.push((key.clone(), place.clone()));
        // Within the lock, so that a checkpoint that commits the row finds it here to be forgotten.
        let source = Source::File(self.file.clone());
        self.store.0.pending.insert(key, Waiting { owner: self.id, place, source });
        Ok(())
    }

    fn check_space(&self, length: u64) -> Result<(), Error> {
        let mut state = self.state();
        state.unchecked += length;
        if state.unchecked < CHECK_EVERY {
            return Ok(());
        }
        state.unchecked = 0;
        drop(state);
        self.store.0.disk.check_space()
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::at(&self.store.0.disk.incoming(self.id))(error)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let state = std::mem::take(&mut *self.state());
        self.store.0.pending.forget(self.id, state.pending.iter().map(|(key, _)| key));
        let key = Key::of(&self.root);
        let mut live = lock(&self.store.0.live);
        // Another may have begun since.
        if live.get(&key).is_some_and(|inner| inner.strong_count() == 0) {
            live.remove(&key);
        }
        drop(live);
        if !state.saved && !state.ended {
            self.store.0.sources.forget(self.id);
            if let Err(error) = disk::unlink(&self.store.0.disk.incoming(self.id)) {
                tracing::warn!("an unsaved file is left behind until the next start: {error}");
            }
        }
    }
}
