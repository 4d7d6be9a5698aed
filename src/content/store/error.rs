use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use ocipfs_node::{Cid, database};
use ocipfs_oci::Digest;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no room for more; what is stored stays readable.
    #[error("the disk that holds the node directory is full")]
    Full,
    /// There is as much as may be.
    #[error("the node directory holds as much as --max-size allows, {}", indicatif::HumanBytes(*limit))]
    Quota {
        /// The most that may be stored, in bytes.
        limit: u64,
    },
    /// What is only to be cached does not fit.
    #[error("{} do not fit into the cache", indicatif::HumanBytes(*size))]
    NoRoom {
        /// Its size in bytes.
        size: u64,
    },
    /// A file or directory failed.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// The bytes of a block cannot be read.
    #[error("block {cid} cannot be read: {why}")]
    Read {
        /// The block.
        cid: Cid,
        /// What the system said.
        why: io::Error,
    },
    /// The index cannot be opened.
    #[error("the index {}: {why}", path.display())]
    Closed {
        /// Its file.
        path: PathBuf,
        /// What the database says.
        why: redb::DatabaseError,
    },
    /// The database failed.
    #[error("the index of the node directory: {0}")]
    Index(redb::Error),
    /// A row is none that this version writes.
    #[error("the index of the node directory has a row that is damaged: {0}")]
    Damaged(String),
    /// The node directory keeps its blocks in another way.
    #[error(
        "{} was written by an earlier version, which kept blocks in another way: start with an empty \
         --data-dir (identity.key may be copied into it) and add or pull the layers again",
        .0.display()
    )]
    Earlier(PathBuf),
    /// The node directory is of a format that is not known yet.
    #[error("{} has format {format}, and this version knows {}: use the newer version that wrote it", dir.display(), super::FORMAT)]
    Newer {
        /// The node directory.
        dir: PathBuf,
        /// What it says of itself.
        format: u64,
    },
    /// What is to arrive is here.
    #[error("the file {0} is stored already")]
    Stored(Cid),
    /// The handle outlived what it was for.
    #[error("the file {0} arrives no more: it was finished or discarded")]
    Ended(Cid),
    /// Two callers disagree about a file.
    #[error("the file {root} is {size} bytes long, and the part {offset}+{length} lies outside")]
    Outside {
        /// The file's root.
        root: Cid,
        /// Its size.
        size: u64,
        /// Where the part begins.
        offset: u64,
        /// How long it is.
        length: u64,
    },
    /// Something of the file has not come yet.
    #[error("of the file {root} {written} of {size} bytes are here")]
    Incomplete {
        /// The file's root.
        root: Cid,
        /// How much of it is written.
        written: u64,
        /// Its size.
        size: u64,
    },
    /// Blobs are named by their sha256; other digests are aliases.
    #[error("a blob is stored under its sha256, and {0} is none")]
    NotSha256(Digest),
    /// A blob without a DAG could not be found by a peer.
    #[error("a blob is stored with at least one layout")]
    NoLayout,
    /// The process ends.
    #[error("the process is shutting down")]
    Stopped,
    /// The system has no thread left to hash or write with.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// Writing ended early; the end says why.
    #[error("writing was broken off")]
    BrokenOff,
    /// It was removed meanwhile.
    #[error("the blob {0} is not stored any more")]
    Gone(Digest),
}

impl Error {
    /// Says what failed at `path`, or that the disk is full.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |why| if is_full(&why) { Self::Full } else { Self::File { path: path.into(), why } }
    }
}

impl database::Failure for Error {
    fn closes_database(&self) -> bool {
        match self {
            Self::Full => true,
            Self::Index(error) => error.closes_database(),
            _ => false,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

impl From<redb::Error> for Error {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(why) if is_full(&why) => Self::Full,
            error => Self::Index(error),
        }
    }
}

macro_rules! through_redb_error {
    ($($name:ident),*) => {
        $(impl From<redb::$name> for Error {
            fn from(error: redb::$name) -> Self {
                redb::Error::from(error).into()
            }
        })*
    };
}

through_redb_error!(CommitError, DatabaseError, StorageError, TableError, TransactionError);
