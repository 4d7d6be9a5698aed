//! Commits of pushes: one transaction stores the bytes and records them in the repository. Then publishing is woken.

use bytes::Bytes;
use ocipfs_oci::{Digest, Name, Tag};
use redb::WriteTransaction;
use tokio::sync::OwnedMutexGuard;

use super::{Adopted, Edit, InspectedManifest, Repositories, RepositoryBlob};
use crate::content::{Content, StoreError, Stored, Upload, UploadError, now};

/// A manifest that is pushed, and what it brings into its repository.
#[derive(Clone)]
pub struct NewManifest {
    /// The digest that it is pushed by.
    pub digest: Digest,
    /// The tags that point at it from now on.
    pub tags: Vec<Tag>,
    /// Those of them that are not moved from one manifest to another.
    pub immutable: Vec<Tag>,
    /// Those that are moved only from where they are known to point.
    pub moved_from: Vec<(Tag, Option<Digest>)>,
    /// What it says of itself.
    pub inspected: InspectedManifest,
    /// What it needs of followed repositories.
    pub adopted: Adopted,
}

impl Repositories {
    /// Stores an upload, if it has this digest, and adds it to a repository.
    pub async fn commit_upload(
        &self,
        content: &Content,
        name: &Name,
        upload: OwnedMutexGuard<Upload>,
        digest: &Digest,
    ) -> Result<(), UploadError> {
        content.finish_upload(upload, digest, adds_blob(name, digest)).await?;
        self.wake();
        Ok(())
    }

    /// Adds a stored blob to a repository, under one of its digests.
    ///
    /// # Errors
    /// Fails with [`StoreError::Gone`] where it was removed since it was found.
    pub async fn commit_stored(
        &self,
        content: &Content,
        name: &Name,
        stored: Stored,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let record = adds_blob(name, digest);
        content.store().run(move |store| store.commit_while_stored(&stored, &[], record)).await?;
        self.wake();
        Ok(())
    }

    /// Stores a manifest, if it has its digest, and adds it to a repository.
    ///
    /// # Errors
    /// Fails with [`StoreError::Gone`] where a blob that it needs is not in the repository, and with [`StoreError::Refused`]
    /// where an immutable tag points at another manifest.
    pub async fn commit_manifest(
        &self,
        content: &Content,
        name: &Name,
        bytes: Bytes,
        manifest: NewManifest,
    ) -> Result<(), UploadError> {
        let digest = manifest.digest.clone();
        let record = adds_manifest(name, manifest, bytes.len() as u64);
        // In `content/uploads/finish.rs`.
        content.store_bytes(bytes, &digest, record).await?;
        self.wake();
        Ok(())
    }

    /// Returns the blobs without which a manifest is refused: it may need what is adopted, or in the repository.
    pub fn missing_blobs(
        &self,
        name: &Name,
        manifest: &InspectedManifest,
        adopted: &Adopted,
    ) -> Result<Vec<Digest>, StoreError> {
        manifest.missing(|digest| {
            let is_here = adopted.has_blob(digest) || self.blob(name, digest)?.is_some();
            Ok(is_here || self.manifest(name, digest)?.is_some())
        })
    }
}

/// Adds a stored blob to a repository.
fn adds_blob(
    name: &Name,
    digest: &Digest,
) -> impl FnMut(&WriteTransaction, &Stored) -> Result<(), StoreError> + Clone + Send + 'static {
    let (name, digest) = (name.clone(), digest.clone());
    move |write, stored| {
        let blob = RepositoryBlob { digest: digest.clone(), size: stored.size, root: stored.root };
        Edit::new(write).add_blob(&name, &blob)
    }
}

/// Adds a stored manifest to a repository, unless a blob that it needs is gone by then.
fn adds_manifest(
    name: &Name,
    manifest: NewManifest,
    size: u64,
) -> impl FnMut(&WriteTransaction, &Stored) -> Result<(), StoreError> + Clone + Send + 'static {
    let name = name.clone();
    move |write, stored| {
        let NewManifest { digest, tags, immutable, moved_from, inspected, adopted } = &manifest;
        let edit = Edit::new(write);
        for tag in immutable {
            if edit.tag(&name, tag)?.is_some_and(|before| before != *digest) {
                return Err(StoreError::Refused(tag.to_string()));
            }
        }
        for (tag, before) in moved_from {
            if edit.tag(&name, tag)? != *before {
                return Err(StoreError::Refused(tag.to_string()));
            }
        }
        adopted.apply(&edit, &name)?;
        let is_here =
            |digest: &Digest| Ok(edit.blob(&name, digest)?.is_some() || edit.has_manifest(&name, digest)?);
        if let Some(digest) = inspected.missing(is_here)?.pop() {
            return Err(StoreError::Gone(digest));
        }
        let blob = RepositoryBlob { digest: digest.clone(), size, root: stored.root };
        let pushed = inspected.pushed(blob, now());
        edit.put_manifest(&name, &pushed, tags, Some(&inspected.referrer), &inspected.references)
    }
}
