//! Taking into a repository here what only followed names have of it: fetched where necessary, and owned from then on.

use std::collections::{BTreeMap, BTreeSet};

use ocipfs_oci::{Digest, Name, Reference, Tag};
use redb::WriteTransaction;

use super::{BlobSource, Error, Resolver, followed, local::LocalRepository};
use crate::{
    content::{self, StoreError},
    images::repository::{Edit, InspectedManifest, Pushed, RepositoryBlob, inspect, subject_of},
};

/// Manifests that one index may bring with it.
const MAX_MANIFESTS: usize = 1_000;

/// Content fetched from followed names, which becomes part of a repository with [`Adopted::add`].
#[derive(Clone, Default)]
pub struct Adopted {
    pieces: BTreeMap<Digest, RepositoryBlob>,
    /// Children before the indexes that name them.
    manifests: Vec<AdoptedManifest>,
    /// Manifests that followed names have, and what is pushed refers to.
    elsewhere: Vec<Digest>,
}

/// A manifest, as its repository keeps it.
#[derive(Clone)]
struct AdoptedManifest {
    pushed: Pushed,
    inspected: InspectedManifest,
}

impl Adopted {
    /// Adds it in a transaction. A guard (`Content::gc_guard`) must be open since before it was fetched.
    ///
    /// # Errors
    /// Fails with [`StoreError::Gone`] where something of it was removed meanwhile.
    pub fn add(&self, write: &WriteTransaction, name: &Name) -> Result<(), StoreError> {
        let edit = Edit::new(write);
        let pieces = self.pieces.values().chain(self.manifests.iter().map(|manifest| &manifest.pushed.piece));
        for RepositoryBlob { root, digest, .. } in pieces {
            if !content::is_stored(write, root)? {
                return Err(StoreError::Gone(digest.clone()));
            }
        }
        self.pieces.values().try_for_each(|piece| edit.add_piece(name, piece))?;
        self.manifests.iter().try_for_each(|AdoptedManifest { pushed, inspected }| {
            edit.put_manifest(name, pushed, &[], Some(&inspected.referrer), &inspected.references)
        })?;
        self.elsewhere.iter().try_for_each(|digest| edit.note_elsewhere(name, digest))
    }

    /// Returns the one blob that was adopted.
    pub fn piece(&self, digest: &Digest) -> Option<&RepositoryBlob> {
        self.pieces.get(digest)
    }
}

impl Resolver {
    /// Fetches a blob of `from` that followed names have; nothing where they have none.
    pub async fn adopt_blob(&self, from: &Name, digest: &Digest) -> Result<Adopted, Error> {
        let mut adopted = Adopted::default();
        self.adopt_blobs(from, std::slice::from_ref(digest), &mut adopted).await?;
        Ok(adopted)
    }

    /// Fetches the content that a manifest of `name` needs and followed names have: the blobs of an image,
    /// the manifests of an index. Content that they do not have is left out.
    pub async fn adopt(
        &self,
        name: &Name,
        (digest, tags): (&Digest, &[Tag]),
        manifest: &InspectedManifest,
    ) -> Result<Adopted, Error> {
        let mut adopted = Adopted::default();
        if self.followed().names().is_empty() {
            return Ok(adopted);
        }
        let subjects = tags.iter().filter_map(subject_of).chain(manifest.subject.clone());
        for digest in subjects.chain([digest.clone()]) {
            let reference = Reference::Digest(digest.clone());
            if followed::origin(self, name, &followed::Target::Manifest(&reference)).await.is_some() {
                adopted.elsewhere.push(digest);
            }
        }
        self.adopt_blobs(name, &manifest.blobs, &mut adopted).await?;
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
            let document = match followed::manifest(self, name, &reference).await {
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
            self.adopt_blobs(name, &inspected.blobs, adopted).await?;
            if let Some(piece) = self.stored(&digest).await? {
                found.push(AdoptedManifest { pushed: inspected.pushed(piece, content::now()), inspected });
            }
        }
        adopted.manifests.extend(found.into_iter().rev());
        Ok(())
    }

    async fn adopt_blobs(&self, name: &Name, digests: &[Digest], adopted: &mut Adopted) -> Result<(), Error> {
        for digest in digests {
            let local = LocalRepository { resolver: self, name };
            if adopted.pieces.contains_key(digest) || local.has_blob(digest).await? {
                continue;
            }
            let blob = match followed::blob(self, name, digest).await {
                Ok(BlobSource::Blob(blob)) => blob,
                Ok(BlobSource::Inline(_)) => continue,
                Err(error) => {
                    tracing::debug!(repository = %name, %digest, %error, "cannot adopt a blob");
                    continue;
                }
            };
            self.content().fetch(&blob).await?.wait_until_stored(&mut |_| {}).await?;
            if let Some(piece) = self.stored(digest).await? {
                adopted.pieces.insert(digest.clone(), piece);
            }
        }
        Ok(())
    }

    async fn stored(&self, digest: &Digest) -> Result<Option<RepositoryBlob>, content::Error> {
        let stored = self.content().stored_blob(digest).await?;
        Ok(stored.map(|stored| RepositoryBlob {
            digest: digest.clone(),
            size: stored.size,
            root: stored.root,
        }))
    }
}
