use std::{io, time::Duration};

use ocipfs_node::Cid;
use ocipfs_oci::Digest;

use super::{CidPath, store};

/// An error of reading or writing a blob.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The blocks could not be fetched.
    #[error(transparent)]
    Node(#[from] ocipfs_node::FetchError),
    /// A stored blob is damaged, and what is missing of it could not be fetched.
    #[error("blob {digest} is damaged on this node: {why}")]
    Damaged {
        /// The blob.
        digest: Digest,
        /// Why it was not repaired.
        why: ocipfs_node::FetchError,
    },
    /// The CID names something else than a file.
    #[error("{at} is {kind}, expected a file")]
    NotAFile {
        /// The path that was opened.
        at: CidPath,
        /// Kind of the entry that was found.
        kind: &'static str,
    },
    /// The CID names something else than a directory.
    #[error("{at} is {kind}, expected a directory")]
    NotADirectory {
        /// The path that was opened.
        at: CidPath,
        /// Kind of the entry that was found.
        kind: &'static str,
    },
    /// The directory has no such entry.
    #[error("{at}: the directory has no entry {entry:?}")]
    NoEntry {
        /// The path that was opened.
        at: CidPath,
        /// The missing name.
        entry: String,
    },
    /// A block is not what its DAG says.
    #[error("invalid block {cid}: {why}")]
    Corrupt {
        /// The block.
        cid: Cid,
        /// Description of the error.
        why: String,
    },
    /// The bytes behind a CID are not those that the digest promised.
    #[error("content of {at} does not match: {why}")]
    Mismatch {
        /// Where the bytes are.
        at: CidPath,
        /// Description of the difference.
        why: String,
    },
    /// More bytes than a document of its kind may have.
    #[error("{at} is too large: {size} bytes, limit {limit}")]
    TooLarge {
        /// The path that was opened.
        at: CidPath,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The stream made no progress.
    #[error("{at} timed out: no bytes received for {:.1} s", after.as_secs_f64())]
    Stalled {
        /// The path that was read.
        at: CidPath,
        /// The stall time-out.
        after: Duration,
    },
    /// A block is kept, or part of a file that is stored whole.
    #[error("{cid} is in use: {why}")]
    InUse {
        /// The block.
        cid: Cid,
        /// What it is in use for.
        why: &'static str,
    },
    /// The disk is full.
    #[error("the disk that holds the node directory is full")]
    Full,
    /// The limit of the store is reached.
    #[error("store is full: the limit set by --max-size is {}", indicatif::HumanBytes(*limit))]
    Quota {
        /// The limit in bytes.
        limit: u64,
    },
    /// Content does not fit in the cache.
    #[error("content of {} does not fit in the cache, see --cache-size and --max-size", indicatif::HumanBytes(*size))]
    NoRoom {
        /// Its size in bytes.
        size: u64,
    },
    /// The node directory failed.
    #[error("store error: {0}")]
    Store(String),
}

impl Error {
    /// The error of background work at shutdown.
    pub(super) fn stopped(_: impl std::error::Error) -> Self {
        Self::Node(ocipfs_node::FetchError::Stopped)
    }
}

impl From<ocipfs_unixfs::Error> for Error {
    fn from(error: ocipfs_unixfs::Error) -> Self {
        match error {
            ocipfs_unixfs::Error::Invalid { cid, why } => Self::Corrupt { cid, why },
            ocipfs_unixfs::Error::Missing(cid) => Self::Node(ocipfs_node::FetchError::Offline(cid)),
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Full => Self::Full,
            store::Error::Quota { limit } => Self::Quota { limit },
            store::Error::NoRoom { size } => Self::NoRoom { size },
            store::Error::Stopped => Self::Node(ocipfs_node::FetchError::Stopped),
            other => Self::Store(other.to_string()),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Store(error.to_string())
    }
}
