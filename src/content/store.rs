//! Blobs on the disk: a blob is a file, a block is a window into it.
//!
//! ```text
//! blobs/<hex[0..2]>/<hex>   whole, named by their sha256
//! incoming/<id>             drafts (one end to the other) and partial files (sparse, any order)
//! index.redb                block -> owner and window; root, digest -> file; what is being downloaded
//! ```
//!
//! Data is on the disk before a row names it, one commit makes a blob stored, and only then is its file renamed:
//! whatever the moment of a crash, what was acknowledged is here and what is half is not served. Ids are never used
//! twice. Every call blocks.

mod blob_file;
mod blocks;
#[cfg(test)]
pub mod counting;
mod database;
mod demote;
mod disk;
mod draft;
mod error;
mod extents;
mod files;
mod gc_guard;
pub mod graph;
mod layout;
mod lost;
mod lots;
mod network;
mod origin;
mod partial;
mod pending;
mod recover;
mod remove;
mod repair;
mod source;
mod sweep;
mod tables;
mod trees;
mod upgrade;
mod uploads;
mod usage;
mod verify;

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::ErrorKind,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use ocipfs_node::{Block, Cid};
use ocipfs_oci::Digest;
use redb::{ReadableTableMetadata, WriteTransaction};

pub use blob_file::{BlobFile, Check};
pub use database::Database;
pub use draft::{Draft, Ready, Sealed};
pub use error::Error;
pub use files::is_stored;
pub use gc_guard::GcGuard;
pub use layout::{BlobLayout, Leaf};
pub use lost::DamagedBlob;
pub use network::share_again;
pub use origin::{Origin, note_from_peers};
pub use partial::{Hashed, PartialBlob};
pub use trees::{TreeVersion, add_tree};
pub use uploads::{SavedUpload, forget_upload};
pub use usage::now;
pub use verify::Damaged;

use blob_file::LastHashed;
use disk::Disk;
use extents::Extents;
use files::{Finished, WholeFile};
use gc_guard::Touched;
use layout::{Key, Place, frame};
use pending::Pending;
use remove::Unlinked;
use source::{Buffers, OpenBytes, Sources};
use tables::{
    ALIASES, BLOCKS, BYTES, FILES, Hash, META, NEXT_ID, PARTIAL, PARTIAL_BYTES, ROOTS, SHARED, SMALL, STORED,
    Tables,
};
use usage::UsageCounters;

/// Format that this version writes. Format 1 kept each block in a file, format 2 the blobs of a GC root in
/// one value.
pub const FORMAT: u64 = 3;

/// The blobs and blocks of one node directory. Clones are handles on the same.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    database: Arc<Database>,
    disk: Disk,
    sources: Sources,
    buffers: Buffers,
    pending: Pending,
    touched: Touched,
    usage: UsageCounters,
    last_hashed: LastHashed,
    /// Blobs that are unlinked while DOOMED still names them, and those that could not be.
    unlinked: Mutex<Unlinked>,
    next: AtomicU64,
    /// Whether the node ever left a network.
    left_network: AtomicBool,
    live: Mutex<HashMap<Key, Weak<partial::Inner>>>,
    /// Files that are about to be stored, and whose blocks are being recorded.
    begun: Mutex<HashSet<u64>>,
    /// Held from a commit until the files are where the rows say: read by who stores blobs, written by who removes one.
    placing: RwLock<()>,
    #[cfg(test)]
    work: Work,
}

/// Counters of the work of a store.
#[cfg(test)]
#[derive(Debug, Default)]
pub struct Work {
    /// Blocks that were looked for.
    pub reads: AtomicU64,
    /// Blocks that came from peers.
    pub puts: AtomicU64,
}

/// A blob that is here whole and was verified, with one of its layouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The layout's id.
    pub id: u64,
    /// The sha256 of the bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// The root of the layout.
    pub root: Cid,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStat {
    /// Stored blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their DAGs.
    pub layouts: u64,
    /// Blocks that have a row.
    pub blocks: u64,
    /// Files that are being downloaded.
    pub partial: u64,
    /// Bytes of those files that are on disk.
    pub partial_bytes: u64,
    /// Blobs that were found damaged and are not stored since.
    pub damaged: u64,
}

/// Locks what no panic leaves half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Opens the store in a node directory and sets right what a crash left.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        recover::check_format(dir)?;
        std::fs::create_dir_all(dir).map_err(Error::at(dir))?;
        let disk = Disk::open(dir)?;
        let database = Database::open(&dir.join("index.redb"))?;
        upgrade::prepare(&database)?;
        let next = database.read(|read| tables::number(&read.open_table(META)?, NEXT_ID))?.max(1);
        let left_network = database.read(network::left_network)?;
        let store = Self(Arc::new(Inner {
            database: Arc::new(database),
            disk,
            sources: Sources::default(),
            buffers: Buffers::default(),
            pending: Pending::default(),
            touched: Touched::default(),
            usage: UsageCounters::default(),
            last_hashed: LastHashed::default(),
            unlinked: Mutex::default(),
            next: AtomicU64::new(next),
            left_network: AtomicBool::new(left_network),
            live: Mutex::default(),
            begun: Mutex::default(),
            placing: RwLock::default(),
            #[cfg(test)]
            work: Work::default(),
        }));
        store.count_saved()?;
        store.recover()?;
        Ok(store)
    }

    /// Works with the store off the threads that must not wait for a disk.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || work(&store)).await.map_err(|_| Error::Stopped)?
    }

    /// The index file, for what else is kept in it.
    pub fn database(&self) -> Arc<Database> {
        self.0.database.clone()
    }

    /// The work of the store so far.
    #[cfg(test)]
    pub fn work(&self) -> &Work {
        &self.0.work
    }

    /// A file without a name for what is too much for the memory.
    pub fn scratch_file(&self) -> Result<File, Error> {
        self.0.disk.scratch(self.next_id())
    }

    /// The length of a block that is here.
    pub fn size(&self, cid: &Cid) -> Result<Option<u64>, Error> {
        let key = Key::of(cid);
        let place = match self.0.pending.get(&key) {
            Some(waiting) => Some(waiting.place),
            None => self.block_row(&key)?.map(|(_, place)| place),
        };
        Ok(place.map(|place| place.block_size(cid)))
    }

    /// The bytes of a block that is here.
    pub fn get(&self, cid: &Cid) -> Result<Option<Bytes>, Error> {
        #[cfg(test)]
        self.work().reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let key = Key::of(cid);
        // Before the index: what is committed in between is found there.
        if let Some(waiting) = self.0.pending.get(&key) {
            return self.read(cid, waiting.place, &waiting.source).map(Some);
        }
        // Again, where the owner was removed in between and another has the block.
        for _ in 0..2 {
            match self.block_row(&key)? {
                None => return Ok(None),
                Some((_, Place::Inline(block))) => return Ok(Some(block)),
                Some((owner, place)) => {
                    if let Some(source) = self.source(owner)? {
                        return self.read(cid, place, &source).map(Some);
                    }
                }
            }
        }
        Ok(None)
    }

    fn read(&self, cid: &Cid, place: Place, source: &OpenBytes) -> Result<Bytes, Error> {
        match place {
            Place::Inline(block) => Ok(block),
            Place::Window { offset, length } => {
                let (head, tail) = frame(cid, length);
                let read = self.0.buffers.read(source, offset, length as usize, (&head, &tail));
                read.map_err(|why| Error::Read { cid: *cid, why })
            }
        }
    }

    /// Keeps blocks that belong to no file, whose bytes the caller has verified.
    pub fn put_blocks(&self, blocks: &[Block]) -> Result<(), Error> {
        #[cfg(test)]
        self.work().puts.fetch_add(blocks.len() as u64, std::sync::atomic::Ordering::Relaxed);
        self.0.disk.check_space()?;
        self.check_room(blocks.iter().map(|block| block.data.len() as u64).sum())?;
        self.touch(blocks.iter().map(|block| Key::of(&block.cid)));
        let blocks = blocks.to_vec();
        self.0.database.write_together(move |write| Tables::open(write)?.put_blocks(&blocks))
    }

    /// Marks a block, or the file that it is the root of, as in use.
    pub fn touch_cid(&self, cid: &Cid) {
        self.touch([Key::of(cid)]);
    }

    /// A stored blob, by its sha256 or another of its digests.
    pub fn blob(&self, digest: &Digest) -> Result<Option<Stored>, Error> {
        self.0.database.read(|read| {
            let sha256 = match files::sha256(digest) {
                Ok(sha256) => Some(sha256),
                Err(_) => tables::row(read, ALIASES, digest.bytes(), |sha256| *sha256)?,
            };
            let Some(sha256) = sha256 else { return Ok(None) };
            let id = tables::row(read, STORED, &sha256, |(_, ids, _)| ids.first().copied())?.flatten();
            let Some(id) = id else { return Ok(None) };
            tables::row(read, FILES, id, |row| files::stored(id, row))?.transpose()
        })
    }

    /// A stored blob, by the root of any of its layouts.
    pub fn file(&self, root: &Cid) -> Result<Option<Stored>, Error> {
        self.0.database.read(|read| {
            let id = tables::row(read, ROOTS, Key::of(root).bytes(), |id| id)?;
            let Some(id) = id else { return Ok(None) };
            tables::row(read, FILES, id, |row| files::stored(id, row))?.transpose()
        })
    }

    /// Opens a stored blob; it stays readable when it is removed meanwhile.
    pub fn open_file(&self, stored: &Stored) -> Result<BlobFile, Error> {
        self.use_file(stored.id);
        let source = self.source(stored.id)?;
        let source = source.filter(|source| source.length().is_ok_and(|length| length >= stored.size));
        let source = source.ok_or_else(|| Error::Gone(stored.digest.clone()))?;
        Ok(BlobFile { store: self.clone(), stored: stored.clone(), source })
    }

    /// Adds another DAG over a stored blob.
    pub fn add_layout(&self, stored: &Stored, layout: &BlobLayout) -> Result<Stored, Error> {
        let sha256 = files::sha256(&stored.digest)?;
        let whole = WholeFile { sha256, size: stored.size, aliases: &[], small: None };
        self.0.disk.check_space()?;
        self.touch_layouts(std::slice::from_ref(layout));
        let id = self.next_id();
        let id = self.0.database.write(|write| {
            let mut tables = Tables::open(write)?;
            if redb::ReadableTable::get(&tables.stored, &sha256)?.is_none() {
                return Err(Error::Gone(stored.digest.clone()));
            }
            tables.used_ids(self.ids_used())?;
            tables.add_layout(id, layout, &whole)
        })?;
        Ok(Stored { id, root: layout.root, ..stored.clone() })
    }

    /// Stores what drafts hold, whose files, if they have any, are `incoming/<draft>` and are synced, and `blocks` that
    /// belong to no file. `also` runs in the same commit, which others share: it may run twice.
    fn add<T: Send + 'static>(
        &self,
        drafts: Vec<Finished>,
        blocks: Vec<Block>,
        mut also: impl FnMut(&WriteTransaction, &[Stored]) -> Result<T, Error> + Send + 'static,
    ) -> Result<(Vec<Stored>, T), Error> {
        drafts.iter().for_each(|finished| self.touch_layouts(&finished.layouts));
        self.touch(blocks.iter().map(|block| Key::of(&block.cid)));
        let places: Vec<_> =
            drafts.iter().map(|draft| (draft.id, draft.sha256, draft.small.is_some())).collect();
        let roots = self.partial_among(&drafts)?;
        let mut begun = Vec::new();
        for draft in &drafts {
            if let Some(layout) = draft.layouts.first() {
                begun.extend(self.begin_layout(draft.id, layout)?);
            }
        }
        let _placing = self.0.placing.read().unwrap_or_else(PoisonError::into_inner);
        let store = self.clone();
        let added = self.0.database.write_together(move |write| {
            let stored = {
                let mut tables = Tables::open(write)?;
                let stored = drafts.iter().map(|finished| store.add_rows(&mut tables, finished));
                let stored = stored.collect::<Result<Vec<_>, Error>>()?;
                tables.put_blocks(&blocks)?;
                tables.used_ids(store.ids_used())?;
                stored
            };
            let value = also(write, &stored)?;
            Ok((stored, value))
        })?;
        places.iter().for_each(|(id, sha256, in_index)| self.settle_file(*id, sha256, *in_index));
        for root in &roots {
            if let Err(error) = self.drop_copy(root) {
                tracing::warn!(%root, "partial download of a stored blob stays until the next start: {error}");
            }
        }
        Ok(added)
    }

    /// Does something in a commit in which the blob is still stored, and is known by these digests too.
    pub fn keep<T: Send + 'static>(
        &self,
        stored: &Stored,
        aliases: &[Digest],
        also: impl FnMut(&WriteTransaction, &Stored) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.keep_with(stored, aliases, None, also)
    }

    /// Does the same as [`Self::keep`], and writes the bytes of a blob that is stored in the index.
    fn keep_with<T: Send + 'static>(
        &self,
        stored: &Stored,
        aliases: &[Digest],
        small: Option<Vec<u8>>,
        mut also: impl FnMut(&WriteTransaction, &Stored) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let sha256 = files::sha256(&stored.digest)?;
        let (stored, aliases) = (stored.clone(), aliases.to_vec());
        self.0.database.write_together(move |write| {
            {
                let mut tables = Tables::open(write)?;
                if redb::ReadableTable::get(&tables.stored, &sha256)?.is_none() {
                    return Err(Error::Gone(stored.digest.clone()));
                }
                let (size, small) = (stored.size, small.as_deref());
                tables.add_blob(&WholeFile { sha256, size, aliases: &aliases, small })?;
                tables.share_again(stored.id)?;
            }
            also(write, &stored)
        })
    }

    fn add_rows(&self, tables: &mut Tables, finished: &Finished) -> Result<Stored, Error> {
        let (first, others) = finished.layouts.split_first().ok_or(Error::NoLayout)?;
        let whole = finished.whole();
        tables.add_blob(&whole)?;
        let id = tables.add_layout(finished.id, first, &whole)?;
        for layout in others {
            tables.add_layout(self.next_id(), layout, &whole)?;
        }
        files::stored(id, (&whole.sha256, whole.size, &first.root.to_bytes()))
    }

    /// Puts the file of a blob in its place, or away if the blob needs none. A file that is there already gives way: this
    /// one was hashed just now. What fails is done at the next opening.
    fn settle_file(&self, id: u64, sha256: &Hash, in_index: bool) {
        let disk = &self.0.disk;
        let settled = match in_index {
            true => disk::unlink(&disk.incoming(id)),
            false => disk.place(id, sha256).and_then(|()| self.forget_sources(sha256)),
        };
        match settled {
            Ok(()) => self.0.last_hashed.note(sha256),
            Err(error) => {
                tracing::warn!("cannot move a stored blob into place before the next start: {error}")
            }
        }
        self.0.sources.forget(id);
    }

    /// Closes the files of a blob that was written again.
    fn forget_sources(&self, sha256: &Hash) -> Result<(), Error> {
        let ids = self.0.database.read(|read| tables::row(read, STORED, sha256, |(_, ids, _)| ids))?;
        ids.unwrap_or_default().into_iter().for_each(|id| self.0.sources.forget(id));
        Ok(())
    }

    /// How much there is.
    pub fn stat(&self) -> Result<StoreStat, Error> {
        let (live, damaged) = (self.live(), self.lost()?.len() as u64);
        self.0.database.read(|read| {
            let (meta, rows) = (read.open_table(META)?, read.open_table(PARTIAL)?);
            let (mut partial, mut partial_bytes) = (rows.len()?, tables::number(&meta, PARTIAL_BYTES)?);
            for (id, file) in &live {
                let saved = redb::ReadableTable::get(&rows, id)?.map(|row| row.value().2);
                partial += u64::from(saved.is_none());
                let saved = saved.map_or(0, |parts| Extents::from_rows(parts).length());
                partial_bytes = (partial_bytes + file.written).saturating_sub(saved);
            }
            Ok(StoreStat {
                damaged,
                blobs: read.open_table(STORED)?.len()?,
                bytes: tables::number(&meta, BYTES)?,
                layouts: read.open_table(FILES)?.len()?,
                blocks: read.open_table(BLOCKS)?.len()?,
                partial,
                partial_bytes,
            })
        })
    }

    fn next_id(&self) -> u64 {
        self.0.next.fetch_add(1, Ordering::Relaxed)
    }

    fn ids_used(&self) -> u64 {
        self.0.next.load(Ordering::Relaxed)
    }

    /// An owner of a block that is not being removed, and where that one has it.
    fn block_row(&self, key: &Key) -> Result<Option<(u64, Place)>, Error> {
        self.0.database.read(|read| {
            let first = tables::row(read, BLOCKS, key.bytes(), |(owner, row)| (owner, Place::from_row(row)))?;
            let Some(first) = first else { return Ok(None) };
            if !sweep::is_removed(read, first.0)? {
                return Ok(Some(first));
            }
            for row in read.open_table(SHARED)?.range((key.bytes(), 0)..=(key.bytes(), u64::MAX))? {
                let (row_key, place) = row?;
                let owner = row_key.value().1;
                if !sweep::is_removed(read, owner)? {
                    return Ok(Some((owner, Place::from_row(place.value()))));
                }
            }
            Ok(None)
        })
    }

    fn file_row(&self, id: u64) -> Result<Option<(Hash, u64)>, Error> {
        self.0.database.read(|read| tables::row(read, FILES, id, |(sha256, size, _)| (*sha256, size)))
    }

    /// The bytes of a stored or a partial file; none if it was removed.
    fn source(&self, id: u64) -> Result<Option<OpenBytes>, Error> {
        if let Some(source) = self.0.sources.get(id) {
            return Ok(Some(source));
        }
        let source = match self.file_row(id)? {
            Some((sha256, _)) => self.blob_source(&sha256)?,
            None => self.open_at(&self.0.disk.incoming(id))?,
        };
        if let Some(source) = &source {
            self.0.sources.insert(id, source.clone());
        }
        Ok(source)
    }

    /// A blob is in the index, in its place, or still under the id it came in by, in this order.
    fn blob_source(&self, sha256: &Hash) -> Result<Option<OpenBytes>, Error> {
        let small = self.0.database.read(|read| tables::row(read, SMALL, sha256, Bytes::copy_from_slice))?;
        if let Some(bytes) = small {
            return Ok(Some(OpenBytes::Bytes(bytes)));
        }
        let ids = self.0.database.read(|read| tables::row(read, STORED, sha256, |(_, ids, _)| ids))?;
        let incoming = ids.unwrap_or_default().into_iter().map(|id| self.0.disk.incoming(id));
        let place = self.0.disk.blob(sha256);
        // In its place at last, as it may have moved while it was looked for.
        for path in [place.clone()].into_iter().chain(incoming).chain([place]) {
            if let Some(source) = self.open_at(&path)? {
                return Ok(Some(source));
            }
        }
        Ok(None)
    }

    fn open_at(&self, path: &Path) -> Result<Option<OpenBytes>, Error> {
        match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            other => other.map(|file| Some(OpenBytes::File(Arc::new(file)))).map_err(Error::at(path)),
        }
    }
}
