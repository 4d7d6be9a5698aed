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
    /// Whether nothing else holds the bytes, so that they are deleted.
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
    /// Returns the bytes that nothing else holds.
    pub fn freed_bytes(&self) -> u64 {
        if self.freed { self.size } else { 0 }
    }

    pub(super) fn tag(repository: &Name, tag: &str, digest: &Digest) -> Self {
        let kind = RemovedKind::Tag(tag.into());
        Self { repository: repository.clone(), kind, digest: digest.clone(), size: 0, freed: false }
    }

    pub(super) fn manifest(repository: &Name, piece: &RepositoryBlob, freed: bool) -> Self {
        Self::piece(repository, RemovedKind::Manifest, piece, freed)
    }

    pub(super) fn blob(repository: &Name, piece: &RepositoryBlob, freed: bool) -> Self {
        Self::piece(repository, RemovedKind::Blob, piece, freed)
    }

    fn piece(repository: &Name, kind: RemovedKind, piece: &RepositoryBlob, freed: bool) -> Self {
        let RepositoryBlob { digest, size, .. } = piece.clone();
        Self { repository: repository.clone(), kind, digest, size, freed }
    }
}
