//! Bytes that come from one end to the other, without a name until they are whole.

use std::{
    fs::File,
    io::{self, Write},
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use ocipfs_node::Block;
use ocipfs_oci::Digest;

use super::{Added, Error, Layout, Store, Stored, disk, files::Whole, files::sha256, usage::Counted};

/// Blobs up to this size live in the index: a file would cost more than it holds.
pub const SMALL: usize = 64 << 10;
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
    file: Option<Sheet>,
    size: u64,
    counted: Counted,
}

/// The file of a draft that outgrew the index.
struct Sheet {
    file: Arc<File>,
    checked: u64,
    synced: u64,
    write_back: Option<WriteBack>,
}

/// A draft that is written to its end and on the disk. It holds no file open: many may wait to be stored together.
pub struct Sealed(Draft);

/// A sealed draft, and what it is to be stored as.
pub struct Ready<'a> {
    /// The bytes.
    pub draft: &'a Sealed,
    /// Their sha256.
    pub digest: &'a Digest,
    /// Other digests of the same bytes.
    pub aliases: &'a [Digest],
    /// Every DAG over them, at least one.
    pub layouts: &'a [Layout],
}

struct WriteBack {
    turn: SyncSender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl Store {
    /// Begins a blob.
    pub fn draft(&self) -> Result<Draft, Error> {
        self.0.disk.check_space()?;
        let id = self.next_id();
        let counted = self.counted();
        Ok(Draft { store: self.clone(), id, small: Vec::new(), file: None, size: 0, counted })
    }

    /// Stores drafts, and `blocks` that belong to no file, in one commit; of each draft the first layout's file is returned.
    pub fn store_all(&self, drafts: &[Ready], blocks: &[Block]) -> Result<Vec<Stored>, Error> {
        self.0.disk.check_space()?;
        if drafts.iter().any(|ready| ready.draft.0.has_file()) {
            self.0.disk.sync_incoming()?;
        }
        let added = drafts.iter().map(Ready::added).collect::<Result<Vec<_>, _>>()?;
        self.add(&added, blocks)
    }
}

impl Draft {
    /// Adds bytes to the end.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.size += bytes.len() as u64;
        self.counted.add(bytes.len() as u64)?;
        if self.file.is_none() {
            if self.small.len() + bytes.len() <= SMALL {
                self.small.extend_from_slice(bytes);
                return Ok(());
            }
            let file = Arc::new(self.store.0.disk.create(self.id)?);
            self.file = Some(Sheet { file, checked: 0, synced: 0, write_back: None });
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
        self.size > SMALL as u64
    }

    /// Waits until all of it is on the disk.
    pub fn seal(mut self) -> Result<Sealed, Error> {
        if let Some(sheet) = self.file.take() {
            sheet.sync().map_err(Error::at(&self.store.0.disk.incoming(self.id)))?;
        }
        Ok(Sealed(self))
    }

    /// Stores what was written under `digest`, its sha256, with every layout; the first one's file is returned.
    pub fn finish(self, digest: &Digest, aliases: &[Digest], layouts: &[Layout]) -> Result<Stored, Error> {
        self.seal()?.finish_with(digest, aliases, layouts, &[])
    }
}

impl Sealed {
    /// Stores it, and keeps `blocks` that belong to no file in the same commit: a directory that names it.
    pub fn finish_with(
        self,
        digest: &Digest,
        aliases: &[Digest],
        layouts: &[Layout],
        blocks: &[Block],
    ) -> Result<Stored, Error> {
        let ready = Ready { draft: &self, digest, aliases, layouts };
        self.0.store.store_all(&[ready], blocks)?.pop().ok_or(Error::NoLayout)
    }
}

impl<'a> Ready<'a> {
    fn added(&self) -> Result<Added<'a>, Error> {
        let Self { draft: Sealed(draft), digest, aliases, layouts } = *self;
        let small = (!draft.has_file()).then_some(draft.small.as_slice());
        let whole = Whole { sha256: sha256(digest)?, size: draft.size, aliases, small };
        Ok(Added { whole, layouts, draft: draft.id })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // A commit that failed late may yet be on the disk: then the file is needed.
        let needed = || !matches!(self.store.file_row(self.id), Ok(None));
        if !self.has_file() || needed() {
            return;
        }
        if let Err(error) = disk::unlink(&self.store.0.disk.incoming(self.id)) {
            tracing::warn!("a draft is left behind until the next start: {error}");
        }
    }
}

impl Sheet {
    /// Has another thread write back what is there; while it is at it, nothing more is asked of it.
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
