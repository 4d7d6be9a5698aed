//! Blobs as bytes: what is stored under a digest or a CID, read and written as streams.
//!
//! ```text
//! stat, open, read ──► dag::{resolve, read} ──► node (blocks)
//! put, wrap        ──► dag::build           ──► node
//! hold, release    ──► index (redb): digest -> where its bytes are, and what is kept for whom
//! ```
//!
//! Nothing above this module knows blocks.

mod dag;
mod index;
mod open;
mod path;
mod put;
#[allow(dead_code, unused_imports)]
mod store;

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use ocipfs_node::{Cid, Node};
use ocipfs_oci::Digest;
use tokio::sync::{RwLock, RwLockReadGuard, Semaphore};

pub use dag::Profile;
pub use index::Holding;
pub use open::Reader;
pub use path::{CidPath, Error as PathError};
pub use put::Stored;

use dag::Fetcher;
use index::Index;

/// Read ahead by all streams of the process together; one block a stream is always allowed.
const READ_AHEAD_MIB: usize = 64;
const MIB: usize = 1 << 20;

/// What can go wrong with the bytes of a blob.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The blocks could not be had, for the reason that the node gives.
    #[error(transparent)]
    Node(#[from] ocipfs_node::Error),
    /// The CID names something else than a file.
    #[error("{at} is {kind}, where a file is needed")]
    NotAFile {
        /// What was opened.
        at: CidPath,
        /// What it is instead.
        kind: &'static str,
    },
    /// The directory has no such entry.
    #[error("{at}: the directory has no entry {entry:?}")]
    NoEntry {
        /// What was opened.
        at: CidPath,
        /// The missing name.
        entry: String,
    },
    /// A block is not what its DAG says.
    #[error("block {cid} is damaged or no UnixFS: {why}")]
    Corrupt {
        /// The block.
        cid: Cid,
        /// What is wrong with it.
        why: String,
    },
    /// The bytes behind a CID are not those that the digest promised.
    #[error("{at} does not hold what was promised: {why}")]
    Mismatch {
        /// Where the bytes are.
        at: CidPath,
        /// What differs.
        why: String,
    },
    /// More bytes than a document of its kind may have.
    #[error("{at} has {size} bytes, more than the {limit} allowed here")]
    TooLarge {
        /// What was opened.
        at: CidPath,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The stream made no progress.
    #[error("no bytes of {at} came for {:.1} s", after.as_secs_f64())]
    Stalled {
        /// What was read.
        at: CidPath,
        /// The stall time-out.
        after: Duration,
    },
    /// The index in the node directory failed.
    #[error("the index: {0}")]
    Index(String),
    /// What was to be stored could not be read.
    #[error("cannot read what is to be stored: {0}")]
    Input(#[from] std::io::Error),
}

/// How content waits and what it writes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The shape of the DAGs that are written.
    pub profile: Profile,
    /// How long a root is looked for.
    pub find_timeout: Duration,
    /// How long a stream may make no progress.
    pub stall_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            find_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
        }
    }
}

/// A file's size and its own CID, whatever path led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The file's root block.
    pub cid: Cid,
    /// Its length in bytes.
    pub size: u64,
}

/// A blob as an image names it, and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Blob {
    /// What the bytes hash to.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// Where they are.
    pub at: CidPath,
    /// The root of the document that names the blob; once fetched, the blob is held under it.
    pub holder: Cid,
}

/// The blobs of one node. Clones are handles on the same.
#[derive(Clone)]
pub struct Content(Arc<Inner>);

struct Inner {
    node: Node,
    index: Index,
    settings: Settings,
    read_ahead: Arc<Semaphore>,
    /// Blobs whose bytes were fetched whole and did not match; asked again, they are refused at once.
    rejected: Mutex<HashSet<Blob>>,
    /// Read by who stores, written by who removes: a block found present must stay until it is held.
    storing: RwLock<()>,
}

/// A peer cannot fill the memory with lies.
const REJECTED: usize = 10_000;

impl Content {
    /// Opens the index in `data_dir` and announces what is held.
    pub async fn open_in(data_dir: &Path, node: Node, settings: Settings) -> Result<Self, Error> {
        let index = Index::open(&data_dir.join("index.redb"))?;
        node.announce(index.holdings()?.into_iter().flat_map(|(_, holding)| holding.roots()));
        let read_ahead = Arc::new(Semaphore::new(READ_AHEAD_MIB));
        Ok(Self(Arc::new(Inner {
            node,
            index,
            settings,
            read_ahead,
            rejected: Mutex::default(),
            storing: RwLock::default(),
        })))
    }

    /// The node that the blocks come from.
    pub fn node(&self) -> &Node {
        &self.0.node
    }

    /// The profile that new DAGs are written in.
    pub fn profile(&self) -> Profile {
        self.0.settings.profile
    }

    fn fetcher(&self, root: Cid) -> Fetcher {
        Fetcher::new(self.0.node.session(root), self.0.settings.find_timeout, self.0.settings.stall_timeout)
    }

    /// Finds a file and its size; its bytes stay where they are.
    pub async fn stat(&self, at: &CidPath) -> Result<Stat, Error> {
        let fetcher = self.fetcher(*at.root());
        let file = dag::resolve(&fetcher, at).await?;
        Ok(Stat { cid: file.cid, size: file.size() })
    }

    /// Reads a whole file of at most `limit` bytes.
    pub async fn read(&self, at: &CidPath, limit: u64) -> Result<Bytes, Error> {
        let mut reader = self.open_at(at).await?;
        if reader.size() > limit {
            return Err(Error::TooLarge { at: at.clone(), size: reader.size(), limit });
        }
        let mut all = Vec::with_capacity(reader.size() as usize);
        while let Some(bytes) = reader.next().await {
            all.extend_from_slice(&bytes?);
        }
        Ok(all.into())
    }

    fn reject(&self, blob: &Blob) {
        let mut rejected = self.0.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        if rejected.len() < REJECTED {
            rejected.insert(blob.clone());
        }
    }

    fn is_rejected(&self, blob: &Blob) -> bool {
        self.0.rejected.lock().unwrap_or_else(PoisonError::into_inner).contains(blob)
    }

    /// Whether the whole blob is here and was verified.
    pub fn has(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.0.index.blob(digest)?.is_some())
    }

    /// Keeps blocks from being removed while something is put and not yet held.
    pub async fn storing(&self) -> RwLockReadGuard<'_, ()> {
        self.0.storing.read().await
    }

    /// Keeps and announces what `holding` names, until it is released under the same `key`.
    pub fn hold(&self, key: Cid, holding: Holding) -> Result<(), Error> {
        self.0.index.hold(&key, &holding)?;
        self.0.node.announce(holding.roots());
        Ok(())
    }

    /// What is held under `key`.
    pub fn held(&self, key: &Cid) -> Result<Option<Holding>, Error> {
        self.0.index.holding(key)
    }

    /// Everything held, by key.
    pub fn holdings(&self) -> Result<Vec<(Cid, Holding)>, Error> {
        self.0.index.holdings()
    }

    /// Forgets what is held under `key`: every block that nothing else held needs.
    pub async fn release(&self, key: &Cid) -> Result<bool, Error> {
        let _alone = self.0.storing.write().await;
        let Some(holding) = self.0.index.release(key)? else { return Ok(false) };
        let mut kept = BTreeSet::new();
        let mut roots = BTreeSet::new();
        for (_, other) in self.0.index.holdings()? {
            roots.extend(other.roots());
        }
        for root in &roots {
            dag::collect_local(&self.0.node, root, &mut kept).await?;
        }
        let mut gone = BTreeSet::new();
        for root in holding.roots().into_iter().filter(|root| !roots.contains(root)) {
            self.0.node.withdraw(root).await;
            dag::collect_local(&self.0.node, &root, &mut gone).await?;
        }
        let gone: Vec<Cid> = gone.difference(&kept).copied().collect();
        self.0.node.remove(&gone).await?;
        Ok(true)
    }
}
