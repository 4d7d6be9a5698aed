//! Writes a blob that is read once from its start to its end: chunked, hashed twice and written, by threads where there are cores
//! for them. A blob passes these stages until it is stored:
//!
//! ```text
//! BlobWriter ──finish──► WrittenBlob (root, sha256, blocks) ──store──► store::SyncedDraft ──► store::NewBlob (rows) ──► Stored
//! ```
//!
//! ```text
//!            ┌─► whole   sha256 of all of it (left out where the caller has it, or the pass over the leaves computes it)
//! pieces ────┼─► leaves  the CIDs of the blocks, and the tree above them
//!            └─► writer  the draft
//! ```
//!
//! Each has a short queue, so memory is bounded by the slowest.

mod chunker;
mod known;
mod pieces;
mod worker;

#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, LazyLock},
    thread,
};

use bytes::Bytes;
use ocipfs_node::Block;
use ocipfs_oci::{Algorithm, Digest, Hasher};
use ocipfs_unixfs::Root;
use redb::WriteTransaction;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    MIB,
    store::{BlobLayout, Draft, DraftToStore, Error, Leaf, ReadSeek, Store, Stored, SyncedDraft},
};
pub use chunker::{DagChunker, FileOptions, HashOnly};
pub use known::KnownBlob;
pub use pieces::Pieces;
use worker::Worker;

/// A whole number of leaves of either profile.
pub const PIECE_BYTES: usize = MIB;

/// Permits for puts with threads of their own; other puts hash and write in the caller's thread.
static THREAD_PERMITS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(*CORES)));
static CORES: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

/// Threads that one blob keeps busy: the one that receives it, and three here. Where there are fewer cores, one pass hashes leaves and
/// whole: that takes less time than two passes together, and longer than each.
const BUSY_THREADS: usize = 4;

/// A blob on its way into the store. Dropped, it leaves nothing.
pub struct BlobWriter {
    /// Bytes that do not fill a whole piece yet.
    open: Vec<u8>,
    pieces: Pieces,
    whole: Option<Worker<Hasher>>,
    leaves: Worker<DagChunker>,
    writer: Worker<Draft>,
    threads: Option<OwnedSemaphorePermit>,
}

/// A blob that is written and hashed, and not visible yet.
pub struct WrittenBlob {
    /// The top of its DAG.
    pub root: Root,
    /// Its sha256, where it was not left to the caller.
    pub digest: Option<Digest>,
    layout: BlobLayout,
    draft: SyncedDraft,
}

impl BlobWriter {
    /// Begins a blob whose sha256 is computed here.
    pub fn new(store: &Store, options: impl Into<FileOptions>) -> Result<Self, Error> {
        Ok(Self::hashed(store.draft()?, options.into()))
    }

    /// Begins a blob whose sha256 the caller computes.
    pub fn unhashed(store: &Store, options: impl Into<FileOptions>) -> Result<Self, Error> {
        Ok(Self::of(store.draft()?, DagChunker::new(options.into())))
    }

    /// Goes on with one that was saved: what is there of it is hashed again.
    pub fn resume(
        store: &Store,
        options: impl Into<FileOptions>,
        file: u64,
        length: u64,
    ) -> Result<Self, Error> {
        let whole_pieces = length - length % PIECE_BYTES as u64;
        let all = store.resume_draft(file, length, length)?;
        all.cut_off()?;
        let mut writer = Self::hashed(store.resume_draft(file, whole_pieces, length)?, options.into());
        all.replay(|bytes| {
            writer.append(bytes);
            if writer.open.len() == PIECE_BYTES {
                let piece = writer.pieces.take(&mut writer.open);
                writer.whole.iter_mut().for_each(|whole| drop(whole.work(&piece)));
                drop(writer.leaves.work(&piece));
            }
        })?;
        Ok(writer)
    }

    fn hashed(draft: Draft, options: FileOptions) -> Self {
        if options.hashes_whole() && *CORES < BUSY_THREADS {
            return Self::of(draft, DagChunker::with_whole(options));
        }
        let mut writer = Self::of(draft, DagChunker::new(options));
        writer.whole = Some(hash_whole());
        writer
    }

    fn of(draft: Draft, chunker: DagChunker) -> Self {
        let leaves = Worker::new("leaves", chunker, |chunker, piece| {
            chunker.push(piece);
            Ok(())
        });
        let writer = Worker::new("writer", draft, |draft, piece| draft.write(piece));
        Self { open: Vec::new(), pieces: Pieces::default(), whole: None, leaves, writer, threads: None }
    }

    /// Takes the next bytes, and waits where they come faster than they are hashed and written.
    pub fn write(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        while !bytes.is_empty() {
            let missing = PIECE_BYTES - self.open.len();
            let part = bytes.split_to(missing.min(bytes.len()));
            match part.len() {
                PIECE_BYTES => self.give(part)?,
                _ => self.write_slice(&part)?,
            }
        }
        Ok(())
    }

    /// Takes the next bytes by copying them.
    pub fn write_slice(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(PIECE_BYTES - self.open.len()));
            self.append(part);
            bytes = rest;
            if self.open.len() == PIECE_BYTES {
                let piece = self.pieces.take(&mut self.open);
                self.give(piece)?;
            }
        }
        Ok(())
    }

    /// Adds bytes to the open piece: with room for a few, or for a whole piece, since many uploads may rest with what they have.
    fn append(&mut self, bytes: &[u8]) {
        if self.open.len() + bytes.len() > PIECE_BYTES / 16 {
            self.pieces.make_room(&mut self.open);
        }
        self.open.extend_from_slice(bytes);
    }

    fn give(&mut self, piece: Bytes) -> Result<(), Error> {
        if self.threads.is_none() {
            self.threads = THREAD_PERMITS.clone().try_acquire_owned().ok();
        }
        if self.threads.is_none() {
            return self.work(&piece);
        }
        if let Some(whole) = &mut self.whole {
            whole.give(piece.clone())?;
        }
        self.leaves.give(piece.clone())?;
        self.writer.give(piece)
    }

    /// Hashes and writes a piece here.
    fn work(&mut self, piece: &[u8]) -> Result<(), Error> {
        if let Some(whole) = &mut self.whole {
            whole.work(piece)?;
        }
        self.leaves.work(piece)?;
        self.writer.work(piece)
    }

    /// Waits until what came is hashed and written, and needs no threads until more comes.
    pub fn rest(&mut self) -> Result<(), Error> {
        self.writer.stop()?;
        if let Some(whole) = &mut self.whole {
            whole.stop()?;
        }
        self.leaves.stop()?;
        self.threads = None;
        self.pieces.free();
        Ok(())
    }

    /// Makes what came durable, and gives the id of its file. It stays from now on, until it is stored or discarded.
    pub fn save(&mut self) -> Result<u64, Error> {
        self.rest()?;
        let draft = self.writer.at_rest()?;
        draft.save(&self.open)?;
        Ok(draft.id())
    }

    /// Stops counting the saved bytes, `length` of them: the row that names the draft counts them now.
    pub fn count_saved(&mut self, length: u64) -> Result<(), Error> {
        self.writer.at_rest()?.count_saved(length);
        Ok(())
    }

    /// Removes the file. Call it once the row of its saved part is gone.
    pub fn discard(self) {
        if let Ok(draft) = self.writer.end() {
            draft.discard();
        }
    }

    /// Waits for all of it to be hashed and written.
    pub fn finish(mut self) -> Result<WrittenBlob, Error> {
        let last = Bytes::from(std::mem::take(&mut self.open));
        match self.threads.is_some() {
            _ if last.is_empty() => {}
            true => self.give(last)?,
            // A short blob needs no threads.
            false => self.work(&last)?,
        }
        // While the last of it is still hashed.
        let draft = self.writer.end()?.sync()?;
        let digest = self.whole.map(Worker::end).transpose()?.map(Hasher::finish);
        let (root, layout, hashed) = self.leaves.end()?.finish();
        Ok(WrittenBlob { root, digest: digest.or(hashed), layout, draft })
    }

    /// Stores the blob under the sha256 computed here.
    pub fn store(self) -> Result<(Stored, Root), Error> {
        let written = self.finish()?;
        let digest = written.digest.clone().ok_or(Error::BrokenOff)?;
        let root = written.root;
        Ok((written.store(&digest, &[], &[])?, root))
    }
}

impl WrittenBlob {
    /// Writes what is in memory: for a few bytes, threads would cost more than they save.
    pub fn of(store: &Store, options: impl Into<FileOptions>, bytes: Bytes) -> Result<Self, Error> {
        let mut draft = store.draft()?;
        draft.write(&bytes)?;
        let mut chunker = DagChunker::with_whole(options.into());
        chunker.push(&bytes);
        let (root, layout, hashed) = chunker.finish();
        let digest = hashed.or_else(|| Some(Digest::sha256_of(&bytes)));
        Ok(Self { root, digest, layout, draft: draft.sync()? })
    }

    /// Returns about how many bytes its layout needs in memory.
    pub fn layout_bytes(&self) -> u64 {
        let nodes: usize = self.layout.nodes.iter().map(|node| node.data.len()).sum();
        (nodes + self.layout.leaves.len() * size_of::<Leaf>()) as u64
    }

    /// Returns the blob as part of a commit that stores several.
    pub fn to_store<'a>(&'a self, digest: &'a Digest, aliases: &'a [Digest]) -> DraftToStore<'a> {
        DraftToStore { draft: &self.draft, digest, aliases, layouts: std::slice::from_ref(&self.layout) }
    }

    /// Stores the blob; `blocks` that belong to no file are kept in the same commit.
    pub fn store(self, digest: &Digest, aliases: &[Digest], blocks: &[Block]) -> Result<Stored, Error> {
        let layouts = std::slice::from_ref(&self.layout);
        let (stored, ()) = self.draft.commit_with(digest, aliases, layouts, blocks, |_, _| Ok(()))?;
        Ok(stored)
    }

    /// Stores the blob and does something else in the same commit, which others share: `record` may run twice.
    pub fn store_with<T: Send + 'static>(
        self,
        digest: &Digest,
        aliases: &[Digest],
        record: impl FnMut(&WriteTransaction, &Stored) -> Result<T, Error> + Send + 'static,
    ) -> Result<(Stored, T), Error> {
        self.draft.commit_with(digest, aliases, std::slice::from_ref(&self.layout), &[], record)
    }

    /// Puts the bytes in the place of those that are stored, and does something else in a commit in which they still are.
    pub fn replace<T: Send + 'static>(
        &self,
        stored: &Stored,
        aliases: &[Digest],
        record: impl FnMut(&WriteTransaction, &Stored) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.draft.replace(stored, aliases, record)
    }

    /// Opens its bytes.
    pub fn open(&self) -> Result<Box<dyn ReadSeek>, Error> {
        self.draft.open()
    }

    /// The digest of its bytes by another algorithm.
    pub fn hash(&self, algorithm: Algorithm) -> Result<Digest, Error> {
        let mut hasher = Hasher::new(algorithm);
        self.draft.replay(|bytes| hasher.update(bytes))?;
        Ok(hasher.finish())
    }

    /// Removes it and its saved part.
    pub fn discard(self) {
        self.draft.discard();
    }
}

fn hash_whole() -> Worker<Hasher> {
    Worker::new("whole", Hasher::new(Algorithm::Sha256), |hasher, piece| {
        hasher.update(piece);
        Ok(())
    })
}
