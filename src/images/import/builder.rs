//! Where a form is put together: blobs by their digests, and those that are used.

use std::collections::BTreeMap;

use bytes::Bytes;
use ocipfs_node::Cid;
use ocipfs_oci::{Descriptor, Digest};

use super::Error;
use crate::{
    content::{Profile, Root, Store},
    images::archive::{self, Images, StagedBlob},
};

/// The blobs of an archive, and what a form takes of them.
pub struct ImageBuilder {
    store: Store,
    pub profile: Profile,
    pub images: Images,
    used: BTreeMap<Digest, Used>,
}

struct Used {
    piece: StagedBlob,
    /// A manifest or a layer, which may be asked for alone.
    is_image: bool,
}

impl ImageBuilder {
    pub fn new(store: Store, profile: Profile, images: Images) -> Self {
        Self { store, profile, images, used: BTreeMap::new() }
    }

    /// Uses a blob of the archive; its root, where it is there.
    pub fn blob(&mut self, digest: &Digest) -> Result<Option<Root>, Error> {
        if let Some(used) = self.used.get(digest) {
            return Ok(Some(used.piece.root));
        }
        if let Some(piece) = self.images.remove_blob(digest) {
            return Ok(Some(self.use_blob(digest.clone(), piece, true)));
        }
        let Some(bytes) = self.images.documents.get(digest).cloned() else { return Ok(None) };
        let piece = archive::put_as(&self.store, self.profile, bytes, digest)?;
        Ok(Some(self.use_blob(digest.clone(), piece, true)))
    }

    /// Uses a file that is made here; its digest and its root.
    pub fn made(&mut self, bytes: Vec<u8>) -> Result<(Digest, Root), Error> {
        let digest = Digest::sha256_of(&bytes);
        if let Some(used) = self.used.get(&digest) {
            return Ok((digest, used.piece.root));
        }
        let piece = archive::put_as(&self.store, self.profile, Bytes::from(bytes), &digest)?;
        let root = self.use_blob(digest.clone(), piece, false);
        Ok((digest, root))
    }

    fn use_blob(&mut self, digest: Digest, piece: StagedBlob, is_image: bool) -> Root {
        let root = piece.root;
        self.used.insert(digest, Used { piece, is_image });
        root
    }

    /// The root of a file that is used, and whether it is part of an image.
    pub fn file(&self, digest: &Digest) -> Option<(Cid, bool)> {
        self.used.get(digest).map(|used| (used.piece.root.cid, used.is_image))
    }

    /// Bytes of all blobs that are here below `top`.
    pub fn size(&self, top: &Descriptor) -> Result<u64, Error> {
        let below = self.images.below(top)?;
        let used = below.iter().filter_map(|digest| self.used.get(digest));
        Ok(used.map(|used| used.piece.size).sum())
    }

    /// Returns the staged blobs to store.
    pub fn into_pieces(self) -> Vec<StagedBlob> {
        self.used.into_values().map(|used| used.piece).collect()
    }
}
