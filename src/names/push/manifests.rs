//! Pushed manifests: what is checked before their commit, and their deletion.

use bytes::Bytes;
use ocipfs_oci::{Digest, Hasher, Name, Reference, Tag};

use super::{Error, Pushes};
use crate::{
    content::{CidPath, StoreError, UploadError, View},
    images::{
        MAX_MANIFEST,
        repository::{Adopted, InspectedManifest, NewManifest, Repositories, inspect},
    },
    signatures,
};

/// A manifest as a client sends it.
pub struct ManifestPush<'a> {
    /// The tag or the digest that it is pushed by.
    pub reference: &'a Reference,
    /// All tags that point at it from now on.
    pub tags: Vec<Tag>,
    /// Those of them that are not moved from one manifest to another.
    pub immutable: Vec<Tag>,
    /// Whether it has to be a signature or another referrer, since the client may sign, and not push.
    pub is_attached: bool,
    /// The media type that the client states.
    pub media_type: Option<&'a str>,
    /// The document.
    pub bytes: Bytes,
}

/// A manifest that is stored, and in its repository.
pub struct PushedManifest {
    /// Its digest.
    pub digest: Digest,
    /// The manifest that it refers to.
    pub subject: Option<Digest>,
}

impl Pushes {
    /// Stores a manifest and adds it to a repository, which must have its blobs unless images may be sparse.
    ///
    /// What of them only followed repositories have is fetched, and part of this repository from then on.
    pub async fn put_manifest(&self, name: &Name, push: ManifestPush<'_>) -> Result<PushedManifest, Error> {
        let ManifestPush { reference, tags, immutable, is_attached, media_type, bytes } = push;
        let moved_from = match is_attached {
            true => self.check_attached(name, &bytes, &tags).await?,
            false => Vec::new(),
        };
        let digest = checked_digest(reference, &bytes)?;
        let mut inspected = self.inspect(&bytes, &digest, media_type).await?;
        // What is fetched for the manifest is not collected before the manifest holds it.
        let _guard = self.content().gc_guard().await;
        let adopted = self.resolver.adopt(name, (&digest, &tags), &inspected).await?;
        match self.sparse_images {
            true => inspected.required.clear(),
            false => self.check_blobs(name, &inspected, &adopted).await?,
        }
        let pushed = PushedManifest { digest: digest.clone(), subject: inspected.subject.clone() };
        let is_immutable: Vec<String> = immutable.iter().map(Tag::to_string).collect();
        let manifest = NewManifest { digest, tags, immutable, moved_from, inspected, adopted };
        match self.repositories().commit_manifest(self.content(), name, bytes, manifest).await {
            // Deleted while the manifest was pushed.
            Err(UploadError::Store(StoreError::Gone(blob))) => {
                Err(Error::MissingBlobs { name: name.clone(), digests: vec![blob] })
            }
            Err(UploadError::Store(StoreError::Refused(tag))) => match is_immutable.contains(&tag) {
                true => Err(Error::Immutable { name: name.clone(), tag }),
                false => Err(Error::Moved { name: name.clone(), tag }),
            },
            committed => Ok(committed.map(|()| pushed)?),
        }
    }

    /// Refuses a manifest that is not of the form of a signature or another referrer, or takes signatures from a tag. Returns the
    /// tags that may be moved only from where they point now.
    async fn check_attached(
        &self,
        name: &Name,
        bytes: &Bytes,
        tags: &[Tag],
    ) -> Result<Vec<(Tag, Option<Digest>)>, Error> {
        let turn = self.content().turn_to_parse(bytes.len()).await?;
        if !signatures::is_attached(bytes, tags) {
            return Err(Error::NotAttached);
        }
        drop(turn);
        let mut moved_from = Vec::new();
        for tag in tags.iter().filter(|tag| signatures::collects_signatures(tag)) {
            let before = self.tagged(name, tag).await?;
            let longest = before.as_ref().map_or(0, |(_, earlier)| earlier.len()).max(bytes.len());
            let _turn = self.content().turn_to_parse(longest).await?;
            if before.as_ref().is_some_and(|(_, earlier)| !signatures::keeps_layers(bytes, earlier)) {
                return Err(Error::RemovesSignatures { name: name.clone(), tag: tag.to_string() });
            }
            moved_from.push((tag.clone(), before.map(|(digest, _)| digest)));
        }
        Ok(moved_from)
    }

    /// Returns the manifest that a tag of this node's repository points at, whatever the client may read.
    async fn tagged(&self, name: &Name, tag: &Tag) -> Result<Option<(Digest, Bytes)>, Error> {
        let (of, tag) = (name.clone(), tag.clone());
        let find = move |all: &Repositories| match all.tag(&of, &tag)? {
            Some(digest) => all.manifest(&of, &digest),
            None => Ok(None),
        };
        let Some(manifest) = self.resolver.on_repositories(find).await? else { return Ok(None) };
        let at = CidPath::from(manifest.blob.root);
        let bytes = View::default().scope(self.content().read(&at, MAX_MANIFEST)).await?;
        Ok(Some((manifest.blob.digest, bytes)))
    }

    /// Parses a manifest in its turn, since a parsed document takes many times its length.
    async fn inspect(
        &self,
        bytes: &Bytes,
        digest: &Digest,
        media_type: Option<&str>,
    ) -> Result<InspectedManifest, Error> {
        let _turn = self.content().turn_to_parse(bytes.len()).await?;
        inspect(bytes, digest, media_type).map_err(Error::InvalidManifest)
    }

    /// Refuses a manifest without its blobs before anything of it is stored.
    async fn check_blobs(
        &self,
        name: &Name,
        inspected: &InspectedManifest,
        adopted: &Adopted,
    ) -> Result<(), Error> {
        let (of, inspected, adopted) = (name.clone(), inspected.clone(), adopted.clone());
        let missing = move |all: &Repositories| all.missing_blobs(&of, &inspected, &adopted);
        let digests = self.resolver.on_repositories(missing).await?;
        if digests.is_empty() { Ok(()) } else { Err(Error::MissingBlobs { name: name.clone(), digests }) }
    }
}

/// Returns the digest of a manifest, which is the one that it is pushed by.
fn checked_digest(reference: &Reference, bytes: &[u8]) -> Result<Digest, UploadError> {
    let Reference::Digest(expected) = reference else { return Ok(Digest::sha256_of(bytes)) };
    let found = Hasher::of(expected.algorithm(), bytes);
    match found == *expected {
        true => Ok(found),
        false => Err(UploadError::Mismatch { expected: expected.clone(), found }),
    }
}
