//! Pushes to hosted repositories, and deletions from them.
//!
//! ```text
//! Pushes ──► content::uploads      the bytes of a blob, over several requests
//!        ├─► adopt                 what a manifest needs and only followed repositories have
//!        └─► images::repository    rules, one transaction for each push; wakes publishing
//! ```

mod error;
mod manifests;
mod removal;

use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use ocipfs_oci::{Digest, Name};
use tokio::sync::OwnedMutexGuard;

use super::{NameKind, Resolver};
use crate::{
    content::{self, Content, StoreError, Upload},
    images::repository::{Edit, Repositories},
    names,
};

pub use error::Error;
pub use manifests::{ManifestPush, PushedManifest};

/// Between two searches for stale uploads.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);

/// Receives pushes to the repositories of a node. Clones are handles on the same.
#[derive(Clone)]
pub struct Pushes {
    resolver: Resolver,
    sparse_images: bool,
}

/// Parses the name of a repository that may be pushed to: names that a CID or a key defines are read-only.
pub fn parse_target(name: &str) -> Result<Name, Error> {
    use names::Error::{Misplaced, NoCid, NoIpnsName, Path, Reserved, Unfinished, UnknownName};
    match NameKind::parse(name) {
        Ok(NameKind::Hosted { name }) => Ok(name),
        Ok(_) | Err(UnknownName(_) | Unfinished { .. } | Misplaced { .. }) => {
            Err(Error::ReadOnly(name.into()))
        }
        // These could be names, but for where they begin.
        Err(NoCid { .. } | NoIpnsName { .. } | Path { .. }) => Err(Error::ReadOnly(name.into())),
        Err(error @ Reserved { .. }) => Err(Error::Reserved(error)),
        Err(error) => Err(error.into()),
    }
}

impl Pushes {
    /// Receives pushes to the repositories of this resolver; of images without some of their blobs only if these are allowed.
    pub fn new(resolver: Resolver, sparse_images: bool) -> Self {
        Self { resolver, sparse_images }
    }

    /// Begins an upload.
    pub fn begin_upload(&self, name: &Name) -> Result<OwnedMutexGuard<Upload>, Error> {
        Ok(self.content().uploads().begin(name.as_str())?)
    }

    /// Returns an upload to this repository, once no other request works on it.
    pub async fn upload(&self, name: &Name, id: &str) -> Result<OwnedMutexGuard<Upload>, Error> {
        let found = self.content().uploads().find(name.as_str(), id).await?;
        found.ok_or_else(|| Error::UnknownUpload(id.into()))
    }

    /// Saves what an upload received: it is on disk on return.
    pub async fn save_upload(&self, upload: &mut Upload) -> Result<(), Error> {
        Ok(upload.save().await?)
    }

    /// Saves what an upload received within a second, unless it is finished by then.
    pub fn save_upload_soon(&self, upload: &Upload) {
        self.content().save_upload_soon(upload.owner(), upload.id());
    }

    /// Stores an upload, if it has this digest, and adds it to its repository.
    pub async fn finish_upload(
        &self,
        name: &Name,
        upload: OwnedMutexGuard<Upload>,
        digest: &Digest,
    ) -> Result<(), Error> {
        Ok(self.repositories().commit_upload(self.content(), name, upload, digest).await?)
    }

    /// Cancels an upload.
    pub async fn cancel_upload(&self, mut upload: OwnedMutexGuard<Upload>) -> Result<(), Error> {
        upload.cancel().await?;
        self.content().uploads().forget(upload.id());
        Ok(())
    }

    /// Stores a blob whose bytes come as one stream, and adds it to a repository.
    pub async fn put_blob<E: std::fmt::Display>(
        &self,
        name: &Name,
        digest: &Digest,
        bytes: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<(), Error> {
        let mut upload = self.begin_upload(name)?;
        let id = upload.id().to_string();
        let result = match upload.append(bytes).await {
            Ok(()) => self.finish_upload(name, upload, digest).await,
            Err(error) => Err(error.into()),
        };
        // No request can continue it.
        self.content().uploads().forget(&id);
        result
    }

    /// Adds a blob that is here already, or that a followed repository has; false where it has to be uploaded.
    ///
    /// Of a hosted repository `from` it has to be a blob. Of any other name it is enough that it is stored.
    pub async fn mount(&self, name: &Name, digest: &Digest, from: Option<&NameKind>) -> Result<bool, Error> {
        let _guard = self.content().gc_guard().await;
        if let Some(NameKind::Hosted { name: from }) = from
            && !self.has_or_adopts(from, digest).await?
        {
            return Ok(false);
        }
        let Some(stored) = self.content().stored_blob(digest).await? else { return Ok(false) };
        match self.repositories().commit_stored(self.content(), name, stored, digest).await {
            // Removed since it was found.
            Err(StoreError::Gone(_)) => Ok(false),
            committed => Ok(committed.map(|()| true)?),
        }
    }

    /// Whether a repository has a blob, once it is fetched if only followed repositories have it.
    async fn has_or_adopts(&self, name: &Name, digest: &Digest) -> Result<bool, Error> {
        let (of, blob) = (name.clone(), digest.clone());
        if self.resolver.on_repositories(move |all| all.blob(&of, &blob)).await?.is_some() {
            return Ok(true);
        }
        Ok(match self.resolver.adopt_blob(name, digest).await {
            Ok(adopted) => adopted.has_blob(digest),
            // The client uploads it instead.
            Err(error) => {
                tracing::debug!(repository = %name, %digest, %error, "cannot mount a blob from a followed repository");
                false
            }
        })
    }

    /// Restarts the grace period of a blob that no manifest references, before the client is told that it is here.
    pub async fn renew_blob(&self, name: &Name, digest: &Digest) -> Result<(), Error> {
        let (of, blob) = (name.clone(), digest.clone());
        let since = self.resolver.on_repositories(move |all| all.unreferenced_since(&of, &blob)).await?;
        if since.is_none_or(|since| since >= content::now()) {
            return Ok(());
        }
        let (of, blob) = (name.clone(), digest.clone());
        match self.edit(move |edit| edit.renew_blob(&of, &blob)).await? {
            true => Ok(()),
            // Its grace period ended since it was found.
            false => Err(Error::UnknownBlob { name: name.clone(), digest: digest.clone() }),
        }
    }

    /// Drops stale uploads, every minute.
    pub async fn expire_uploads(&self) {
        loop {
            if let Err(error) = self.content().uploads().sweep().await {
                tracing::warn!("cannot remove stale uploads: {error}");
            }
            tokio::time::sleep(EXPIRY_INTERVAL).await;
        }
    }

    /// Changes repositories; `with` may run twice.
    async fn edit<T: Send + 'static>(
        &self,
        with: impl FnMut(&Edit) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        Ok(self.resolver.on_repositories(move |all| all.edit(with)).await?)
    }

    fn content(&self) -> &Content {
        self.resolver.content()
    }

    fn repositories(&self) -> &Repositories {
        self.resolver.repositories()
    }
}
