//! Options of the nodes of a DAG, and the blocks that follow from them: CIDs equal to Kubo's.

use bytes::Bytes;
use ipld_dagpb::{PbLink, PbNode};
use multihash_codetable::{Code, MultihashDigest};
use ocipfs_block::{Block, Cid, inline_cid};

use super::{
    dag_node::{DAG_PB, RAW},
    data,
    metadata::Metadata,
    root::{Root, link},
};

/// How the size of a directory is computed that decides whether it is sharded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectorySize {
    /// By the lengths of names and CIDs.
    Links,
    /// By the length of the block.
    Block,
}

/// How the nodes of a DAG are written: two writers that agree on it, and on the chunks, give the same bytes the same CID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DagOptions {
    /// Whether nodes have a CIDv0, which needs SHA2-256.
    pub cid_v0: bool,
    /// The hash function.
    pub hash: Code,
    /// Whether the leaves of a file are its bytes alone.
    pub raw_leaves: bool,
    /// The most links of a node of a file.
    pub max_links: usize,
    /// Blocks of at most so many bytes are carried by their CIDs; at most 64.
    pub inline: Option<usize>,
    /// Whether files are trickle DAGs: first leaves below the root, then four subtrees of each depth.
    pub trickle: bool,
    /// The measure of directories.
    pub directory_size: DirectorySize,
    /// Mode and time that the roots of files, directories and links get.
    pub metadata: Metadata,
}

impl DagOptions {
    fn cid(&self, codec: u64, block: &[u8]) -> Cid {
        if let Some(limit) = self.inline
            && block.len() <= limit
            && let Some(cid) = inline_cid(codec, block)
        {
            return cid;
        }
        let hash = self.hash.digest(block);
        match self.cid_v0 && codec == DAG_PB {
            // A sha2-256 hash is the one thing a CIDv0 holds.
            true => Cid::new_v0(hash).unwrap_or_else(|_| Cid::new_v1(codec, hash)),
            false => Cid::new_v1(codec, hash),
        }
    }

    /// The CID of a leaf, and its block where that is more than the chunk.
    pub(crate) fn leaf(&self, chunk: &[u8], block: &mut Vec<u8>) -> Cid {
        block.clear();
        if self.raw_leaves {
            return self.cid(RAW, chunk);
        }
        let (head, tail) = data::leaf_frame(chunk.len() as u64);
        [&head, chunk, &tail].iter().for_each(|part| block.extend_from_slice(part));
        self.cid(DAG_PB, block)
    }

    /// Returns a leaf of any length, and its block.
    pub fn leaf_block(&self, chunk: Bytes) -> (Root, Block) {
        let mut framed = Vec::new();
        let (cid, size) = (self.leaf(&chunk, &mut framed), chunk.len() as u64);
        let data = if cid.codec() == RAW { chunk } else { framed.into() };
        (Root { cid, size, dag_size: data.len() as u64 }, Block { cid, data })
    }

    /// Returns the root of a leaf of so many bytes that has this CID.
    pub fn leaf_root(&self, cid: Cid, size: u64) -> Root {
        let frame = match self.raw_leaves {
            true => 0,
            false => {
                let (head, tail) = data::leaf_frame(size);
                (head.len() + tail.len()) as u64
            }
        };
        Root { cid, size, dag_size: frame + size }
    }

    fn dag_pb(&self, node: PbNode) -> Block {
        let data = Bytes::from(node.into_bytes());
        Block { cid: self.cid(DAG_PB, &data), data }
    }

    /// Returns the inner node of a file above these children, and its block.
    pub fn file_node(&self, children: &[Root]) -> (Root, Block) {
        let data = data::file_data(&[], children.iter().map(|child| child.size));
        let link =
            |child: &Root| PbLink { cid: child.cid, name: Some(String::new()), size: Some(child.dag_size) };
        let block =
            self.dag_pb(PbNode { links: children.iter().map(link).collect(), data: Some(data.into()) });
        let size = children.iter().map(|child| child.size).sum();
        let dag_size = children.iter().map(|child| child.dag_size).sum::<u64>() + block.data.len() as u64;
        (Root { cid: block.cid, size, dag_size }, block)
    }

    /// Returns a symbolic link, and its block.
    pub fn symlink(&self, target: &str) -> (Root, Block) {
        let block = self.dag_pb(PbNode { links: Vec::new(), data: Some(data::symlink_data(target).into()) });
        self.with_metadata(Root { cid: block.cid, size: 0, dag_size: block.data.len() as u64 }, block)
    }

    /// Writes a root again with the metadata of these options; a root that is not a dag-pb node stays as it is.
    fn with_metadata(&self, root: Root, block: Block) -> (Root, Block) {
        let is_node = root.cid.codec() == DAG_PB && !self.metadata.is_empty();
        let node = PbNode::from_bytes(block.data.clone()).ok().filter(|_| is_node);
        let Some(PbNode { links, data: Some(data) }) = node else { return (root, block) };
        let mut data = Vec::from(data);
        self.metadata.append_to(&mut data);
        let made = self.dag_pb(PbNode { links, data: Some(data.into()) });
        let dag_size = root.dag_size - block.data.len() as u64 + made.data.len() as u64;
        (Root { cid: made.cid, dag_size, ..root }, made)
    }

    /// Writes the root among these blocks again with the metadata of these options.
    pub(crate) fn finish(&self, root: Root, mut blocks: Vec<Block>) -> (Root, Vec<Block>) {
        let mut made = root;
        if let Some(block) = blocks.iter_mut().find(|block| block.cid == root.cid) {
            (made, *block) = self.with_metadata(root, block.clone());
        }
        (made, blocks)
    }

    /// Returns a directory of one file, and its block.
    pub fn directory(&self, name: &str, root: &Root) -> (Root, Block) {
        self.directory_node(vec![link(name.into(), root)], data::directory_data())
    }

    /// A directory node, plain or a shard, with these links and this `Data`.
    pub(crate) fn directory_node(&self, links: Vec<PbLink>, data: Vec<u8>) -> (Root, Block) {
        let below: u64 = links.iter().filter_map(|link| link.size).sum();
        let block = self.dag_pb(PbNode { links, data: Some(data.into()) });
        (Root { cid: block.cid, size: 0, dag_size: below + block.data.len() as u64 }, block)
    }
}

/// Returns the hash function with this name of the multicodec table, if it is one that blocks are written with.
pub fn hash_function(name: &str) -> Option<Code> {
    Some(match name {
        "sha2-256" => Code::Sha2_256,
        "sha2-512" => Code::Sha2_512,
        "sha3-224" => Code::Sha3_224,
        "sha3-256" => Code::Sha3_256,
        "sha3-384" => Code::Sha3_384,
        "sha3-512" => Code::Sha3_512,
        "keccak-256" => Code::Keccak256,
        "keccak-512" => Code::Keccak512,
        "blake2b-256" => Code::Blake2b256,
        "blake2b-512" => Code::Blake2b512,
        "blake2s-256" => Code::Blake2s256,
        "blake3" => Code::Blake3_256,
        _ => return None,
    })
}
