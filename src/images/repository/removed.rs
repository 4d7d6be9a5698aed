use ocipfs_oci::{Digest, Name};

use super::RepositoryBlob;

/// Something that was removed from a repository, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The repository.
    pub repository: Name,
    /// Kind of the removed content.
    pub kind: RemovedKind,
    /// Its digest; of a tag, what it pointed at.
    pub digest: Digest,
    /// Its size in bytes; 0 for a tag.
    pub size: u64,
    /// Whether nothing else retains the bytes, so that they are deleted.
    pub freed: bool,
}

/// Removed content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovedKind {
    /// A tag, of this name.
    Tag(String),
    /// A manifest or an index.
    Manifest,
    /// A blob.
    Blob,
}

impl Removed {
    /// Returns the bytes that nothing else retains.
    pub fn freed_bytes(&self) -> u64 {
        if self.freed { self.size } else { 0 }
    }

    pub(super) fn tag(repository: &Name, tag: &str, digest: &Digest) -> Self {
        let kind = RemovedKind::Tag(tag.into());
        Self { repository: repository.clone(), kind, digest: digest.clone(), size: 0, freed: false }
    }

    pub(super) fn manifest(repository: &Name, blob: &RepositoryBlob, freed: bool) -> Self {
        Self::new(repository, RemovedKind::Manifest, blob, freed)
    }

    pub(super) fn blob(repository: &Name, blob: &RepositoryBlob, freed: bool) -> Self {
        Self::new(repository, RemovedKind::Blob, blob, freed)
    }

    fn new(repository: &Name, kind: RemovedKind, blob: &RepositoryBlob, freed: bool) -> Self {
        let RepositoryBlob { digest, size, .. } = blob.clone();
        Self { repository: repository.clone(), kind, digest, size, freed }
    }
}
