//! Syncs and commits files, and retains each in the commit that stores it.

use std::sync::{Arc, Mutex, mpsc::Receiver};

use bytes::Bytes;
use ocipfs_node::{Block, Cid};
use ocipfs_oci::{Algorithm, Digest, Hasher};
use redb::WriteTransaction;

use super::WrongFile;
use crate::content::{
    Blob, Content, Error,
    download::{WholeHasher, hash_whole},
    keep::{Kept, single_layout},
    locked,
    store::{
        BlobLayout, DraftToStore, Error as StoreError, Origin, PartialBlob, Stored, SyncedDraft,
        note_from_peers,
    },
};

/// Small files that are stored in one commit.
const BATCH_FILES: usize = 256;
const BATCH_BYTES: usize = 8 << 20;

/// Work for the finisher.
pub enum Commit {
    /// Make what is written durable.
    Checkpoint(PartialBlob),
    /// Store a file that is written whole.
    Whole {
        /// The digest that it must have.
        digest: Digest,
        /// The file.
        partial: PartialBlob,
        /// Its sha256, as far as it is hashed.
        whole: WholeHasher,
    },
    /// Store a file of one block.
    Single {
        /// The digest that it must have.
        digest: Digest,
        /// The block.
        block: Block,
        /// Its data.
        data: Bytes,
    },
}

/// A file of one block, which is on the disk and not stored yet.
struct Small {
    blob: Blob,
    sha256: Digest,
    aliases: Vec<Digest>,
    layout: BlobLayout,
    draft: SyncedDraft,
}

impl Small {
    fn to_store(&self) -> DraftToStore<'_> {
        let layouts = std::slice::from_ref(&self.layout);
        DraftToStore { draft: &self.draft, digest: &self.sha256, aliases: &self.aliases, layouts }
    }
}

/// Commits files until the last one.
pub struct Finisher {
    content: Content,
    gc_root: Cid,
    origin: Origin,
    wrong: Arc<Mutex<Vec<WrongFile>>>,
    batch: Vec<Small>,
    batch_bytes: usize,
}

impl Finisher {
    pub fn new(
        content: Content,
        (gc_root, origin): (Cid, Origin),
        wrong: Arc<Mutex<Vec<WrongFile>>>,
    ) -> Self {
        Self { content, gc_root, origin, wrong, batch: Vec::new(), batch_bytes: 0 }
    }

    /// Does what is asked to the end.
    pub fn run(mut self, commits: &Receiver<Commit>) -> Result<(), Error> {
        while let Ok(commit) = commits.recv() {
            match commit {
                Commit::Checkpoint(partial) => match partial.checkpoint() {
                    Err(StoreError::Ended(_)) => {}
                    saved => saved?,
                },
                Commit::Whole { digest, partial, whole } => self.whole(digest, &partial, whole)?,
                Commit::Single { digest, block, data } => self.single(digest, block, data)?,
            }
        }
        self.store_batch()
    }

    fn whole(&mut self, digest: Digest, partial: &PartialBlob, mut whole: WholeHasher) -> Result<(), Error> {
        while whole.length() < partial.size() {
            whole = whole.read_on(partial, || {})?;
        }
        let sha256 = whole.finish();
        let found = match digest.algorithm() {
            Algorithm::Sha256 => sha256.clone(),
            other => hash_whole(partial, other, || {})?,
        };
        if found != digest {
            partial.discard()?;
            self.mismatch(digest, &found);
            return Ok(());
        }
        let kept = self.kept(&digest, partial.size(), partial.root());
        let aliases: Vec<Digest> = Some(digest).filter(|digest| *digest != sha256).into_iter().collect();
        match partial.finish(&sha256, &aliases, move |write: &WriteTransaction| kept.retain(write)) {
            // It was stored in another way meanwhile.
            Err(StoreError::Ended(_)) => Ok(()),
            finished => {
                finished?;
                self.content.node().arrived(&[partial.root()]);
                Ok(())
            }
        }
    }

    fn single(&mut self, digest: Digest, block: Block, data: Bytes) -> Result<(), Error> {
        let found = Hasher::of(digest.algorithm(), &data);
        if found != digest {
            self.mismatch(digest, &found);
            return Ok(());
        }
        let mut draft = self.content.store().draft()?;
        draft.write(&data)?;
        let draft = draft.sync()?;
        let sha256 = match digest.algorithm() {
            Algorithm::Sha256 => found,
            _ => Digest::sha256_of(&data),
        };
        let size = data.len();
        let blob = self.blob(&digest, size as u64, block.cid);
        let aliases = Some(digest).filter(|digest| *digest != sha256).into_iter().collect();
        let layout = single_layout(block, &data);
        self.batch.push(Small { blob, sha256, aliases, layout, draft });
        self.batch_bytes += size;
        match self.batch.len() >= BATCH_FILES || self.batch_bytes >= BATCH_BYTES {
            true => self.store_batch(),
            false => Ok(()),
        }
    }

    /// Stores the small files that came since the last time, in one commit.
    fn store_batch(&mut self) -> Result<(), Error> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if batch.is_empty() {
            return Ok(());
        }
        let drafts: Vec<DraftToStore> = batch.iter().map(Small::to_store).collect();
        let kept: Vec<Kept> =
            batch.iter().map(|small| Kept::of(&small.blob, small.layout.root, false)).collect();
        let is_from_peers = self.origin == Origin::Peers;
        let record = move |write: &WriteTransaction, stored: &[Stored]| {
            let mut noted = stored.iter().filter(|_| is_from_peers);
            noted.try_for_each(|stored| note_from_peers(write, &stored.root))?;
            kept.iter().try_for_each(|kept| kept.retain(write))
        };
        self.content.store().store_all_with(&drafts, &[], record)?;
        let roots: Vec<Cid> = batch.iter().map(|small| small.layout.root).collect();
        self.content.node().arrived(&roots);
        Ok(())
    }

    fn blob(&self, digest: &Digest, size: u64, root: Cid) -> Blob {
        Blob { digest: digest.clone(), size, at: root.into(), gc_root: Some(self.gc_root) }
    }

    fn kept(&self, digest: &Digest, size: u64, root: Cid) -> Kept {
        Kept::of(&self.blob(digest, size, root), root, false)
    }

    fn mismatch(&self, digest: Digest, found: &Digest) {
        let why = format!("its blocks are of a file with the digest {found}");
        locked(&self.wrong).push(WrongFile { digest, why });
    }
}
