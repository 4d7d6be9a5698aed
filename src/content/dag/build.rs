//! Bytes -> UnixFS: fixed chunks under a balanced tree, CIDs equal to Kubo's.

use std::str::FromStr;

use bytes::Bytes;
use ipld_dagpb::{PbLink, PbNode};
use multihash_codetable::{Code, MultihashDigest};
use ocipfs_node::{Block, Cid};
use serde::Deserialize;

use super::{
    directory,
    unixfs::{self, DAG_PB, DagNode, RAW},
};
use crate::content::Error;

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
    /// Returns the profile's name in options.
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

    fn links(self) -> usize {
        match self {
            Self::UnixfsV1 => 1024,
            Self::Legacy => 174,
        }
    }

    /// A leaf of any length, and its block.
    pub(in crate::content) fn leaf_block(self, chunk: Bytes) -> (Root, Block) {
        let mut framed = Vec::new();
        let (cid, size) = (self.leaf(&chunk, &mut framed), chunk.len() as u64);
        let data = if cid.codec() == RAW { chunk } else { framed.into() };
        (Root { cid, size, dag_size: data.len() as u64 }, Block { cid, data })
    }

    pub(super) fn dag_pb(self, node: PbNode) -> Block {
        let data = Bytes::from(node.into_bytes());
        Block { cid: self.dag_pb_cid(&data), data }
    }

    /// The CID of a leaf, and its block where that is more than the chunk.
    fn leaf(self, chunk: &[u8], block: &mut Vec<u8>) -> Cid {
        match self {
            Self::UnixfsV1 => Cid::new_v1(RAW, Code::Sha2_256.digest(chunk)),
            Self::Legacy => {
                let (head, tail) = unixfs::leaf_frame(chunk.len() as u64);
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

    /// An inner node of a file above these children.
    pub(in crate::content) fn file_node(self, children: &[Root]) -> (Root, Block) {
        let data = unixfs::file_data(&[], children.iter().map(|child| child.size));
        let link =
            |child: &Root| PbLink { cid: child.cid, name: Some(String::new()), size: Some(child.dag_size) };
        let block =
            self.dag_pb(PbNode { links: children.iter().map(link).collect(), data: Some(data.into()) });
        let size = children.iter().map(|child| child.size).sum();
        let dag_size = children.iter().map(|child| child.dag_size).sum::<u64>() + block.data.len() as u64;
        (Root { cid: block.cid, size, dag_size }, block)
    }

    /// A directory of one file.
    pub fn directory(self, name: &str, root: &Root) -> (Root, Block) {
        self.node(vec![directory::link(name.into(), root)], unixfs::directory_data())
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
    pub fn of(cid: Cid, block: Bytes) -> Result<Self, Error> {
        let (unit, below) = DagNode::decode_with_sizes(&cid, block.clone())?;
        let dag_size = below.into_iter().fold(block.len() as u64, u64::saturating_add);
        Ok(Self { cid, size: unit.size(), dag_size })
    }
}

/// Builds the tree from its leaves up, holding no more than one open node a level.
pub struct Builder {
    profile: Profile,
    levels: Vec<Vec<Root>>,
    /// Memory for the block of a framed leaf.
    framed: Vec<u8>,
}

impl Builder {
    pub fn new(profile: Profile) -> Self {
        Self { profile, levels: vec![Vec::new()], framed: Vec::new() }
    }

    /// Adds a chunk, of the profile's length but for the last, and returns the blocks that are finished.
    pub fn push(&mut self, chunk: Bytes) -> Vec<Block> {
        let (cid, nodes) = self.push_leaf(&chunk);
        let data = if cid.codec() == RAW { chunk } else { Bytes::copy_from_slice(&self.framed) };
        [Block { cid, data }].into_iter().chain(nodes).collect()
    }

    /// Adds a chunk like [`Self::push`], but returns only the leaf's CID and the inner nodes that are
    /// finished.
    pub fn push_leaf(&mut self, chunk: &[u8]) -> (Cid, Vec<Block>) {
        self.framed.clear();
        let cid = self.profile.leaf(chunk, &mut self.framed);
        let dag_size = if self.framed.is_empty() { chunk.len() } else { self.framed.len() } as u64;
        let mut nodes = Vec::new();
        self.add(0, Root { cid, size: chunk.len() as u64, dag_size }, &mut nodes);
        (cid, nodes)
    }

    fn add(&mut self, level: usize, root: Root, blocks: &mut Vec<Block>) {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        // A full node is closed only when one more comes: alone it may be the root.
        if self.levels[level].len() == self.profile.links() {
            let parent = self.close(level, blocks);
            self.add(level + 1, parent, blocks);
        }
        self.levels[level].push(root);
    }

    fn close(&mut self, level: usize, blocks: &mut Vec<Block>) -> Root {
        let children = std::mem::take(&mut self.levels[level]);
        let (root, block) = self.profile.file_node(&children);
        blocks.push(block);
        root
    }

    /// Closes every open node and returns the root with the last blocks.
    pub fn finish(mut self) -> (Root, Vec<Block>) {
        let mut blocks = Vec::new();
        if self.levels[0].is_empty() {
            blocks = self.push(Bytes::new());
        }
        let mut level = 0;
        loop {
            let top = level + 1 == self.levels.len();
            if let ([root], true) = (self.levels[level].as_slice(), top) {
                return (*root, blocks);
            }
            let parent = self.close(level, &mut blocks);
            level += 1;
            self.add(level, parent, &mut blocks);
        }
    }
}
