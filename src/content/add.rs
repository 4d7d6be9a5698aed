//! Files and directories as a client adds them: each a root of its own, pinned or not.

mod memory;

use std::{fmt::Display, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use ocipfs_node::{Block, Cid};
use ocipfs_unixfs::{DagOptions, Entries, Metadata, Root};
use redb::WriteTransaction;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{
    BlobWriter, Content, Error, FileOptions, GcGuard, PIECE_BYTES, Pieces, Store, StoreError, Stored,
    WrittenBlob,
    blob_writer::HashOnly,
    store::{index, note_from_peers},
};

pub use memory::AddingMemory;
use memory::{Held, NoMemory};

/// Parts of a body that wait to be hashed and written, and the bytes of each: a piece of the writer, which copies nothing of it.
const QUEUE_LENGTH: usize = 2;
/// A shorter file is hashed and written at once.
const SHORT_BYTES: usize = 64 << 10;
/// Leaves of one file, which are in memory until it is stored.
const MAX_LEAVES: u64 = 1 << 19;
/// Memory of one of them, with the link to it, and of a file besides.
const LEAF_BYTES: u64 = 160;
const FILE_BYTES: u64 = 512;
/// Files that wait to be stored in one commit, and the bytes of those that are in memory.
const MAX_WAITING: usize = 512;
const MAX_WAITING_BYTES: u64 = 4 << 20;

/// Why a file cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// Its bytes did not come.
    #[error("the request body ended early: {0}")]
    Body(String),
    /// It has too many chunks.
    #[error("the file has more than {MAX_LEAVES} chunks: choose a chunker with longer ones")]
    TooManyChunks,
    /// Its chunks take more memory than there is for what is added.
    #[error(
        "the chunks of the file take more memory than --max-memory leaves for files that are added: \
         choose a chunker with longer ones, such as size-1048576, or raise --max-memory"
    )]
    TooMuchMemory,
    /// Others take it.
    #[error("other files take the memory that --max-memory leaves for files being added: try again later")]
    Busy,
    /// It cannot be stored.
    #[error(transparent)]
    Content(#[from] Error),
}

impl From<NoMemory> for AddError {
    fn from(none: NoMemory) -> Self {
        match none {
            NoMemory::TooMuch => Self::TooMuchMemory,
            NoMemory::Busy => Self::Busy,
        }
    }
}

impl From<StoreError> for AddError {
    fn from(error: StoreError) -> Self {
        Self::Content(error.into())
    }
}

/// Adds files and directories. Dropped, it discards everything that is not committed.
pub struct Adder {
    content: Content,
    options: FileOptions,
    /// Nothing is stored.
    is_dry: bool,
    waiting: Vec<WrittenBlob>,
    waiting_bytes: u64,
    blocks: Vec<Block>,
    /// The memory of what waits.
    held: Held,
    _guard: GcGuard,
}

impl Content {
    /// Begins to add files; with `is_dry` their CIDs are computed, and nothing is stored.
    pub async fn adder(&self, options: FileOptions, is_dry: bool) -> Adder {
        let (content, _guard) = (self.clone(), self.gc_guard().await);
        let held = self.0.adding.held();
        Adder { content, options, is_dry, waiting: vec![], waiting_bytes: 0, blocks: vec![], held, _guard }
    }
}

impl Adder {
    /// Adds a file; `progress` is told its bytes so far.
    pub async fn file<E: Display>(
        &mut self,
        mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
        mut progress: impl FnMut(u64),
    ) -> Result<Root, AddError> {
        let (mut bytes, stall) = (BytesMut::with_capacity(SHORT_BYTES), self.content.stall_timeout());
        while bytes.len() <= SHORT_BYTES {
            match next(&mut body, stall).await? {
                Some(part) => bytes.extend_from_slice(&part),
                None => {
                    progress(bytes.len() as u64);
                    return self.short(bytes.freeze()).await;
                }
            }
        }
        let (parts, queue) = channel(QUEUE_LENGTH);
        let (store, options, is_dry) = (self.content.store().clone(), self.options, self.is_dry);
        let writing = tokio::task::spawn_blocking(move || write(&store, options, is_dry, queue));
        let held = (!is_dry).then(|| self.content.0.adding.held());
        let mut feed = Feed {
            parts,
            open: Vec::new(),
            pieces: Pieces::default(),
            length: 0,
            chunk: self.chunk_bytes(),
            held,
        };
        let fed = feed.body(bytes.freeze(), body, stall, progress).await;
        let Feed { parts, held, .. } = feed;
        if fed.is_err() {
            let _ = parts.send(None).await;
        }
        drop(parts);
        let written = writing.await.map_err(Error::stopped)?;
        fed?;
        let (root, written) = written?;
        if let Some(written) = written {
            let layout = written.layout_bytes();
            held.into_iter().for_each(|held| self.held.merge(held));
            self.wait(written, layout).await?;
        }
        Ok(root)
    }

    /// The shortest chunk of a file, but for its last one.
    fn chunk_bytes(&self) -> u64 {
        self.options.chunker.min_bytes() as u64
    }

    async fn short(&mut self, bytes: Bytes) -> Result<Root, AddError> {
        let (store, options, length) = (self.content.store().clone(), self.options, bytes.len() as u64);
        if self.is_dry {
            let mut hash = HashOnly::new(options);
            hash.write(&bytes);
            return Ok(hash.close());
        }
        self.hold(length + FILE_BYTES + length / self.chunk_bytes() * LEAF_BYTES).await?;
        let write = move || WrittenBlob::of(&store, options, bytes);
        let written = tokio::task::spawn_blocking(write).await.map_err(Error::stopped)??;
        let root = written.root;
        self.wait(written, length).await?;
        Ok(root)
    }

    /// Holds memory for what is to wait. Where there is none, what waits is stored first.
    async fn hold(&mut self, bytes: u64) -> Result<(), AddError> {
        if self.held.grow(bytes).is_ok() {
            return Ok(());
        }
        self.commit(Vec::new(), "").await?;
        Ok(self.held.grow(bytes)?)
    }

    /// Puts a file among those that the next commit stores.
    async fn wait(&mut self, written: WrittenBlob, in_memory: u64) -> Result<(), AddError> {
        self.waiting.push(written);
        self.waiting_bytes += in_memory;
        if self.waiting.len() >= MAX_WAITING || self.waiting_bytes >= MAX_WAITING_BYTES {
            self.commit(Vec::new(), "").await?;
        }
        Ok(())
    }

    /// Gives the files, directories and links that are added next this mode and time.
    pub fn set_metadata(&mut self, metadata: Metadata) {
        self.options.dag.metadata = metadata;
    }

    /// Adds a symbolic link.
    pub async fn symlink(&mut self, target: &str) -> Result<Root, AddError> {
        let (root, block) = self.options.dag.symlink(target);
        self.keep(vec![block]).await?;
        Ok(root)
    }

    /// Adds a directory of added entries.
    pub async fn directory(&mut self, entries: Entries) -> Result<Root, AddError> {
        let options: DagOptions = self.options.dag;
        let document = options.directory_of(entries);
        self.keep(document.blocks).await?;
        Ok(document.root)
    }

    async fn keep(&mut self, blocks: Vec<Block>) -> Result<(), AddError> {
        if !self.is_dry {
            let bytes = blocks.iter().map(|block| block.data.len() as u64).sum::<u64>();
            self.hold(bytes + blocks.len() as u64 * LEAF_BYTES).await?;
            self.waiting_bytes += bytes;
            self.blocks.extend(blocks);
            if self.waiting_bytes >= MAX_WAITING_BYTES {
                self.commit(Vec::new(), "").await?;
            }
        }
        Ok(())
    }

    /// Whether all that was added is stored.
    pub fn is_committed(&self) -> bool {
        self.waiting.is_empty() && self.blocks.is_empty()
    }

    /// Stores everything added so far, and pins roots in the same commit.
    pub async fn commit(&mut self, pins: Vec<Cid>, pin_name: &str) -> Result<(), AddError> {
        if self.is_dry {
            return Ok(());
        }
        let (waiting, blocks) = (std::mem::take(&mut self.waiting), std::mem::take(&mut self.blocks));
        self.waiting_bytes = 0;
        // Until the end of the commit.
        let _held = std::mem::replace(&mut self.held, self.content.0.adding.held());
        let arrived: Vec<Cid> = waiting
            .iter()
            .map(|written| written.root.cid)
            .chain(blocks.iter().map(|block| block.cid))
            .collect();
        self.content.0.gc.spare_blocks(blocks.iter().map(|block| &block.cid));
        let (pinned, pin_name) = (pins.clone(), pin_name.to_owned());
        let commit = move |store: &Store| commit(store, &waiting, &blocks, pins, pin_name);
        self.content.store().run(commit).await?;
        self.content.node().arrived(&arrived);
        self.content.announce_kept(&[]).await?;
        Ok(self.content.announce(pinned).await?)
    }
}

fn commit(
    store: &Store,
    waiting: &[WrittenBlob],
    blocks: &[Block],
    pins: Vec<Cid>,
    pin_name: String,
) -> Result<(), StoreError> {
    let digests: Vec<_> = waiting.iter().map(|written| written.digest.clone()).collect();
    let digests = digests.into_iter().map(|digest| digest.ok_or(StoreError::BrokenOff));
    let digests = digests.collect::<Result<Vec<_>, _>>()?;
    let drafts: Vec<_> =
        waiting.iter().zip(&digests).map(|(written, digest)| written.to_store(digest, &[])).collect();
    let also = move |write: &WriteTransaction, stored: &[Stored]| {
        stored.iter().try_for_each(|stored| note_from_peers(write, &stored.root))?;
        pins.iter().try_for_each(|cid| index::add_pin(write, cid, &[*cid], true, &pin_name))
    };
    store.store_all_with(&drafts, blocks, also)?;
    Ok(())
}

/// Hands the bytes of a file to the thread that hashes and writes them.
struct Feed {
    parts: Sender<Option<Bytes>>,
    /// The next part, which is not full.
    open: Vec<u8>,
    pieces: Pieces,
    length: u64,
    chunk: u64,
    /// The memory of the chunks; none where they are not stored.
    held: Option<Held>,
}

impl Feed {
    async fn body<E: Display>(
        &mut self,
        first: Bytes,
        mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
        stall: Duration,
        mut progress: impl FnMut(u64),
    ) -> Result<(), AddError> {
        let mut next_bytes = Some(first);
        while let Some(mut bytes) = next_bytes {
            self.count(bytes.len() as u64)?;
            while !bytes.is_empty() {
                self.pieces.make_room(&mut self.open);
                let missing = PIECE_BYTES - self.open.len();
                self.open.extend_from_slice(&bytes.split_to(missing.min(bytes.len())));
                // It hangs up before the end only with an error, which the caller sees then.
                if self.open.len() == PIECE_BYTES && !self.send().await {
                    return Ok(());
                }
            }
            progress(self.length);
            next_bytes = next(&mut body, stall).await?;
        }
        self.send().await;
        Ok(())
    }

    /// Counts the chunks of the next bytes.
    fn count(&mut self, bytes: u64) -> Result<(), AddError> {
        let before = self.length / self.chunk;
        self.length += bytes;
        let leaves = self.length / self.chunk;
        if leaves > MAX_LEAVES {
            return Err(AddError::TooManyChunks);
        }
        match &mut self.held {
            Some(held) if leaves > before => Ok(held.grow((leaves - before) * LEAF_BYTES)?),
            _ => Ok(()),
        }
    }

    async fn send(&mut self) -> bool {
        let part = self.pieces.take(&mut self.open);
        self.parts.send(Some(part)).await.is_ok()
    }
}

/// Writes or hashes the parts of a file; one that is none breaks it off.
fn write(
    store: &Store,
    options: FileOptions,
    is_dry: bool,
    mut parts: Receiver<Option<Bytes>>,
) -> Result<(Root, Option<WrittenBlob>), StoreError> {
    let mut sink = match is_dry {
        true => Sink::Hash(Box::new(HashOnly::new(options))),
        false => Sink::Put(Box::new(BlobWriter::new(store, options)?)),
    };
    while let Some(part) = parts.blocking_recv() {
        sink.write(part.ok_or(StoreError::BrokenOff)?)?;
    }
    sink.close()
}

/// The next part of a body; none at its end.
async fn next<E: Display>(
    body: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
    stall: Duration,
) -> Result<Option<Bytes>, AddError> {
    match tokio::time::timeout(stall, body.next()).await {
        Ok(part) => part.transpose().map_err(|error| AddError::Body(error.to_string())),
        Err(_) => Err(AddError::Body(format!("no bytes received for {} s", stall.as_secs()))),
    }
}

/// Where the bytes of a file go.
enum Sink {
    Put(Box<BlobWriter>),
    Hash(Box<HashOnly>),
}

impl Sink {
    fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        match self {
            Self::Put(put) => put.write(bytes),
            Self::Hash(hash) => {
                hash.write(&bytes);
                Ok(())
            }
        }
    }

    fn close(self) -> Result<(Root, Option<WrittenBlob>), StoreError> {
        match self {
            Self::Put(put) => put.finish().map(|written| (written.root, Some(written))),
            Self::Hash(hash) => Ok((hash.close(), None)),
        }
    }
}

#[cfg(test)]
mod tests;
