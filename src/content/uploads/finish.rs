//! The end of an upload, or of a manifest that came whole: its bytes are checked against the client's digest, and stored in one commit with the rows of the
//! repository that it was pushed to.

use bytes::Bytes;
use ocipfs_oci::{Algorithm, Digest};
use redb::WriteTransaction;
use tokio::sync::OwnedMutexGuard;

use super::{Error, Upload};
use crate::content::{
    BlobWriter, Content, StoreError, Stored, WrittenBlob,
    store::{Store, forget_upload},
};

impl Content {
    /// Stores an upload if it matches the client's digest, and runs `record` in the same commit.
    pub async fn finish_upload<T: Send + 'static>(
        &self,
        mut upload: OwnedMutexGuard<Upload>,
        digest: &Digest,
        record: impl FnMut(&WriteTransaction, &Stored) -> Result<T, StoreError> + Clone + Send + 'static,
    ) -> Result<T, Error> {
        let _storing = self.gc_guard().await;
        let result = upload.store(digest, record).await;
        if upload.has_ended() {
            self.0.uploads.forget(upload.id());
        }
        result
    }

    /// Stores bytes that are here, if they are what the client says, and runs `record` in the same commit.
    pub async fn store_bytes<T: Send + 'static>(
        &self,
        bytes: Bytes,
        digest: &Digest,
        record: impl FnMut(&WriteTransaction, &Stored) -> Result<T, StoreError> + Clone + Send + 'static,
    ) -> Result<T, Error> {
        let _storing = self.gc_guard().await;
        let (profile, digest) = (self.profile(), digest.clone());
        let store = self.store().clone();
        let work = move || {
            let mut writer = BlobWriter::new(&store, profile)?;
            writer.write(bytes)?;
            store_written(&store, writer.finish()?, &digest, record)
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Stopped)?
    }
}

impl Upload {
    pub(super) async fn store<T: Send + 'static>(
        &mut self,
        digest: &Digest,
        mut record: impl FnMut(&WriteTransaction, &Stored) -> Result<T, StoreError> + Clone + Send + 'static,
    ) -> Result<T, Error> {
        let (writer, digest, saved) = (self.take_writer(), digest.clone(), self.saved.clone());
        let (store, id) = (self.store.clone(), self.id.clone());
        let forget = saved.is_some();
        let record = move |write: &WriteTransaction, stored: &Stored| {
            if forget {
                forget_upload(write, &id)?;
            }
            record(write, stored)
        };
        let work = move || {
            let result = store_written(&store, writer()?.finish()?, &digest, record);
            match (&result, saved) {
                (Ok(_), Some(saved)) => store.uncount_saved(saved.length),
                (Err(Error::Mismatch { .. }), Some(saved)) => store.drop_upload(&saved)?,
                _ => {}
            }
            result
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Stopped)?
    }
}

/// Stores a written blob under its sha256, with `digest` as an alias if it differs.
fn store_written<T: Send + 'static>(
    store: &Store,
    written: WrittenBlob,
    digest: &Digest,
    record: impl FnMut(&WriteTransaction, &Stored) -> Result<T, StoreError> + Clone + Send + 'static,
) -> Result<T, Error> {
    let sha256 = written.digest.clone().ok_or(StoreError::BrokenOff)?;
    let found = match digest.algorithm() {
        Algorithm::Sha256 => sha256.clone(),
        other => written.hash(other)?,
    };
    if found != *digest {
        written.discard();
        return Err(Error::Mismatch { expected: digest.clone(), found });
    }
    let aliases = std::slice::from_ref(digest);
    // Where its file is missing it counts as not stored.
    if let Some(stored) = store.present(&sha256)? {
        match written.replace(&stored, aliases, record.clone()) {
            // Collected since it was found.
            Err(StoreError::Gone(gone)) if gone == sha256 => {}
            kept => {
                let value = kept?;
                // The stored blob is used; what was written is not needed.
                written.discard();
                return Ok(value);
            }
        }
    }
    Ok(written.store_with(&sha256, aliases, record)?.1)
}
