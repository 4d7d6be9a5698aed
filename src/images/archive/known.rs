//! Blobs of an archive that the store has already: they are neither read nor written again.

use ocipfs_oci::Digest;

use super::{
    Error, Options,
    parts::{ArchivePart, ArchivePartKind, ArchiveParts, HEAD_BYTES, hashes_to},
    path::digest_of,
    stage::{Plan, StagedBlob, StagedEntry},
};
use crate::{
    content::{KnownBlob, StoreError},
    images::pack::inspect::Compression,
};

impl ArchiveParts {
    /// Returns the blob that a path of the archive names by its digest and its size, if it is stored as it would be staged, and
    /// has this size where one is known.
    pub(super) fn known(&self, path: &str, size: Option<u64>) -> Result<Option<(ArchivePart, u64)>, Error> {
        let Some(digest) = digest_of(path) else { return Ok(None) };
        let Options { store, profile, .. } = &self.options;
        let known = KnownBlob::find(store, *profile, &digest)?;
        let Some(known) = known.filter(|known| size.is_none_or(|size| size == known.root.size)) else {
            return Ok(None);
        };
        let size = known.root.size;
        let file = match store.open_file(&known.stored) {
            Err(StoreError::Gone(_)) => return Ok(None),
            file => file?,
        };
        // What cannot be read is damaged: the archive has it.
        let Ok(head) = file.read_at(0, HEAD_BYTES.min(size) as usize) else { return Ok(None) };
        let part = match self.kind_of(path, &head, size) {
            Some(ArchivePartKind::Document) => {
                let bytes = file.read_at(0, size as usize).ok();
                bytes.filter(|bytes| hashes_to(bytes, &digest)).map(ArchivePart::Document)
            }
            Some(ArchivePartKind::Staged(Plan {
                keep: true,
                compress: None,
                unpack: false,
                compression,
            })) => Some(ArchivePart::Staged(Box::new(staged(known, &digest, compression)))),
            _ => None,
        };
        Ok(part.map(|part| (part, size)))
    }
}

fn staged(known: KnownBlob, digest: &Digest, compression: Compression) -> StagedEntry {
    let diff_id = (compression == Compression::None).then(|| digest.clone());
    StagedEntry { kept: Some(StagedBlob::of_known(known, digest, compression)), compressed: None, diff_id }
}
