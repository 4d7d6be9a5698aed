use ocipfs_block::Cid;

/// An error of reading a DAG.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A block is not what its DAG declares.
    #[error("invalid block {cid}: {why}")]
    Invalid {
        /// The block.
        cid: Cid,
        /// What is wrong with it.
        why: String,
    },
    /// A block is needed that is not available.
    #[error("block {0} not found")]
    Missing(Cid),
}
