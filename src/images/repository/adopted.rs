use std::collections::BTreeMap;

use ocipfs_oci::{Digest, Name};

use super::{Edit, InspectedManifest, Pushed, RepositoryBlob};
use crate::content::{self, StoreError};

/// Content of followed repositories that is stored here and becomes part of a repository with the manifest that needs it.
#[derive(Clone, Default)]
pub struct Adopted {
    blobs: BTreeMap<Digest, RepositoryBlob>,
    /// Children before the indexes that name them.
    manifests: Vec<AdoptedManifest>,
    /// Manifests that followed repositories have, and what is pushed refers to.
    elsewhere: Vec<Digest>,
}

/// A manifest, as its repository keeps it.
#[derive(Clone)]
struct AdoptedManifest {
    pushed: Pushed,
    inspected: InspectedManifest,
}

impl Adopted {
    /// Adds a blob.
    pub fn add_blob(&mut self, blob: RepositoryBlob) {
        self.blobs.insert(blob.digest.clone(), blob);
    }

    /// Whether it has a blob.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest)
    }

    /// Adds a manifest, whose children were added before.
    pub fn add_manifest(&mut self, pushed: Pushed, inspected: InspectedManifest) {
        self.manifests.push(AdoptedManifest { pushed, inspected });
    }

    /// Notes that a followed repository has a manifest, so that what refers to it is kept.
    pub fn add_elsewhere(&mut self, digest: Digest) {
        self.elsewhere.push(digest);
    }

    /// Adds everything to a repository. A guard (`Content::gc_guard`) must be open since before it was fetched.
    ///
    /// # Errors
    /// Fails with [`StoreError::Gone`] where some of it was removed meanwhile.
    pub(super) fn apply(&self, edit: &Edit, name: &Name) -> Result<(), StoreError> {
        let blobs = self.blobs.values().chain(self.manifests.iter().map(|manifest| &manifest.pushed.blob));
        for RepositoryBlob { root, digest, .. } in blobs {
            if !content::is_stored(edit.write, root)? {
                return Err(StoreError::Gone(digest.clone()));
            }
        }
        self.blobs.values().try_for_each(|blob| edit.add_blob(name, blob))?;
        self.manifests.iter().try_for_each(|AdoptedManifest { pushed, inspected }| {
            edit.put_manifest(name, pushed, &[], Some(&inspected.referrer), &inspected.references)
        })?;
        self.elsewhere.iter().try_for_each(|digest| edit.record_elsewhere(name, digest))
    }
}
