//! Content that clients name by its digest under a name that is not a local repository: it is searched among peers.
//!
//! `HEAD` of a blob is never answered from here: a push would skip the upload of a blob because some peer has it.

use ocipfs_oci::{Digest, Name, Reference};

use super::{BlobSource, Error, NameKind, Resolver, resolve::Document};
use crate::{
    content::{self, Blob, Content},
    images,
};

/// Places that are tried for one manifest.
const MAX_TRIES: usize = 4;

/// Where a blob is.
pub struct FoundBlob {
    /// Its bytes, or where they are stored.
    pub source: BlobSource,
    /// Whether only a peer says that the digest is that of the blob.
    is_told: bool,
}

impl FoundBlob {
    /// Fetches and hashes the whole of a blob if only a peer says where it is: a part has no digest to be compared with.
    pub async fn verify_for_part(&self, content: &Content) -> Result<(), content::Error> {
        match &self.source {
            BlobSource::Blob(blob) if self.is_told => content.cache(blob).await,
            _ => Ok(()),
        }
    }
}

impl NameKind {
    /// Returns the manifest of a reference, of peers too if no repository here has this name.
    pub async fn find_manifest(&self, resolver: &Resolver, reference: &Reference) -> Result<Document, Error> {
        match self.manifest(resolver, reference).await {
            Err(absent) => self.manifest_among_peers(resolver, reference, absent).await,
            found => found,
        }
    }

    /// Returns where a blob is, also among peers if no repository here has this name.
    pub async fn find_blob(&self, resolver: &Resolver, digest: &Digest) -> Result<FoundBlob, Error> {
        match self.locate_blob(resolver, digest).await {
            Ok(source) => Ok(FoundBlob { source, is_told: false }),
            Err(absent) => {
                let blob = self.blob_among_peers(resolver, digest, absent).await?;
                Ok(FoundBlob { source: BlobSource::Blob(Box::new(blob)), is_told: true })
            }
        }
    }

    /// Returns a manifest that no repository of this name has, if it is named by its digest and a peer has it; else `absent`. Where
    /// the content of one peer cannot be read, others are asked; if none has it, the last of these errors is returned.
    async fn manifest_among_peers(
        &self,
        resolver: &Resolver,
        reference: &Reference,
        absent: Error,
    ) -> Result<Document, Error> {
        let (Some(name), Reference::Digest(digest)) = (self.searched(resolver, &absent).await?, reference)
        else {
            return Err(absent);
        };
        let mut last = absent;
        // A place with other bytes is not told again.
        for _ in 0..MAX_TRIES {
            let Some(blob) = resolver.digests.find(&resolver.content, digest).await? else { break };
            match Document::read(&resolver.content, &blob, None).await {
                Err(images::Error::Content(content::Error::Mismatch { .. })) => {}
                Ok(document) => {
                    resolver.digests.note_seen(name);
                    return Ok(document);
                }
                // A blob is not a manifest.
                Err(images::Error::NotAManifest { .. }) => break,
                // Nor is one that is too large, but only the peer says so.
                Err(images::Error::Content(content::Error::TooLarge { .. })) => {
                    resolver.digests.note_failed(&blob)
                }
                Err(error) => {
                    resolver.digests.note_failed(&blob);
                    last = Error::image(name, error);
                }
            }
        }
        Err(last)
    }

    /// Returns a blob that no repository of this name has, if a peer has it; else `absent`. A peer told where it is: until the
    /// whole was hashed, nothing says that the bytes there are those of the digest.
    async fn blob_among_peers(
        &self,
        resolver: &Resolver,
        digest: &Digest,
        absent: Error,
    ) -> Result<Blob, Error> {
        let Some(name) = self.searched(resolver, &absent).await? else { return Err(absent) };
        let Some(blob) = resolver.digests.find(&resolver.content, digest).await? else { return Err(absent) };
        resolver.digests.note_seen(name);
        Ok(blob)
    }

    /// Returns the name if peers are searched for what is absent under it: that of no repository here.
    async fn searched(&self, resolver: &Resolver, absent: &Error) -> Result<Option<&Name>, Error> {
        let Self::Hosted { name } = self else { return Ok(None) };
        if !absent.is_absence() {
            return Ok(None);
        }
        let of = name.clone();
        let is_local = resolver.on_repositories(move |all| all.has_any(&of)).await?;
        Ok((!is_local).then_some(name))
    }
}
