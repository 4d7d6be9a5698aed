//! Bytes that come from one end to the other, without a name until they are whole.

use std::{
    fs::File,
    io::{self, Cursor, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    sync::{
        Arc, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use ocipfs_node::Block;
use ocipfs_oci::Digest;
use redb::WriteTransaction;

use super::{
    BlobLayout, Error, Store, Stored,
    add::update_if_stored,
    disk,
    files::{NewBlob, sha256},
    usage::CountedBytes,
};

/// Blobs up to this size live in the index: a file would cost more than it holds.
pub const SMALL_BLOB_BYTES: usize = 64 << 10;
/// Written between two looks at the free space.
pub const CHECK_EVERY: u64 = 16 << 20;
/// Handed to the disk at once while more is written, so that the last sync has little to wait for.
const SYNC_EVERY: u64 = 32 << 20;

/// A blob that is being written; dropped, it leaves nothing.
pub struct Draft {
    store: Store,
    id: u64,
    /// The beginning, as long as it fits into the index.
    small: Vec<u8>,
    file: Option<DraftFile>,
    size: u64,
    /// A row says that its file is needed.
    saved: bool,
    counted: CountedBytes,
}

/// The file of a draft that outgrew the index.
struct DraftFile {
    file: Arc<File>,
    checked: u64,
    synced: u64,
    write_back: Option<WriteBack>,
}

/// A draft that is written to its end and synced; one of at most 64 KiB has no file, and is written by the commit. It holds no file open: many may wait to be stored together.
pub struct SyncedDraft(Draft);

/// A synced draft, its digests and its DAGs: what a commit needs to store it.
pub struct DraftToStore<'a> {
    /// The bytes.
    pub draft: &'a SyncedDraft,
    /// Their sha256.
    pub digest: &'a Digest,
    /// Other digests of the same bytes.
    pub aliases: &'a [Digest],
    /// Every DAG over them, at least one.
    pub layouts: &'a [BlobLayout],
}

struct WriteBack {
    turn: SyncSender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl Store {
    /// Begins a blob.
    pub fn draft(&self) -> Result<Draft, Error> {
        self.0.disk.check_space()?;
        let (id, counted) = (self.next_id(), self.counted(0, 0));
        Ok(Draft { store: self.clone(), id, small: Vec::new(), file: None, size: 0, saved: false, counted })
    }

    /// Goes on with the first `size` bytes of a draft of which `saved` were saved: with more than fit into the index, or
    /// from its beginning.
    pub fn resume_draft(&self, id: u64, size: u64, saved: u64) -> Result<Draft, Error> {
        let counted = self.counted(size, saved);
        let mut draft =
            Draft { store: self.clone(), id, small: Vec::new(), file: None, size, saved: true, counted };
        if size > 0 {
            let file = self.0.disk.create(id)?;
            (&file).seek(SeekFrom::Start(size)).map_err(Error::at(&self.0.disk.incoming(id)))?;
            draft.file =
                Some(DraftFile { file: Arc::new(file), checked: size, synced: size, write_back: None });
        }
        Ok(draft)
    }

    /// Stores drafts, and `blocks` that belong to no file, in one commit; of each draft the first layout's file is returned.
    pub fn store_all(&self, drafts: &[DraftToStore], blocks: &[Block]) -> Result<Vec<Stored>, Error> {
        let (stored, ()) = self.store_all_with(drafts, blocks, |_, _| Ok(()))?;
        Ok(stored)
    }

    /// Stores drafts and blocks like [`Self::store_all`]; `record` runs in the same commit, which others share: it may run
    /// twice.
    pub fn store_all_with<T: Send + 'static>(
        &self,
        drafts: &[DraftToStore],
        blocks: &[Block],
        record: impl FnMut(&WriteTransaction, &[Stored]) -> Result<T, Error> + Send + 'static,
    ) -> Result<(Vec<Stored>, T), Error> {
        let new_blobs = drafts.iter().map(DraftToStore::new_blob).collect::<Result<Vec<_>, _>>()?;
        self.store_new_blobs(new_blobs, blocks.to_vec(), record)
    }

    /// Stores drafts and blocks like [`Self::store_all`]; in the same commit `known` blobs are still stored, and are known
    /// by these digests too, as if they were written again.
    pub fn store_all_and_keep(
        &self,
        drafts: &[DraftToStore],
        known: Vec<(Stored, Vec<Digest>)>,
        blocks: &[Block],
    ) -> Result<(), Error> {
        let keep = move |write: &WriteTransaction, _: &[Stored]| {
            known.iter().try_for_each(|(stored, aliases)| update_if_stored(write, stored, aliases, None))
        };
        self.store_all_with(drafts, blocks, keep).map(drop)
    }

    fn store_new_blobs<T: Send + 'static>(
        &self,
        drafts: Vec<NewBlob>,
        blocks: Vec<Block>,
        record: impl FnMut(&WriteTransaction, &[Stored]) -> Result<T, Error> + Send + 'static,
    ) -> Result<(Vec<Stored>, T), Error> {
        self.0.disk.check_space()?;
        if drafts.iter().any(|new_blob| new_blob.small.is_none()) {
            self.0.disk.sync_incoming()?;
        }
        self.add_blobs(drafts, blocks, record)
    }
}

impl Draft {
    /// Adds bytes to the end.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.size += bytes.len() as u64;
        self.counted.add(bytes.len() as u64)?;
        if self.file.is_none() {
            if self.small.len() + bytes.len() <= SMALL_BLOB_BYTES {
                self.small.extend_from_slice(bytes);
                return Ok(());
            }
            let file = Arc::new(self.store.0.disk.create(self.id)?);
            self.file = Some(DraftFile { file, checked: 0, synced: 0, write_back: None });
            let beginning = std::mem::take(&mut self.small);
            self.append(&beginning)?;
        }
        self.append(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(sheet) = &mut self.file else { return Ok(()) };
        let disk = &self.store.0.disk;
        if self.size - sheet.checked >= CHECK_EVERY {
            sheet.checked = self.size;
            disk.check_space()?;
        }
        (&*sheet.file).write_all(bytes).map_err(Error::at(&disk.incoming(self.id)))?;
        if self.size - sheet.synced >= SYNC_EVERY {
            sheet.synced = self.size;
            sheet.write_back().map_err(Error::at(&disk.incoming(self.id)))?;
        }
        Ok(())
    }

    /// The number of bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn has_file(&self) -> bool {
        self.size > SMALL_BLOB_BYTES as u64
    }

    /// The id of its file.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Makes the written bytes durable, with `tail`, which follows them and does not count as written yet. The file stays from
    /// now on, until it is stored or discarded.
    pub fn save(&mut self, tail: &[u8]) -> Result<(), Error> {
        let disk = &self.store.0.disk;
        let path = disk.incoming(self.id);
        disk.check_space()?;
        let file = match &self.file {
            Some(sheet) => sheet.file.clone(),
            None => {
                let file = disk.create(self.id)?;
                file.write_all_at(&self.small, 0).map_err(Error::at(&path))?;
                Arc::new(file)
            }
        };
        file.write_all_at(tail, self.size).map_err(Error::at(&path))?;
        file.sync_data().map_err(Error::at(&path))?;
        disk.sync_incoming()?;
        self.saved = true;
        Ok(())
    }

    /// Leaves the count of `length` bytes to the row that names this draft.
    pub fn count_saved(&mut self, length: u64) {
        self.counted.save(length);
    }

    /// Cuts off bytes that were written after the last save.
    pub fn cut_off(&self) -> Result<(), Error> {
        let Some(sheet) = &self.file else { return Ok(()) };
        sheet.file.set_len(self.size).map_err(Error::at(&self.store.0.disk.incoming(self.id)))
    }

    /// Hands over all of its bytes, piece by piece.
    pub fn replay(&self, mut to: impl FnMut(&[u8])) -> Result<(), Error> {
        let path = self.store.0.disk.incoming(self.id);
        let file = match &self.file {
            Some(sheet) => sheet.file.clone(),
            None if self.has_file() => Arc::new(File::open(&path).map_err(Error::at(&path))?),
            None => {
                to(&self.small);
                return Ok(());
            }
        };
        let mut buffer = vec![0; 1 << 20];
        let mut offset = 0;
        while offset < self.size {
            let part = &mut buffer[..(self.size - offset).min(1 << 20) as usize];
            file.read_exact_at(part, offset).map_err(Error::at(&path))?;
            to(part);
            offset += part.len() as u64;
        }
        Ok(())
    }

    /// Removes it, whatever was saved of it; its row is gone.
    pub fn discard(mut self) {
        self.saved = false;
        // Also where it is short, and has a file only since it was saved.
        self.size = self.size.max(SMALL_BLOB_BYTES as u64 + 1);
    }

    /// Waits until all of it is on the disk.
    pub fn sync(mut self) -> Result<SyncedDraft, Error> {
        if let Some(sheet) = self.file.take() {
            sheet.sync().map_err(Error::at(&self.store.0.disk.incoming(self.id)))?;
        }
        Ok(SyncedDraft(self))
    }

    /// Stores the written bytes under `digest`, their sha256, with every layout; the first one's file is returned.
    pub fn store(self, digest: &Digest, aliases: &[Digest], layouts: &[BlobLayout]) -> Result<Stored, Error> {
        let (stored, ()) = self.sync()?.commit_with(digest, aliases, layouts, &[], |_, _| Ok(()))?;
        Ok(stored)
    }
}

/// What is read from any place.
pub trait ReadSeek: Read + Seek + Send {}

impl<T: Read + Seek + Send> ReadSeek for T {}

impl SyncedDraft {
    /// Opens its bytes.
    pub fn open(&self) -> Result<Box<dyn ReadSeek>, Error> {
        if !self.0.has_file() {
            return Ok(Box::new(Cursor::new(self.0.small.clone())));
        }
        let path = self.0.store.0.disk.incoming(self.0.id);
        Ok(Box::new(File::open(&path).map_err(Error::at(&path))?))
    }

    /// Hands over all of its bytes, piece by piece.
    pub fn replay(&self, to: impl FnMut(&[u8])) -> Result<(), Error> {
        self.0.replay(to)
    }

    /// Removes it, whatever was saved of it; its row is gone.
    pub fn discard(self) {
        self.0.discard();
    }

    /// Does something in a commit in which the blob is still stored, and puts these bytes in the place of those that are
    /// there: they were hashed just now.
    pub fn replace<T: Send + 'static>(
        &self,
        stored: &Stored,
        aliases: &[Digest],
        record: impl FnMut(&WriteTransaction, &Stored) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (draft, sha256) = (&self.0, sha256(&stored.digest)?);
        let store = &draft.store;
        let small = (!draft.has_file()).then(|| draft.small.clone());
        let is_small = small.is_some();
        // So that it stays stored until the file is there.
        let _moving = store.0.moving_files.read().unwrap_or_else(PoisonError::into_inner);
        let value = store.keep_stored_with(stored, aliases, small, record)?;
        if !is_small {
            store.move_into_place(draft.id, &sha256, false);
        }
        Ok(value)
    }

    /// Stores it, and keeps `blocks` that belong to no file, and what `record` does, in the same commit. Others share that,
    /// so `record` may run twice.
    pub fn commit_with<T: Send + 'static>(
        self,
        digest: &Digest,
        aliases: &[Digest],
        layouts: &[BlobLayout],
        blocks: &[Block],
        mut record: impl FnMut(&WriteTransaction, &Stored) -> Result<T, Error> + Send + 'static,
    ) -> Result<(Stored, T), Error> {
        let new_blob = DraftToStore { draft: &self, digest, aliases, layouts }.new_blob()?;
        let record = move |write: &WriteTransaction, stored: &[Stored]| {
            stored.first().ok_or(Error::NoLayout).and_then(|stored| record(write, stored))
        };
        let (mut stored, value) = self.0.store.store_new_blobs(vec![new_blob], blocks.to_vec(), record)?;
        Ok((stored.pop().ok_or(Error::NoLayout)?, value))
    }
}

impl DraftToStore<'_> {
    fn new_blob(&self) -> Result<NewBlob, Error> {
        let Self { draft: SyncedDraft(draft), digest, aliases, layouts } = *self;
        Ok(NewBlob {
            id: draft.id,
            sha256: sha256(digest)?,
            size: draft.size,
            aliases: aliases.to_vec(),
            small: (!draft.has_file()).then(|| draft.small.clone()),
            layouts: layouts.to_vec(),
        })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.saved
            && let (Some(sheet), Some(length)) = (&self.file, self.counted.cut())
            && let Err(error) = sheet.file.set_len(length)
        {
            tracing::warn!("cannot count the size of an upload: {error}");
        }
        // A commit that failed late may yet be on the disk: then the file is needed.
        let needed = || self.saved || !matches!(self.store.file_row(self.id), Ok(None));
        if !self.has_file() || needed() {
            return;
        }
        if let Err(error) = disk::unlink(&self.store.0.disk.incoming(self.id)) {
            tracing::warn!("draft stays until the next start: {error}");
        }
    }
}

impl DraftFile {
    /// Starts to write back the file in another thread, unless that is still running.
    fn write_back(&mut self) -> io::Result<()> {
        if self.write_back.is_none() {
            let (turn, turns) = sync_channel(1);
            let file = self.file.clone();
            let work = move || turns.iter().try_for_each(|()| file.sync_data());
            let thread = thread::Builder::new().name("write-back".into()).spawn(work)?;
            self.write_back = Some(WriteBack { turn, thread });
        }
        if let Some(write_back) = &self.write_back {
            // A thread that ended with an error says so at the end.
            let _ = write_back.turn.try_send(());
        }
        Ok(())
    }

    fn sync(self) -> io::Result<()> {
        if let Some(WriteBack { turn, thread }) = self.write_back {
            drop(turn);
            // An error that one sync has told is not told by the next.
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        self.file.sync_data()
    }
}
