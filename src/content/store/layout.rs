//! Layout of a blob's DAG: which blocks are windows of the blob, and which are stored themselves.

use bytes::Bytes;
use ocipfs_node::{Block, Cid, as_v1};

use super::Error;
use ocipfs_unixfs::{RAW, leaf_frame};

/// A block's name in the index: codec and multihash, so that both versions of a CID are one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey(Box<[u8]>);

impl BlockKey {
    pub fn of(cid: &Cid) -> Self {
        let cid = as_v1(cid).to_bytes();
        // The first byte is the version.
        Self(cid[1..].into())
    }

    /// The block's CID, in version 1.
    pub fn cid(&self) -> Result<Cid, Error> {
        Cid::try_from([&[1], &*self.0].concat()).map_err(|e| Error::Damaged(e.to_string()))
    }

    pub fn from_row(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A block whose data is a window of the blob: raw, or a dag-pb leaf framed as Kubo frames it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The block.
    pub cid: Cid,
    /// Where its data begins in the blob.
    pub offset: u64,
    /// How long its data is, without the frame.
    pub length: u64,
}

/// One DAG over a blob.
#[derive(Clone, Debug)]
pub struct BlobLayout {
    /// Its root.
    pub root: Cid,
    /// The windows.
    pub leaves: Vec<Leaf>,
    /// The other blocks: inner nodes, and leaves that are framed in another way.
    pub nodes: Vec<Block>,
}

/// Where a block is, within the file of its owner or in its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockPlace {
    /// The whole block.
    Inline(Bytes),
    /// Its data; the frame follows from the codec and the length.
    Window { offset: u64, length: u64 },
}

impl BlockPlace {
    pub fn window(leaf: &Leaf) -> Self {
        Self::Window { offset: leaf.offset, length: leaf.length }
    }

    /// The length of the block.
    pub fn block_size(&self, cid: &Cid) -> u64 {
        match self {
            Self::Inline(block) => block.len() as u64,
            Self::Window { length, .. } => {
                let (head, tail) = frame(cid, *length);
                head.len() as u64 + length + tail.len() as u64
            }
        }
    }
}

/// Returns the bytes before and after the data of a leaf; none for a raw leaf.
pub fn frame(cid: &Cid, length: u64) -> (Vec<u8>, Vec<u8>) {
    if cid.codec() == RAW { Default::default() } else { leaf_frame(length) }
}
