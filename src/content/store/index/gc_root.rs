//! GC root of one key.

use ocipfs_node::Cid;
use ocipfs_oci::Digest;
use ocipfs_unixfs::CidPath;
use serde::{Deserialize, Serialize};

use super::{
    Error, damaged,
    rows::{GcRootRows, HeaderRow},
};

/// A GC root: the roots and blobs that one key retains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcRoot {
    /// Added by a command, not merely fetched for a client's pull.
    pub is_kept: bool,
    /// The roots of its DAGs; they are announced.
    pub(super) roots: Vec<Cid>,
    /// The blobs that are here because of it, and where the bytes of each are.
    pub blobs: Vec<(Digest, CidPath)>,
    /// CIDs reached from its roots that belong to it: kept, and not announced.
    pub(super) below: Vec<Cid>,
    /// Images that a command imported, with the names that they are pulled under.
    pub images: Vec<ImportedImage>,
}

/// An image that is retained, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedImage {
    /// The repository name and the tag, without a registry.
    pub reference: String,
    /// The digest of its manifest or index.
    pub digest: Digest,
    /// Bytes of all its blobs.
    pub size: u64,
}

impl GcRoot {
    /// Returns a GC root of `roots` with `blobs` below them.
    pub fn new(is_kept: bool, roots: &[Cid], blobs: Vec<(Digest, CidPath)>) -> Self {
        Self { is_kept, roots: roots.to_vec(), blobs, below: Vec::new(), images: Vec::new() }
    }

    /// Adds the CIDs below its roots that belong to it, and the images that were imported.
    pub fn of_images(self, below: &[Cid], images: Vec<ImportedImage>) -> Self {
        Self { below: below.to_vec(), images, ..self }
    }

    /// The roots of its DAGs.
    pub fn roots(&self) -> Vec<Cid> {
        self.roots.clone()
    }

    /// The roots of its DAGs, and the CIDs below them that belong to it.
    pub fn all_roots(&self) -> Vec<Cid> {
        self.roots.iter().chain(&self.below).copied().collect()
    }

    /// Adds its rows under its key.
    pub(super) fn add(&self, rows: &mut GcRootRows, gc_root_key: &[u8]) -> Result<(), Error> {
        for root in &self.roots {
            rows.add_root(gc_root_key, root, true)?;
        }
        for root in &self.below {
            rows.add_root(gc_root_key, root, false)?;
        }
        for (digest, at) in &self.blobs {
            rows.blobs.insert((gc_root_key, digest.to_string().as_str()), at.to_string().as_str())?;
        }
        Ok(())
    }

    pub(super) fn set_header(&self, rows: &mut GcRootRows, gc_root_key: &[u8]) -> Result<(), Error> {
        let images = serde_json::to_string(&self.images).map_err(damaged)?;
        rows.former.remove(gc_root_key)?;
        rows.headers.insert(gc_root_key, (self.is_kept, self.images.len() as u64, images.as_str()))?;
        Ok(())
    }
}

/// The images of a GC root, from its header.
pub(super) fn images((_, count, json): HeaderRow) -> Result<Vec<ImportedImage>, Error> {
    if count == 0 { Ok(Vec::new()) } else { serde_json::from_str(json).map_err(damaged) }
}
