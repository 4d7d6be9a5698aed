//! The profiles that settings choose from.

use std::str::FromStr;

use bytes::Bytes;
use multihash_codetable::Code;
use ocipfs_block::Block;
use serde::Deserialize;

pub use super::root::Root;
pub(crate) use super::root::link;
use super::{
    dag_options::{DagOptions, DirectorySize},
    metadata::Metadata,
};

/// The shape of a DAG: two nodes that agree on it give the same bytes the same CID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Profile {
    /// `unixfs-v1-2025`: CIDv1, raw leaves of 1 MiB, 1,024 links a node.
    #[default]
    UnixfsV1,
    /// `legacy`: CIDv0, dag-pb leaves of 256 KiB, 174 links a node.
    Legacy,
    /// `kubo-cid-v1`: CIDv1, raw leaves of 256 KiB, 174 links a node, as `ipfs add --cid-version 1` and nerdctl write.
    KuboCidV1,
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unixfs-v1-2025" => Ok(Self::UnixfsV1),
            "legacy" => Ok(Self::Legacy),
            "kubo-cid-v1" => Ok(Self::KuboCidV1),
            _ => {
                Err(format!("unknown profile {text:?}: expected `unixfs-v1-2025`, `legacy` or `kubo-cid-v1`"))
            }
        }
    }
}

impl TryFrom<String> for Profile {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Profile {
    /// Returns the name of the profile, as options take it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnixfsV1 => "unixfs-v1-2025",
            Self::Legacy => "legacy",
            Self::KuboCidV1 => "kubo-cid-v1",
        }
    }

    /// The length of a leaf in bytes.
    pub fn chunk(self) -> usize {
        match self {
            Self::UnixfsV1 => 1 << 20,
            Self::Legacy | Self::KuboCidV1 => 256 << 10,
        }
    }

    /// Returns the options of the nodes.
    pub fn options(self) -> DagOptions {
        let (hash, inline, metadata) = (Code::Sha2_256, None, Metadata::default());
        match self {
            Self::UnixfsV1 => DagOptions {
                cid_v0: false,
                hash,
                raw_leaves: true,
                max_links: 1024,
                inline,
                trickle: false,
                directory_size: DirectorySize::Block,
                metadata,
            },
            Self::Legacy => DagOptions {
                cid_v0: true,
                hash,
                raw_leaves: false,
                max_links: 174,
                inline,
                trickle: false,
                directory_size: DirectorySize::Links,
                metadata,
            },
            Self::KuboCidV1 => DagOptions {
                cid_v0: false,
                hash,
                raw_leaves: true,
                max_links: 174,
                inline,
                trickle: false,
                directory_size: DirectorySize::Links,
                metadata,
            },
        }
    }

    /// Returns a leaf of any length, and its block.
    pub fn leaf_block(self, chunk: Bytes) -> (Root, Block) {
        self.options().leaf_block(chunk)
    }

    /// Returns the inner node of a file above these children, and its block.
    pub fn file_node(self, children: &[Root]) -> (Root, Block) {
        self.options().file_node(children)
    }

    /// Returns a directory of one file, and its block.
    pub fn directory(self, name: &str, root: &Root) -> (Root, Block) {
        self.options().directory(name, root)
    }
}

impl From<Profile> for DagOptions {
    fn from(profile: Profile) -> Self {
        profile.options()
    }
}
