use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use ocipfs_node::{Cid, database};
use ocipfs_oci::Digest;

/// The format that this version writes. Format 1 kept each block in a file, format 2 the blobs of a GC root in one value.
pub const FORMAT: u64 = 3;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk is full; what is stored stays readable.
    #[error("the disk that holds the node directory is full")]
    Full,
    /// The limit of the store is reached.
    #[error("store is full: the limit set by --max-size is {}", indicatif::HumanBytes(*limit))]
    Quota {
        /// The limit in bytes.
        limit: u64,
    },
    /// Content does not fit in the cache.
    #[error("content of {} does not fit in the cache", indicatif::HumanBytes(*size))]
    NoRoom {
        /// Its size in bytes.
        size: u64,
    },
    /// A file or directory failed.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Error of the operating system.
        why: io::Error,
    },
    /// The bytes of a block cannot be read.
    #[error("cannot read block {cid}: {why}")]
    Read {
        /// The block.
        cid: Cid,
        /// Error of the operating system.
        why: io::Error,
    },
    /// The index cannot be opened.
    #[error("cannot open the index {}: {why}", path.display())]
    Closed {
        /// Its file.
        path: PathBuf,
        /// Error of the database.
        why: redb::DatabaseError,
    },
    /// The database failed.
    #[error("index error: {0}")]
    Index(redb::Error),
    /// A row is invalid.
    #[error("damaged row in the index: {0}")]
    Damaged(String),
    /// The node directory keeps its blocks in another way.
    #[error(
        "{} was written by an earlier version, whose format is not supported: start with an empty --data-dir (identity.key may be copied into it) and add or pull the layers again",
        .0.display()
    )]
    Earlier(PathBuf),
    /// The node directory is of a format that is not known yet.
    #[error("{} has format {format}, this version supports up to {}: use the newer version that wrote it", dir.display(), FORMAT)]
    Newer {
        /// The node directory.
        dir: PathBuf,
        /// Format that it declares.
        format: u64,
    },
    /// The file is already stored.
    #[error("file {0} is already stored")]
    Stored(Cid),
    /// The download has ended.
    #[error("download of {0} has ended: it was committed or discarded")]
    Ended(Cid),
    /// Two callers disagree about a file.
    #[error("range {offset}+{length} is outside file {root} of {size} bytes")]
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
    #[error("file {root} is incomplete: {written} of {size} bytes written")]
    Incomplete {
        /// The file's root.
        root: Cid,
        /// How much of it is written.
        written: u64,
        /// Its size.
        size: u64,
    },
    /// Blobs are named by their sha256; other digests are aliases.
    #[error("invalid blob digest {0}: expected sha256")]
    NotSha256(Digest),
    /// A blob without a DAG could not be found by a peer.
    #[error("a stored blob needs at least one layout")]
    NoLayout,
    /// The process ends.
    #[error("the process is shutting down")]
    Stopped,
    /// The system has no thread left to hash or write with.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// Writing ended early; the end says why.
    #[error("write aborted")]
    BrokenOff,
    /// It was removed meanwhile.
    #[error("blob {0} was removed")]
    Gone(Digest),
    /// What a commit would have recorded contradicts what is recorded under this name.
    #[error("{0:?} cannot be changed")]
    Refused(String),
}

impl Error {
    /// Says what failed at `path`, or that the disk is full.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |why| if is_full(&why) { Self::Full } else { Self::File { path: path.into(), why } }
    }
}

impl database::DatabaseFailure for Error {
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
