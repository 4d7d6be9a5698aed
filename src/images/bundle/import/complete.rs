//! Which images of a bundle are complete: all manifests that the bundle lists of them are stored, and all blobs that those need.

use std::collections::{HashMap, HashSet};

use ocipfs_oci::{Digest, Tag};

use super::ReadBundle;
use crate::{
    content::{Blob, Content, Store, Stored},
    images::{
        MAX_MANIFEST,
        bundle::{BundledBlob, BundledImage, BundledManifest, Error},
        repository::{CompleteImage, CompleteManifest, InspectedManifest, RepositoryBlob, inspect},
    },
};

/// The blobs of a bundle that are stored, and those that are not.
pub struct Completer<'a> {
    content: &'a Content,
    listed: HashMap<&'a Digest, &'a BundledBlob>,
    stored: HashMap<Digest, Stored>,
    missing: Vec<(Digest, u64)>,
}

impl<'a> Completer<'a> {
    /// Looks for the blobs of a bundle.
    pub async fn new(content: &'a Content, bundle: &'a ReadBundle) -> Result<Self, Error> {
        let blobs: Vec<(Digest, u64)> =
            bundle.manifest.blobs.iter().map(|blob| (blob.digest.clone(), blob.size)).collect();
        let find = move |store: &Store| {
            let (mut found, mut missing) = (HashMap::new(), Vec::new());
            for (digest, size) in blobs {
                match store.present_guarded(&digest)? {
                    Some(stored) => drop(found.insert(digest, stored)),
                    None => missing.push((digest, size)),
                }
            }
            Ok((found, missing))
        };
        let (stored, missing) = content.store().run(find).await?;
        Ok(Self { content, listed: bundle.manifest.by_digest(), stored, missing })
    }

    /// Returns the blobs that are missing, with their sizes.
    pub fn missing(&self) -> Vec<(Digest, u64)> {
        self.missing.clone()
    }

    /// Returns an image with all that it needs, or what is missing of it.
    pub async fn image(&self, image: &BundledImage) -> Result<Result<CompleteImage, HashSet<Digest>>, Error> {
        let (mut complete, mut missing) = (CompleteImage::default(), HashSet::new());
        let (mut needed, mut seen) = (HashSet::new(), HashSet::new());
        for (number, manifest) in image.manifests.iter().enumerate() {
            if !seen.insert(&manifest.digest) {
                continue;
            }
            let Some(blob) = self.repository_blob(&manifest.digest) else {
                missing.insert(manifest.digest.clone());
                continue;
            };
            let inspected = self.inspect(manifest, &blob).await?;
            needed.extend(self.needed(&inspected));
            let own = image.tag.iter().filter(|_| number == 0).cloned();
            let tags: Vec<Tag> = own.chain(manifest.tag.clone()).collect();
            complete.manifests.push(CompleteManifest { blob, inspected, tags });
        }
        // Children come after the indexes that name them.
        complete.manifests.reverse();
        needed.retain(|digest| !seen.contains(digest));
        for digest in needed {
            match self.repository_blob(&digest) {
                Some(blob) => complete.blobs.push(blob),
                None => drop(missing.insert(digest)),
            }
        }
        Ok(if missing.is_empty() { Ok(complete) } else { Err(missing) })
    }

    /// Returns the blobs that a manifest cannot be pulled without, and others of it that the bundle lists: foreign layers, and
    /// the blobs that an index has entries of.
    fn needed(&self, manifest: &InspectedManifest) -> HashSet<Digest> {
        let listed = manifest.references.iter().filter(|digest| self.listed.contains_key(digest));
        manifest.required.iter().chain(listed).cloned().collect()
    }

    fn repository_blob(&self, digest: &Digest) -> Option<RepositoryBlob> {
        let Stored { size, root, .. } = self.stored.get(digest)?.clone();
        Some(RepositoryBlob { digest: digest.clone(), size, root })
    }

    async fn inspect(
        &self,
        manifest: &BundledManifest,
        blob: &RepositoryBlob,
    ) -> Result<InspectedManifest, Error> {
        let RepositoryBlob { digest, size, root } = blob.clone();
        let at = Blob { digest, size, at: root.into(), gc_root: None };
        let bytes = self.content.read_blob(&at, MAX_MANIFEST).await?;
        let said = Some(manifest.media_type.as_str()).filter(|said| !said.is_empty());
        inspect(&bytes, &blob.digest, said)
            .map_err(|why| Error::Manifest { digest: blob.digest.clone(), why })
    }
}
