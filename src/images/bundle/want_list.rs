//! The want-list of an import: which blobs are missing, for `bundle export --want` on the other side.

use std::collections::HashSet;

use ocipfs_oci::{Digest, Name, Tag};
use serde::{Deserialize, Serialize};

/// The media type of a want-list.
pub const WANT_LIST_TYPE: &str = "application/vnd.ocipfs.bundle.want.v1+json";

/// What is missing of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WantList {
    /// [`WANT_LIST_TYPE`].
    pub media_type: String,
    /// The CID of the bundle's manifest.
    pub bundle: String,
    /// The images that are not complete.
    pub images: Vec<WantedImage>,
    /// The blobs that are missing.
    pub blobs: Vec<Digest>,
    /// Their bytes.
    pub bytes: u64,
}

/// An image that is not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WantedImage {
    /// Its repository.
    pub repository: Name,
    /// Its tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// The digest of its manifest or index.
    pub digest: Digest,
    /// Its platforms, where others were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    /// How many of its blobs are known to be missing.
    pub missing: usize,
}

/// A blob that is missing, as people are told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingBlob {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes; 0 where it is not known.
    pub size: u64,
    /// What it is, and of which image.
    pub what: String,
}

impl WantList {
    /// Reads a want-list.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let list: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match list.media_type == WANT_LIST_TYPE {
            true => Ok(list),
            false => Err(format!("its media type is {:?}, expected {WANT_LIST_TYPE:?}", list.media_type)),
        }
    }

    /// Adds what is missing of another bundle.
    pub fn merge(&mut self, other: Self) {
        let known: HashSet<Digest> = self.blobs.iter().cloned().collect();
        if other.bundle != self.bundle {
            self.bundle = other.bundle;
        }
        self.images.extend(other.images);
        self.blobs.extend(other.blobs.into_iter().filter(|digest| !known.contains(digest)));
        self.bytes += other.bytes;
    }
}

impl WantedImage {
    /// Returns the reference by which it is pulled, without a registry.
    pub fn reference(&self) -> String {
        match &self.tag {
            Some(tag) => format!("{}:{tag}", self.repository),
            None => format!("{}@{}", self.repository, self.digest),
        }
    }
}
