//! The end of a download: committed if it matches an expected digest, saved for later, or removed.

use std::{sync::Arc, time::Instant};

use ocipfs_oci::{Algorithm, Digest};
use redb::WriteTransaction;

use super::Task;
use crate::content::{
    Blob, Error,
    download::{Committed, whole::hash},
    keep::Kept,
    store::{Origin, Store, Stored, note_from_peers},
};

/// The id of a file that has none, because it was only streamed through.
const STREAMED_ID: u64 = 0;

impl Task {
    /// Stores, keeps or removes what came, and tells the readers.
    pub(super) async fn end(mut self, ended: Result<Option<Digest>, Error>) {
        let all_here = Instant::now();
        if let Ok(Some(_)) = &ended {
            self.shared.committing();
        }
        if let Some(checkpoint) = self.checkpoint.take() {
            let _ = checkpoint.await;
        }
        let outcome = match ended {
            Ok(Some(digest)) => self.commit(digest).await,
            Ok(None) => {
                let _ = self.save().await;
                return;
            }
            Err(error) => Err(error),
        };
        match &outcome {
            Ok(_) => {}
            Err(Error::Corrupt { .. } | Error::Mismatch { .. }) => {
                let file = self.shared.file.clone();
                let _ = tokio::task::spawn_blocking(move || file.discard()).await;
            }
            // A file that does not fit on the disk gives its space back.
            Err(Error::Full) => {
                let file = self.shared.file.clone();
                let _ = tokio::task::spawn_blocking(move || file.discard_new()).await;
            }
            // Good data stays, whatever went wrong here.
            Err(_) => drop(self.save().await),
        }
        let (size, root) = (self.shared.file.size(), self.shared.root);
        let (took, committing) = (self.begun.elapsed().as_millis(), all_here.elapsed().as_millis());
        tracing::debug!(%root, size, took, committing, ok = outcome.is_ok(), "download finished");
        self.content.0.downloads.leave(&self.shared, true);
        let outcome = match outcome {
            Ok(completed) => self.check_late_promises(completed).await,
            Err(error) => Err(error),
        };
        self.shared.end(outcome.map(Arc::new));
    }

    /// Stores a file that is here whole, if it is what a reader was promised, or a reader was promised nothing.
    async fn commit(&self, digest: Digest) -> Result<Committed, Error> {
        let promised = self.shared.promised(0);
        let (kept, mismatch) = self.judge(&promised, &digest).await?;
        if let Some(mismatch) = mismatch
            && kept.is_empty()
            && !self.shared.is_read_by_cid()
        {
            return Err(mismatch);
        }
        let verified: Vec<Digest> = kept.iter().map(|blob| blob.digest.clone()).collect();
        let (size, root) = (self.shared.file.size(), self.shared.root);
        let stored = match self.shared.file.is_streaming_through() {
            true => {
                self.note_from_peers().await?;
                Stored { id: STREAMED_ID, digest, size, root }
            }
            false => self.finish(digest, &verified, &kept).await?,
        };
        Ok(Committed { stored, verified, promises: promised.len() })
    }

    /// A stored file that was streamed through all the same, since its reader may not see it, came from peers as well now.
    async fn note_from_peers(&self) -> Result<(), Error> {
        if self.shared.file.origin() != Origin::Peers {
            return Ok(());
        }
        let root = self.shared.root;
        let note = move |store: &Store| match store.file(&root)? {
            Some(_) => store.database().write(|write| note_from_peers(write, &root)),
            None => Ok(()),
        };
        Ok(self.content.store().run(note).await?)
    }

    /// Judges the promises of readers that joined while the file was stored; now none can join.
    async fn check_late_promises(&self, mut completed: Committed) -> Result<Committed, Error> {
        let promised = self.shared.promised(completed.promises);
        let (kept, _) = self.judge(&promised, &completed.stored.digest).await?;
        self.keep(&kept).await?;
        completed.verified.extend(kept.into_iter().map(|blob| blob.digest));
        Ok(completed)
    }

    /// The promises that hold, and the error about one that does not.
    async fn judge(&self, promised: &[Blob], digest: &Digest) -> Result<(Vec<Blob>, Option<Error>), Error> {
        let (mut kept, mut mismatch) = (Vec::new(), None);
        for blob in promised {
            match self.found(blob, digest).await? {
                found if found == blob.digest => kept.push(blob.clone()),
                found => mismatch = Some(self.content.reject(blob, &found)),
            }
        }
        Ok((kept, mismatch))
    }

    /// Stores the file and retains it, in one commit, so that a crash does not leave it unreferenced.
    async fn finish(&self, digest: Digest, verified: &[Digest], promised: &[Blob]) -> Result<Stored, Error> {
        let aliases: Vec<Digest> = verified.iter().filter(|other| **other != digest).cloned().collect();
        let kept: Vec<Kept> = promised.iter().map(|blob| Kept::of(blob, self.shared.root, false)).collect();
        let (file, kept_rows) = (self.shared.file.clone(), kept.clone());
        let retain = move |write: &WriteTransaction| kept_rows.iter().try_for_each(|kept| kept.retain(write));
        // What led here is kept before it is said to be.
        self.content.wait_for_blocks().await;
        let finish = tokio::task::spawn_blocking(move || file.finish(&digest, &aliases, retain));
        let stored = finish.await.map_err(Error::stopped)??;
        self.content.announce_kept(&kept).await?;
        Ok(stored)
    }

    async fn keep(&self, kept: &[Blob]) -> Result<(), Error> {
        if !self.shared.file.is_streaming_through() {
            for blob in kept {
                self.content.retain_blob(blob, self.shared.root, false).await?;
            }
        }
        Ok(())
    }

    /// Returns the digest of the bytes under the algorithm of the expected digest.
    async fn found(&self, blob: &Blob, sha256: &Digest) -> Result<Digest, Error> {
        let algorithm = blob.digest.algorithm();
        if algorithm == Algorithm::Sha256 {
            return Ok(sha256.clone());
        }
        let (file, step) = (self.shared.file.clone(), self.hash_step());
        let hashed = tokio::task::spawn_blocking(move || hash(&file, algorithm, step));
        hashed.await.map_err(Error::stopped)?
    }
}
