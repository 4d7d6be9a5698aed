//! Bytes coming in: cut once, and hashed twice and written by a thread each.
//!
//! ```text
//!            ┌─► whole   sha256 of all of it (left out where the caller has it)
//! pieces ────┼─► leaves  the CIDs of the blocks, and the tree above them
//!            └─► writer  the draft
//! ```
//!
//! Each has a short queue, so memory is bounded by the slowest.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use bytes::{Bytes, BytesMut};
use ocipfs_node::Block;
use ocipfs_oci::{Algorithm, Digest, Hasher};

use super::{
    MIB, Profile,
    dag::{Builder, Root},
    store::{Draft, Error, Layout, Leaf, Store, Stored},
};

#[cfg(test)]
mod tests;

/// A whole number of leaves of either profile.
const PIECE: usize = MIB;
/// Pieces that wait for one thread.
const WAITING: usize = 4;

/// A blob on its way into the store. Dropped, it leaves nothing.
pub struct Put {
    /// What is not a whole piece yet.
    open: BytesMut,
    whole: Option<Worker<Digest>>,
    leaves: Worker<(Root, Layout)>,
    writer: Worker<Result<Draft, Error>>,
}

/// A blob that is written and hashed, and that nobody sees yet.
pub struct Written {
    /// The top of its DAG.
    pub root: Root,
    /// Its sha256, where it was not left to the caller.
    pub digest: Option<Digest>,
    layout: Layout,
    draft: Draft,
}

impl Put {
    /// Begins a blob whose sha256 is computed here.
    pub fn new(store: &Store, profile: Profile) -> Result<Self, Error> {
        let mut put = Self::unhashed(store, profile)?;
        put.whole = Some(Worker::start("whole", |pieces| {
            let mut hasher = Hasher::new(Algorithm::Sha256);
            pieces.iter().for_each(|piece| hasher.update(&piece));
            hasher.finish()
        })?);
        Ok(put)
    }

    /// Begins a blob whose sha256 the caller computes.
    pub fn unhashed(store: &Store, profile: Profile) -> Result<Self, Error> {
        let mut draft = store.draft()?;
        let leaves = Worker::start("leaves", move |pieces| cut(profile, &pieces))?;
        let write =
            |pieces: Receiver<Bytes>| pieces.iter().try_for_each(|piece| draft.write(&piece)).map(|()| draft);
        let writer = Worker::start("writer", write)?;
        Ok(Self { open: BytesMut::new(), whole: None, leaves, writer })
    }

    /// Takes the next bytes, and waits where they come faster than they are hashed and written.
    pub fn write(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        while !bytes.is_empty() {
            let missing = PIECE - self.open.len();
            let part = bytes.split_to(missing.min(bytes.len()));
            if part.len() == PIECE {
                self.give(part)?;
                continue;
            }
            self.open.reserve(missing);
            self.open.extend_from_slice(&part);
            if self.open.len() == PIECE {
                let piece = self.open.split().freeze();
                self.give(piece)?;
            }
        }
        Ok(())
    }

    fn give(&mut self, piece: Bytes) -> Result<(), Error> {
        if let Some(whole) = &self.whole {
            whole.give(piece.clone());
        }
        self.leaves.give(piece.clone());
        match self.writer.give(piece) {
            true => Ok(()),
            // It hangs up before the end only with an error.
            false => Err(self.writer.ended().and_then(Result::err).unwrap_or(Error::BrokenOff)),
        }
    }

    /// Waits for all of it to be hashed and written.
    pub fn close(mut self) -> Result<Written, Error> {
        let last = self.open.split().freeze();
        let given = if last.is_empty() { Ok(()) } else { self.give(last) };
        given?;
        let draft = self.writer.finish().ok_or(Error::BrokenOff)??;
        let digest = self.whole.and_then(Worker::finish);
        let (root, layout) = self.leaves.finish().ok_or(Error::BrokenOff)?;
        Ok(Written { root, digest, layout, draft })
    }

    /// Stores the blob under the sha256 computed here.
    pub fn finish(self) -> Result<(Stored, Root), Error> {
        let written = self.close()?;
        let digest = written.digest.clone().ok_or(Error::BrokenOff)?;
        let root = written.root;
        Ok((written.store(&digest, &[], &[])?, root))
    }
}

impl Written {
    /// Stores the blob; `blocks` that belong to no file are kept in the same commit.
    pub fn store(self, digest: &Digest, aliases: &[Digest], blocks: &[Block]) -> Result<Stored, Error> {
        self.draft.finish_with(digest, aliases, &[self.layout], blocks)
    }
}

/// Cuts pieces into leaves, and builds the tree above them.
fn cut(profile: Profile, pieces: &Receiver<Bytes>) -> (Root, Layout) {
    let (mut builder, mut leaves, mut nodes, mut offset) = (Builder::new(profile), vec![], vec![], 0);
    for piece in pieces {
        for chunk in piece.chunks(profile.chunk()) {
            let (cid, finished) = builder.push_leaf(chunk);
            leaves.push(Leaf { cid, offset, length: chunk.len() as u64 });
            nodes.extend(finished);
            offset += chunk.len() as u64;
        }
    }
    let (root, last) = builder.finish();
    nodes.extend(last);
    (root, Layout { root: root.cid, leaves, nodes })
}

/// A thread that works through pieces in order.
struct Worker<T> {
    pieces: SyncSender<Bytes>,
    /// None when it was seen to have ended.
    thread: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Worker<T> {
    fn start(name: &str, work: impl FnOnce(Receiver<Bytes>) -> T + Send + 'static) -> Result<Self, Error> {
        let (pieces, waiting) = sync_channel(WAITING);
        let thread = thread::Builder::new().name(name.into()).spawn(move || work(waiting));
        Ok(Self { pieces, thread: Some(thread.map_err(Error::Thread)?) })
    }

    /// Waits for room; false if the thread takes no more.
    fn give(&self, piece: Bytes) -> bool {
        self.pieces.send(piece).is_ok()
    }

    /// What it ended with, once.
    fn ended(&mut self) -> Option<T> {
        let thread = self.thread.take()?;
        Some(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }

    fn finish(mut self) -> Option<T> {
        // What waits for more pieces ends now.
        let (none, _) = sync_channel(0);
        self.pieces = none;
        self.ended()
    }
}
