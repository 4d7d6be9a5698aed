//! Adopts what a pushed manifest needs and only followed names have: fetches it, and makes it part of the repository here.

use std::collections::BTreeSet;

use ocipfs_oci::{Digest, Name, Reference, Tag};

use super::followed;
use crate::{
    content::{self, Stored},
    images::repository::{Adopted, InspectedManifest, RepositoryBlob, inspect, subject_of},
    names::{BlobSource, Document, Error, Resolver, resolve::local::LocalRepository},
};

/// Manifests that one index may bring with it.
const MAX_MANIFESTS: usize = 1_000;

impl Resolver {
    /// Fetches a blob of `from` that followed names have; nothing where they have none.
    pub(in crate::names) async fn adopt_blob(&self, from: &Name, digest: &Digest) -> Result<Adopted, Error> {
        let mut adopted = Adopted::default();
        self.adopt_blobs(from, std::slice::from_ref(digest), &mut adopted).await?;
        Ok(adopted)
    }

    /// Fetches the content that a manifest of `name` needs and followed names have: the blobs of an image,
    /// the manifests of an index. Content that they do not have is left out.
    pub(in crate::names) async fn adopt(
        &self,
        name: &Name,
        (digest, tags): (&Digest, &[Tag]),
        manifest: &InspectedManifest,
    ) -> Result<Adopted, Error> {
        let mut adopted = Adopted::default();
        if self.followed().names().is_empty() && !self.digests.is_seen(name) {
            return Ok(adopted);
        }
        let subjects = tags.iter().filter_map(subject_of).chain(manifest.subject.clone());
        for digest in subjects.chain([digest.clone()]) {
            let reference = Reference::Digest(digest.clone());
            if followed::origin(self, name, &followed::Target::Manifest(&reference)).await.is_some() {
                adopted.add_elsewhere(digest);
            }
        }
        self.adopt_blobs(name, &manifest.required, &mut adopted).await?;
        if manifest.media_type.is_index() {
            self.adopt_children(name, &manifest.references, &mut adopted).await?;
        }
        Ok(adopted)
    }

    /// Fetches the manifests below an index, and their blobs.
    async fn adopt_children(
        &self,
        name: &Name,
        children: &[Digest],
        adopted: &mut Adopted,
    ) -> Result<(), Error> {
        let (mut waiting, mut seen) = (children.to_vec(), BTreeSet::new());
        let mut found = Vec::new();
        while let Some(digest) = waiting.pop() {
            if !seen.insert(digest.clone()) || seen.len() > MAX_MANIFESTS {
                continue;
            }
            let reference = Reference::Digest(digest.clone());
            let local = LocalRepository { resolver: self, name };
            if local.has_manifest(&digest).await? {
                continue;
            }
            let document = match self.manifest_elsewhere(name, &reference).await {
                Ok(document) => document,
                Err(error) => {
                    tracing::debug!(repository = %name, %digest, %error, "cannot adopt a manifest of an index");
                    continue;
                }
            };
            let turn = self.content().turn_to_parse(document.bytes.len()).await?;
            let kind = Some(document.media_type.as_str());
            let Ok(inspected) = inspect(&document.bytes, &digest, kind) else { continue };
            if inspected.media_type.is_index() {
                waiting.extend(inspected.references.iter().cloned());
            }
            // Other documents need their memory while blobs are fetched.
            drop((turn, document));
            self.adopt_blobs(name, &inspected.required, adopted).await?;
            if let Some(blob) = self.stored(&digest).await? {
                found.push((inspected.pushed(blob, content::now()), inspected));
            }
        }
        // Children before the indexes that name them.
        found.into_iter().rev().for_each(|(pushed, inspected)| adopted.add_manifest(pushed, inspected));
        Ok(())
    }

    async fn adopt_blobs(&self, name: &Name, digests: &[Digest], adopted: &mut Adopted) -> Result<(), Error> {
        for digest in digests {
            let local = LocalRepository { resolver: self, name };
            if adopted.has_blob(digest) || local.has_blob(digest).await? {
                continue;
            }
            let blob = match self.blob_elsewhere(name, digest).await {
                Ok(BlobSource::Blob(blob)) => blob,
                Ok(BlobSource::Inline(_)) => continue,
                Err(error) => {
                    tracing::debug!(repository = %name, %digest, %error, "cannot adopt a blob");
                    continue;
                }
            };
            if let Some(stored) = self.content().fetch_stored(&blob).await? {
                adopted.add_blob(repository_blob(digest, stored));
            }
        }
        Ok(())
    }

    /// Returns a manifest that followed names have, or a peer, if the client saw content of peers under this name: it may count
    /// on that.
    async fn manifest_elsewhere(&self, name: &Name, reference: &Reference) -> Result<Document, Error> {
        match (followed::manifest(self, name, reference).await, reference) {
            (Err(error), Reference::Digest(digest)) if self.digests.is_seen(name) => {
                let Some(blob) = self.digests.find(self.content(), digest).await? else { return Err(error) };
                let read = Document::read(self.content(), &blob, None).await;
                read.map_err(|error| Error::image(name, error))
            }
            (found, _) => found,
        }
    }

    /// Returns a blob that followed names have, or a peer, likewise.
    async fn blob_elsewhere(&self, name: &Name, digest: &Digest) -> Result<BlobSource, Error> {
        match followed::blob(self, name, digest).await {
            Err(error) if self.digests.is_seen(name) => {
                let blob = self.digests.find(self.content(), digest).await?.ok_or(error)?;
                Ok(BlobSource::Blob(Box::new(blob)))
            }
            found => found,
        }
    }

    async fn stored(&self, digest: &Digest) -> Result<Option<RepositoryBlob>, content::Error> {
        let stored = self.content().stored_blob(digest).await?;
        Ok(stored.map(|stored| repository_blob(digest, stored)))
    }
}

fn repository_blob(digest: &Digest, stored: Stored) -> RepositoryBlob {
    RepositoryBlob { digest: digest.clone(), size: stored.size, root: stored.root }
}
