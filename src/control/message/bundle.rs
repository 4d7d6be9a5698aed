//! Requests about bundles, and their replies.

use std::path::PathBuf;

use ocipfs_oci::{Digest, Platform, Tag};
use serde::{Deserialize, Serialize};

use super::ExportedImage;
use crate::images::bundle::{MissingBlob, WantList};

/// Request about bundles.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum BundleRequest {
    /// Write images to the attached destination.
    Export {
        /// The images.
        images: Vec<RequestedImage>,
        /// Its path, as the result shows it.
        dest: PathBuf,
        /// The size that no part reaches.
        split: Option<u64>,
        /// Earlier bundles, whose blobs are left out.
        since: Vec<Earlier>,
        /// What another node is missing: nothing else is written.
        want: Option<WantList>,
    },
    /// Import the attached bundles.
    Import {
        /// Whether tags that point at other manifests are moved.
        force: bool,
        /// Whether bundles of another private swarm are accepted.
        other_swarm: bool,
        /// How many bytes may be written for each byte that is read; none for no limit. An earlier command does not say it.
        #[serde(default = "default_max_expansion")]
        max_expansion: Option<u64>,
    },
}

/// The bytes that an import may write for each byte that it reads, unless the command says otherwise.
pub const MAX_EXPANSION: u64 = 32;

fn default_max_expansion() -> Option<u64> {
    Some(MAX_EXPANSION)
}

/// Images to be exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedImage {
    /// A reference, or a pattern of references.
    pub reference: String,
    /// The platforms that are exported of an index; all if there are none.
    pub platforms: Vec<Platform>,
    /// The tag that it has in the bundle, where the reference is a digest.
    pub tag: Option<Tag>,
    /// The file that lists it, if one does.
    pub listed_in: Option<String>,
}

/// An earlier bundle.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Earlier {
    /// Its CID, and the blobs that are in it or were in those before.
    Read {
        /// The CID.
        bundle: String,
        /// The blobs.
        blobs: Vec<Digest>,
    },
    /// Its CID; this node exported it.
    Exported(String),
}

/// To a `BundleRequest`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum BundleReply {
    /// To `Export`.
    Exported(ExportedBundle),
    /// To `Import`.
    Imported(Box<ImportedBundle>),
}

/// A bundle that was written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportedBundle {
    /// Where it was written.
    pub dest: PathBuf,
    /// The CID of its manifest.
    pub bundle: String,
    /// Its parts.
    pub parts: u32,
    /// Its bytes.
    pub bytes: u64,
    /// The blobs that are in it.
    pub blobs: usize,
    /// The blobs that were left out.
    pub left_out: usize,
    /// The images, in the order of the request.
    pub images: Vec<ExportedImage>,
}

/// What became of bundles that were imported.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ImportedBundle {
    /// The CIDs of the bundles.
    pub bundles: Vec<String>,
    /// The images that are complete.
    pub images: Vec<ExportedImage>,
    /// What is missing of others.
    pub missing: Option<WantList>,
    /// What each blob of that is.
    #[serde(default)]
    pub missing_blobs: Vec<MissingBlob>,
    /// Tags that point at other manifests, and were not moved.
    pub conflicts: Vec<String>,
    /// What is wrong with the files.
    pub problems: Vec<String>,
    /// Images that are served only to users who may sign them, and why.
    #[serde(default)]
    pub withheld: Vec<String>,
}
