use bytes::Bytes;
use ipld_dagpb::PbLink;
use ocipfs_block::Cid;

use super::dag_node::DagNode;
use crate::Error;

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
