//! Writes the blocks of files in their places, and hashes each file as far as its bytes come in order.

use std::{
    collections::HashMap,
    ops::Range,
    sync::mpsc::{Receiver, SyncSender},
};

use bytes::Bytes;
use ocipfs_oci::Digest;

use super::finisher::Commit;
use crate::content::{
    Error,
    download::WholeHasher,
    store::{Error as StoreError, Leaf, PartialBlob},
};

/// Written to a file between two checkpoints: what a kill loses.
const CHECKPOINT_BYTES: u64 = 64 << 20;

/// Work for the writer.
pub enum Job {
    /// Begin a file, or resume it.
    Open {
        /// Its number.
        file: usize,
        /// The digest that it must have.
        digest: Digest,
        /// Where it is written.
        partial: PartialBlob,
    },
    /// Write the data of a block.
    Leaf {
        /// The number of the file.
        file: usize,
        /// Its place.
        leaf: Leaf,
        /// The block.
        block: Bytes,
        /// Which bytes of the block are data.
        data: Range<usize>,
    },
}

/// A file that is being written.
struct OpenFile {
    digest: Digest,
    partial: PartialBlob,
    whole: WholeHasher,
    /// Bytes since the last checkpoint.
    unsaved: u64,
}

/// Writes files until the last one.
pub struct Writer {
    open: HashMap<usize, OpenFile>,
    finisher: SyncSender<Commit>,
}

impl Writer {
    pub fn new(finisher: SyncSender<Commit>) -> Self {
        Self { open: HashMap::new(), finisher }
    }

    /// Does what is asked to the end, then saves what is not complete.
    pub fn run(mut self, jobs: &Receiver<Job>) -> Result<(), Error> {
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Open { file, digest, partial } => {
                    let whole = WholeHasher::of(&partial);
                    self.open.insert(file, OpenFile { digest, partial, whole, unsaved: 0 });
                }
                Job::Leaf { file, leaf, block, data } => self.leaf(file, &leaf, &block, data)?,
            }
        }
        for (_, file) in self.open.drain() {
            // Nothing waits for it any more if the finisher has ended.
            let _ = self.finisher.send(file.checkpoint());
        }
        Ok(())
    }

    fn leaf(&mut self, file: usize, leaf: &Leaf, block: &Bytes, data: Range<usize>) -> Result<(), Error> {
        // It is complete, or came in another way meanwhile.
        let Some(open) = self.open.get_mut(&file) else { return Ok(()) };
        if !open.partial.has(leaf) {
            match open.partial.write(leaf, block, data.clone()) {
                Err(StoreError::Ended(_)) => {
                    self.open.remove(&file);
                    return Ok(());
                }
                written => written?,
            }
            open.unsaved += leaf.length;
        }
        // A block of several places was written to the later ones before their turn.
        if leaf.offset > open.whole.length() {
            open.whole.catch_up(&open.partial, || {})?;
        }
        open.whole.push(leaf.offset, &block[data]);
        let commit = if open.partial.written() == open.partial.size() {
            let Some(OpenFile { digest, partial, whole, .. }) = self.open.remove(&file) else {
                return Ok(());
            };
            Commit::Whole { digest, partial, whole }
        } else if open.unsaved >= CHECKPOINT_BYTES {
            open.unsaved = 0;
            open.checkpoint()
        } else {
            return Ok(());
        };
        self.finisher.send(commit).map_err(|_| StoreError::BrokenOff.into())
    }
}

impl OpenFile {
    fn checkpoint(&self) -> Commit {
        if let Some(hashed) = self.whole.state() {
            self.partial.set_hashed(hashed);
        }
        Commit::Checkpoint(self.partial.clone())
    }
}
