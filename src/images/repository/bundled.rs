//! Adds an image of a bundle to a repository, with all that belongs to it, in one commit.

use ocipfs_oci::{Digest, Name, Tag};

use super::{Edit, InspectedManifest, Repositories, RepositoryBlob};
use crate::content::{self, StoreError, now};

/// An image whose blobs are all stored.
#[derive(Clone, Debug, Default)]
pub struct CompleteImage {
    /// The blobs that its manifests need.
    pub blobs: Vec<RepositoryBlob>,
    /// Its manifests and those of its referrers, children before the indexes that name them.
    pub manifests: Vec<CompleteManifest>,
}

/// A manifest that is stored.
#[derive(Clone, Debug)]
pub struct CompleteManifest {
    /// Where its bytes are.
    pub blob: RepositoryBlob,
    /// What it says of itself.
    pub inspected: InspectedManifest,
    /// The tags that point at it from now on.
    pub tags: Vec<Tag>,
}

/// A tag that points at another manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagConflict {
    /// The tag.
    pub tag: Tag,
    /// What it points at.
    pub digest: Digest,
}

impl Repositories {
    /// Adds an image to a repository, all of it or nothing. A guard (`Content::gc_guard`) must be open since before its blobs
    /// were found. Where tags must not be moved, one that points elsewhere is returned, and nothing was added.
    ///
    /// # Errors
    /// Fails with [`StoreError::Gone`] where some of it was removed meanwhile.
    pub fn commit_image(
        &self,
        name: &Name,
        image: CompleteImage,
        moves_tags: bool,
    ) -> Result<Option<TagConflict>, StoreError> {
        let name = name.clone();
        self.edit(move |edit| image.add(edit, &name, moves_tags))
    }
}

impl CompleteImage {
    fn add(&self, edit: &Edit, name: &Name, moves_tags: bool) -> Result<Option<TagConflict>, StoreError> {
        let manifests = self.manifests.iter().map(|manifest| &manifest.blob);
        for RepositoryBlob { root, digest, .. } in self.blobs.iter().chain(manifests) {
            if !content::is_stored(edit.write, root)? {
                return Err(StoreError::Gone(digest.clone()));
            }
        }
        for CompleteManifest { blob, tags, .. } in self.manifests.iter().filter(|_| !moves_tags) {
            for tag in tags {
                if let Some(digest) = edit.tag(name, tag)?.filter(|digest| *digest != blob.digest) {
                    return Ok(Some(TagConflict { tag: tag.clone(), digest }));
                }
            }
        }
        self.blobs.iter().try_for_each(|blob| edit.add_blob(name, blob))?;
        for CompleteManifest { blob, inspected, tags } in &self.manifests {
            let pushed = inspected.pushed(blob.clone(), now());
            edit.put_manifest(name, &pushed, tags, Some(&inspected.referrer), &inspected.references)?;
        }
        Ok(None)
    }
}
