//! Bytes coming in: cut once, and hashed twice and written, by a thread each where there are cores for them.
//!
//! ```text
//!            ┌─► whole   sha256 of all of it (left out where the caller has it)
//! pieces ────┼─► leaves  the CIDs of the blocks, and the tree above them
//!            └─► writer  the draft
//! ```
//!
//! Each has a short queue, so memory is bounded by the slowest.

mod cut;
mod stage;

#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, LazyLock},
    thread,
};

use bytes::{Bytes, BytesMut};
use ocipfs_node::Block;
use ocipfs_oci::{Algorithm, Digest, Hasher};
use ocipfs_unixfs::Root;
use redb::WriteTransaction;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    MIB, Profile,
    store::{BlobLayout, Draft, Error, Ready, Sealed, Store, Stored},
};
use cut::Cut;
use stage::Stage;

/// A whole number of leaves of either profile.
const PIECE_BYTES: usize = MIB;

/// Permits for puts with threads of their own; other puts hash and write in the caller's thread.
static LANES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    Arc::new(Semaphore::new(cores))
});

/// A blob on its way into the store. Dropped, it leaves nothing.
pub struct Put {
    /// Bytes that do not fill a whole piece yet.
    open: BytesMut,
    whole: Option<Stage<Hasher>>,
    leaves: Stage<Cut>,
    writer: Stage<Draft>,
    lane: Option<OwnedSemaphorePermit>,
}

/// A blob that is written and hashed, and not visible yet.
pub struct Written {
    /// The top of its DAG.
    pub root: Root,
    /// Its sha256, where it was not left to the caller.
    pub digest: Option<Digest>,
    layout: BlobLayout,
    draft: Sealed,
}

impl Put {
    /// Begins a blob whose sha256 is computed here.
    pub fn new(store: &Store, profile: Profile) -> Result<Self, Error> {
        let mut put = Self::unhashed(store, profile)?;
        put.whole = Some(hash_whole());
        Ok(put)
    }

    /// Begins a blob whose sha256 the caller computes.
    pub fn unhashed(store: &Store, profile: Profile) -> Result<Self, Error> {
        Ok(Self::of(store.draft()?, profile))
    }

    /// Goes on with one that was saved: what is there of it is hashed again.
    pub fn resume(store: &Store, profile: Profile, file: u64, length: u64) -> Result<Self, Error> {
        let whole_pieces = length - length % PIECE_BYTES as u64;
        let all = store.resume_draft(file, length, length)?;
        all.cut_off()?;
        let mut put = Self::of(store.resume_draft(file, whole_pieces, length)?, profile);
        put.whole = Some(hash_whole());
        all.replay(|bytes| {
            put.open.extend_from_slice(bytes);
            if put.open.len() == PIECE_BYTES {
                let piece = put.open.split().freeze();
                put.whole.iter_mut().for_each(|whole| drop(whole.work(&piece)));
                drop(put.leaves.work(&piece));
            }
        })?;
        Ok(put)
    }

    fn of(draft: Draft, profile: Profile) -> Self {
        let leaves = Stage::new("leaves", Cut::new(profile), |cut, piece| {
            cut.push(piece);
            Ok(())
        });
        let writer = Stage::new("writer", draft, |draft, piece| draft.write(piece));
        Self { open: BytesMut::new(), whole: None, leaves, writer, lane: None }
    }

    /// Takes the next bytes, and waits where they come faster than they are hashed and written.
    pub fn write(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        while !bytes.is_empty() {
            let missing = PIECE_BYTES - self.open.len();
            let part = bytes.split_to(missing.min(bytes.len()));
            if part.len() == PIECE_BYTES {
                self.give(part)?;
                continue;
            }
            // Room for a few bytes, or for a whole piece: many uploads may rest with what they have.
            if self.open.len() + part.len() > PIECE_BYTES / 16 {
                self.open.reserve(missing);
            }
            self.open.extend_from_slice(&part);
            if self.open.len() == PIECE_BYTES {
                let piece = self.open.split().freeze();
                self.give(piece)?;
            }
        }
        Ok(())
    }

    fn give(&mut self, piece: Bytes) -> Result<(), Error> {
        if self.lane.is_none() {
            self.lane = LANES.clone().try_acquire_owned().ok();
        }
        if self.lane.is_none() {
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
        self.lane = None;
        Ok(())
    }

    /// Makes what came durable, and gives the id of its file. It stays from now on, until it is stored or discarded.
    pub fn save(&mut self) -> Result<u64, Error> {
        self.rest()?;
        let draft = self.writer.at_rest()?;
        draft.save(&self.open)?;
        Ok(draft.id())
    }

    /// Leaves the count of what was saved, `length` bytes, to the row that names it now.
    pub fn count_saved(&mut self, length: u64) -> Result<(), Error> {
        self.writer.at_rest()?.count_saved(length);
        Ok(())
    }

    /// Removes what was saved, and everything else; the row that names it is gone.
    pub fn discard(self) {
        if let Ok(draft) = self.writer.end() {
            draft.discard();
        }
    }

    /// Waits for all of it to be hashed and written.
    pub fn close(mut self) -> Result<Written, Error> {
        let last = self.open.split().freeze();
        match self.lane.is_some() {
            _ if last.is_empty() => {}
            true => self.give(last)?,
            // A short blob needs no threads.
            false => self.work(&last)?,
        }
        // While the last of it is still hashed.
        let draft = self.writer.end()?.seal()?;
        let digest = self.whole.map(Stage::end).transpose()?.map(Hasher::finish);
        let (root, layout) = self.leaves.end()?.finish();
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
    /// Writes what is in memory: for a few bytes, threads would cost more than they save.
    pub fn of(store: &Store, profile: Profile, bytes: Bytes) -> Result<Self, Error> {
        let mut draft = store.draft()?;
        draft.write(&bytes)?;
        let digest = Some(Digest::sha256_of(&bytes));
        let mut cut = Cut::new(profile);
        cut.push(&bytes);
        let (root, layout) = cut.finish();
        Ok(Self { root, digest, layout, draft: draft.seal()? })
    }

    /// Returns the blob as part of a commit that stores several.
    pub fn ready<'a>(&'a self, digest: &'a Digest, aliases: &'a [Digest]) -> Ready<'a> {
        Ready { draft: &self.draft, digest, aliases, layouts: std::slice::from_ref(&self.layout) }
    }

    /// Stores the blob; `blocks` that belong to no file are kept in the same commit.
    pub fn store(self, digest: &Digest, aliases: &[Digest], blocks: &[Block]) -> Result<Stored, Error> {
        let layouts = std::slice::from_ref(&self.layout);
        let (stored, ()) = self.draft.finish_with(digest, aliases, layouts, blocks, |_, _| Ok(()))?;
        Ok(stored)
    }

    /// Stores the blob and does something else in the same commit, which others share: `also` may run twice.
    pub fn store_and<T: Send + 'static>(
        self,
        digest: &Digest,
        aliases: &[Digest],
        also: impl FnMut(&WriteTransaction, &Stored) -> Result<T, Error> + Send + 'static,
    ) -> Result<(Stored, T), Error> {
        self.draft.finish_with(digest, aliases, std::slice::from_ref(&self.layout), &[], also)
    }

    /// Puts the bytes in the place of those that are stored, and does something else in a commit in which they still are.
    pub fn replace<T: Send + 'static>(
        &self,
        stored: &Stored,
        aliases: &[Digest],
        also: impl FnMut(&WriteTransaction, &Stored) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.draft.replace(stored, aliases, also)
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

fn hash_whole() -> Stage<Hasher> {
    Stage::new("whole", Hasher::new(Algorithm::Sha256), |hasher, piece| {
        hasher.update(piece);
        Ok(())
    })
}
