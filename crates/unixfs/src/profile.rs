//! The parameters of the DAGs that are written, and the blocks that follow from them: CIDs equal to Kubo's.

use std::str::FromStr;

use bytes::Bytes;
use ipld_dagpb::{PbLink, PbNode};
use multihash_codetable::{Code, MultihashDigest};
use ocipfs_block::{Block, Cid};
use serde::Deserialize;

use super::{
    dag_node::{DAG_PB, DagNode, RAW},
    data,
};
use crate::Error;

/// The shape of a DAG: two nodes that agree on it give the same bytes the same CID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Profile {
    /// `unixfs-v1-2025`: CIDv1, raw leaves of 1 MiB, 1,024 links a node.
    #[default]
    UnixfsV1,
    /// `legacy`: CIDv0, dag-pb leaves of 256 KiB, 174 links a node.
    Legacy,
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unixfs-v1-2025" => Ok(Self::UnixfsV1),
            "legacy" => Ok(Self::Legacy),
            _ => Err(format!("unknown profile {text:?}: expected `unixfs-v1-2025` or `legacy`")),
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
        }
    }

    /// The length of a leaf in bytes.
    pub fn chunk(self) -> usize {
        match self {
            Self::UnixfsV1 => 1 << 20,
            Self::Legacy => 256 << 10,
        }
    }

    /// The most links of a node of a file.
    pub(crate) fn max_links(self) -> usize {
        match self {
            Self::UnixfsV1 => 1024,
            Self::Legacy => 174,
        }
    }

    /// Returns a leaf of any length, and its block.
    pub fn leaf_block(self, chunk: Bytes) -> (Root, Block) {
        let mut framed = Vec::new();
        let (cid, size) = (self.leaf(&chunk, &mut framed), chunk.len() as u64);
        let data = if cid.codec() == RAW { chunk } else { framed.into() };
        (Root { cid, size, dag_size: data.len() as u64 }, Block { cid, data })
    }

    fn dag_pb(self, node: PbNode) -> Block {
        let data = Bytes::from(node.into_bytes());
        Block { cid: self.dag_pb_cid(&data), data }
    }

    /// The CID of a leaf, and its block where that is more than the chunk.
    pub(crate) fn leaf(self, chunk: &[u8], block: &mut Vec<u8>) -> Cid {
        match self {
            Self::UnixfsV1 => Cid::new_v1(RAW, Code::Sha2_256.digest(chunk)),
            Self::Legacy => {
                let (head, tail) = data::leaf_frame(chunk.len() as u64);
                block.clear();
                [&head, chunk, &tail].iter().for_each(|part| block.extend_from_slice(part));
                self.dag_pb_cid(block)
            }
        }
    }

    fn dag_pb_cid(self, block: &[u8]) -> Cid {
        let hash = Code::Sha2_256.digest(block);
        match self {
            Self::UnixfsV1 => Cid::new_v1(DAG_PB, hash),
            // A sha2-256 hash is the one thing a CIDv0 holds.
            Self::Legacy => Cid::new_v0(hash).unwrap_or_else(|_| Cid::new_v1(DAG_PB, hash)),
        }
    }

    /// Returns the inner node of a file above these children, and its block.
    pub fn file_node(self, children: &[Root]) -> (Root, Block) {
        let data = data::file_data(&[], children.iter().map(|child| child.size));
        let link =
            |child: &Root| PbLink { cid: child.cid, name: Some(String::new()), size: Some(child.dag_size) };
        let block =
            self.dag_pb(PbNode { links: children.iter().map(link).collect(), data: Some(data.into()) });
        let size = children.iter().map(|child| child.size).sum();
        let dag_size = children.iter().map(|child| child.dag_size).sum::<u64>() + block.data.len() as u64;
        (Root { cid: block.cid, size, dag_size }, block)
    }

    /// Returns a directory of one file, and its block.
    pub fn directory(self, name: &str, root: &Root) -> (Root, Block) {
        self.directory_node(vec![link(name.into(), root)], data::directory_data())
    }

    /// A directory node, plain or a shard, with these links and this `Data`.
    pub(crate) fn directory_node(self, links: Vec<PbLink>, data: Vec<u8>) -> (Root, Block) {
        let below: u64 = links.iter().filter_map(|link| link.size).sum();
        let block = self.dag_pb(PbNode { links, data: Some(data.into()) });
        (Root { cid: block.cid, size: 0, dag_size: below + block.data.len() as u64 }, block)
    }
}

/// The top of a DAG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// Its block.
    pub cid: Cid,
    /// The file's bytes below it.
    pub size: u64,
    /// The blocks' bytes below and with it (`Tsize`).
    pub dag_size: u64,
}

impl Root {
    /// Returns the root of the DAG below a block, with the sizes that the block declares.
    ///
    /// # Errors
    /// Fails if the block cannot be decoded.
    pub fn of(cid: Cid, block: Bytes) -> Result<Self, Error> {
        let (node, below) = DagNode::decode_with_sizes(&cid, block.clone())?;
        let dag_size = below.into_iter().fold(block.len() as u64, u64::saturating_add);
        Ok(Self { cid, size: node.size(), dag_size })
    }
}

/// A link to an entry of a directory.
pub(crate) fn link(name: String, root: &Root) -> PbLink {
    PbLink { cid: root.cid, name: Some(name), size: Some(root.dag_size) }
}
