//! Stores files whose blocks come one after the other, as in a bundle. Each file is stored in one commit, once all of it is
//! here and has its digest; a file that is not complete stays a partial blob, and is resumed the next time.
//!
//! ```text
//! put ─► places (where a block belongs) ─► writer (the bytes, the running hash) ─► finisher (syncs and commits)
//! ```
//!
//! Each stage is a thread with a short queue. Blocks come in the order of their file, each as often as the file has it; the first
//! time, it fills every place that is known, since the others may be in a part of the bundle that is imported alone.

mod finisher;
mod places;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use ocipfs_node::{Block, Cid, as_v1, inline_bytes};
use ocipfs_oci::Digest;
use ocipfs_unixfs::DagNode;

use super::{
    Content, Error, locked,
    store::{Error as StoreError, Leaf, Origin, PartialBlob},
};
use finisher::{Commit, Finisher};
use places::{Place, Places};
use writer::{Job, Writer};

/// Blocks that wait to be written, of 2 MiB at most.
const WRITER_QUEUE: usize = 8;
/// Files, or small files, that wait to be committed.
const FINISHER_QUEUE: usize = 8;
/// Files of which a part came, and more may come.
const MAX_OPEN_FILES: usize = 64;

/// A file that is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedFile {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// The root of its DAG.
    pub root: Cid,
    /// Whether its bytes are stored: then its blocks are passed over.
    pub is_stored: bool,
}

/// A file that came whole and has another digest than was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongFile {
    /// The digest that was expected.
    pub digest: Digest,
    /// Description of the difference.
    pub why: String,
}

/// Stores the files that are expected as their blocks come. It blocks. What came stays where it is dropped.
pub struct FileImporter {
    content: Content,
    files: Vec<ExpectedFile>,
    /// By their roots in version 1.
    by_root: HashMap<Cid, usize>,
    /// Those whose root came.
    begun: HashSet<usize>,
    open: HashMap<usize, PartialBlob>,
    places: Places,
    wrong: Arc<Mutex<Vec<WrongFile>>>,
    origin: Origin,
    stages: Option<Stages>,
}

struct Stages {
    writer: SyncSender<Job>,
    finisher: SyncSender<Commit>,
    threads: [JoinHandle<Result<(), Error>>; 2],
}

impl FileImporter {
    /// Begins with nothing expected. What is stored is retained under `gc_root` as cached content is, until it is released; who
    /// may learn of it follows from `origin`.
    pub fn new(content: Content, gc_root: Cid, origin: Origin) -> Result<Self, Error> {
        let wrong = Arc::new(Mutex::new(Vec::new()));
        let (to_writer, jobs) = sync_channel(WRITER_QUEUE);
        let (to_finisher, commits) = sync_channel(FINISHER_QUEUE);
        let finisher = Finisher::new(content.clone(), (gc_root, origin), wrong.clone());
        let finisher = spawn("import-commit", move || finisher.run(&commits))?;
        let writer = Writer::new(to_finisher.clone());
        let writer = spawn("import-write", move || writer.run(&jobs))?;
        let stages = Stages { writer: to_writer, finisher: to_finisher, threads: [writer, finisher] };
        let (files, by_root, begun, open, places) = Default::default();
        Ok(Self { content, files, by_root, begun, open, places, wrong, origin, stages: Some(stages) })
    }

    /// Expects a file.
    pub fn expect(&mut self, file: ExpectedFile) -> Result<(), Error> {
        let (number, root) = (self.files.len(), file.root);
        self.by_root.insert(as_v1(&root), number);
        self.files.push(file);
        match inline_bytes(&root) {
            // Its CID carries all of it.
            Some(bytes) => self.root(Block { cid: root, data: bytes.to_vec().into() }, number),
            None => Ok(()),
        }
    }

    /// Returns at most how many bytes of files a block fills: one that many places of a file have fills all that are known. The
    /// caller may refuse it before anything is written.
    pub fn fills(&self, block: &Block) -> u64 {
        self.places.bytes_of(&as_v1(&block.cid), block.data.len() as u64)
    }

    /// Takes a block that the caller has verified. Returns false if no file has it at this place.
    pub fn put(&mut self, block: Block) -> Result<bool, Error> {
        let key = as_v1(&block.cid);
        let children = if self.places.of(&key) > 1 { children(&block)? } else { 0 };
        let (places, file) = (self.places.take(&key, children), self.by_root.get(&key).copied());
        // A node comes again where a bundle was split.
        let is_known = !places.is_empty()
            || file.is_some()
            || self.places.is_node(&key)
            || self.places.comes_again(&key);
        if let Some(file) = file.filter(|file| self.begun.insert(*file)) {
            self.root(block.clone(), file)?;
        }
        let files: Vec<usize> = places.iter().filter_map(|place| place.file).collect();
        for place in places {
            self.place(block.clone(), place)?;
        }
        // After the last of its places, which count as taken since the first.
        for file in files.into_iter().filter(|file| self.places.is_complete(*file)) {
            self.open.remove(&file);
        }
        Ok(is_known)
    }

    /// Takes the first block of a file.
    fn root(&mut self, block: Block, file: usize) -> Result<(), Error> {
        let ExpectedFile { digest, size, root, is_stored } = self.files[file].clone();
        let node = DagNode::decode(&block.cid, block.data.clone())?;
        let DagNode::File { data, children } = node else {
            return Err(Error::Corrupt { cid: root, why: "expected a file".into() });
        };
        // Of what is stored already the blocks are only told from others.
        let passed_over = Place { file: None, offset: 0, length: size, depth: 0 };
        if is_stored {
            return self.place(block, passed_over);
        }
        if children.is_empty() {
            return match data.len() as u64 == size {
                true => self.commit(Commit::Single { digest, block, data }),
                false => Err(Error::Corrupt { cid: root, why: format!("expected a file of {size} bytes") }),
            };
        }
        if self.open.len() >= MAX_OPEN_FILES {
            return Err(Error::Corrupt { cid: root, why: "the blocks of too many files are mixed".into() });
        }
        let partial = match self.content.store().begin_partial(root, size) {
            // It came in another way meanwhile.
            Err(StoreError::Stored(_)) => return self.place(block, passed_over),
            begun => begun?,
        };
        self.content.store().check_claim(size.saturating_sub(partial.written()))?;
        partial.set_origin(self.origin);
        self.open.insert(file, partial.clone());
        self.write(Job::Open { file, digest, partial })?;
        self.place(block, Place { file: Some(file), offset: 0, length: size, depth: 0 })
    }

    /// Takes a block at its place in a file.
    fn place(&mut self, block: Block, place: Place) -> Result<(), Error> {
        let Block { cid, data: bytes } = block;
        let DagNode::File { data, children } = DagNode::decode(&cid, bytes.clone())? else {
            return Err(Error::Corrupt { cid, why: "expected part of a file".into() });
        };
        let length = data.len() as u64 + children.iter().map(|child| child.size).sum::<u64>();
        if length != place.length {
            let why = format!("expected a file part of {} bytes, found {length}", place.length);
            return Err(Error::Corrupt { cid, why });
        }
        if let Some(file) = place.file {
            self.place_in_file(file, place.offset, cid, bytes, &data)?;
        }
        if !children.is_empty() {
            let carried = self.places.expand(&cid, &place, data.len() as u64, &children)?;
            return carried.into_iter().try_for_each(|(block, place)| self.place(block, place));
        }
        Ok(())
    }

    fn place_in_file(
        &mut self,
        file: usize,
        offset: u64,
        cid: Cid,
        block: Bytes,
        data: &Bytes,
    ) -> Result<(), Error> {
        let Some(partial) = self.open.get(&file) else { return Ok(()) };
        if data.is_empty() {
            return match partial.insert_node(cid, block) {
                // It was stored, or discarded, meanwhile.
                Err(StoreError::Ended(_)) => Ok(()),
                inserted => Ok(inserted?),
            };
        }
        // The data is a part of the block, in the same memory.
        let start = data.as_ptr() as usize - block.as_ptr() as usize;
        let leaf = Leaf { cid, offset, length: data.len() as u64 };
        self.write(Job::Leaf { file, leaf, block, data: start..start + data.len() })
    }

    /// Waits until all that came is stored, or saved to be resumed. Returns the files that are not what was expected.
    pub fn finish(mut self) -> Result<Vec<WrongFile>, Error> {
        self.end()?;
        Ok(std::mem::take(&mut *locked(&self.wrong)))
    }

    fn write(&mut self, job: Job) -> Result<(), Error> {
        match self.stages.as_ref().map(|stages| stages.writer.send(job)) {
            Some(Ok(())) => Ok(()),
            _ => self.failed(),
        }
    }

    fn commit(&mut self, commit: Commit) -> Result<(), Error> {
        let is_sent = self.stages.as_ref().is_some_and(|stages| stages.finisher.send(commit).is_ok());
        if is_sent { Ok(()) } else { self.failed() }
    }

    /// Returns why a stage has ended.
    fn failed(&mut self) -> Result<(), Error> {
        self.end()?;
        Err(StoreError::BrokenOff.into())
    }

    /// Ends the stages, and returns why one of them failed.
    fn end(&mut self) -> Result<(), Error> {
        let Some(Stages { writer, finisher, threads: [writing, finishing] }) = self.stages.take() else {
            return Ok(());
        };
        drop(writer);
        let written = join(writing);
        drop(finisher);
        // The cause is further down.
        join(finishing).and(written)
    }
}

impl Drop for FileImporter {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::debug!("import ended: {error}");
        }
    }
}

/// Returns how many children a block has.
fn children(block: &Block) -> Result<usize, Error> {
    Ok(match DagNode::decode(&block.cid, block.data.clone())? {
        DagNode::File { children, .. } => children.len(),
        _ => 0,
    })
}

fn spawn(
    name: &str,
    work: impl FnOnce() -> Result<(), Error> + Send + 'static,
) -> Result<JoinHandle<Result<(), Error>>, Error> {
    let spawned = thread::Builder::new().name(name.into()).spawn(work);
    Ok(spawned.map_err(StoreError::Thread)?)
}

fn join(thread: JoinHandle<Result<(), Error>>) -> Result<(), Error> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
