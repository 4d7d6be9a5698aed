//! Blobs on the disk: a blob is a file, a block is a window into it.
//!
//! ```text
//! blobs/<hex[0..2]>/<hex>   whole, named by their sha256
//! incoming/<id>             drafts (one end to the other) and partial files (sparse, any order)
//! index.redb                block -> owner and window; root, digest -> file; what is being downloaded
//! ```
//!
//! Data is on the disk before a row names it, one commit makes a blob stored, and only then is its file renamed:
//! after a crash at any moment, acknowledged blobs are stored, and incomplete ones are not served. Ids are never used
//! twice. Every call blocks.

mod add;
mod blob_file;
mod blocks;
mod compact;
#[cfg(test)]
pub mod counting;
mod database;
mod demote;
mod disk;
mod draft;
mod error;
mod extents;
mod files;
mod gc_guard;
pub mod graph;
pub mod index;
mod layout;
mod lost;
mod lots;
mod network;
mod origin;
mod partial;
mod pending;
mod read;
mod recover;
mod remove;
mod repair;
mod source;
mod stat;
mod sweep;
mod tables;
mod trees;
mod upgrade;
mod uploads;
mod usage;
mod verify;
mod view;
mod whole;

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, RwLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use ocipfs_node::Cid;
use ocipfs_oci::Digest;

pub use blob_file::{BlobFile, Check};
pub use database::Database;
pub use draft::{Draft, DraftToStore, ReadSeek, SyncedDraft};
pub use error::Error;
pub use files::is_stored;
pub use gc_guard::GcGuard;
pub use layout::{BlobLayout, Leaf};
pub use lost::DamagedBlob;
pub use network::{share_added_again, share_again};
pub use origin::{Origin, note_from_peers};
pub use partial::{Hashed, PartialBlob};
pub use stat::StoreStat;
pub use trees::{TreeVersion, add_tree};
pub use uploads::{SavedUpload, forget_upload};
pub use usage::now;
pub use verify::Damaged;
pub use view::{Readers, SignatureCheck, View, Viewer};
pub use whole::{MAX_BLOCK_BYTES, is_block, whole_cid};

use blob_file::LastHashed;
use database::lock;
use disk::Disk;
use error::FORMAT;
use gc_guard::GuardedBlocks;
use layout::BlockKey;
use pending::Pending;
use remove::Unlinked;
use source::{Buffers, Sources};
use tables::{META, NEXT_ID};
use usage::UsageCounters;

/// The blobs and blocks of one node directory. Clones are handles on the same.
#[derive(Clone)]
pub struct Store(Arc<StoreInner>);

struct StoreInner {
    database: Arc<Database>,
    disk: Disk,
    sources: Sources,
    buffers: Buffers,
    pending: Pending,
    guarded: GuardedBlocks,
    usage: UsageCounters,
    last_hashed: LastHashed,
    /// Blobs that are unlinked while DOOMED still names them, and those that could not be.
    unlinked: Mutex<Unlinked>,
    next: AtomicU64,
    /// Whether the node ever left a network.
    left_network: AtomicBool,
    /// What all may read, where that is not everything.
    readers: OnceLock<Arc<dyn Readers>>,
    signatures: OnceLock<Arc<dyn SignatureCheck>>,
    live: Mutex<HashMap<BlockKey, Weak<partial::PartialBlobInner>>>,
    /// Files that are about to be stored, and whose blocks are being recorded.
    begun: Mutex<HashSet<u64>>,
    /// Held from a commit until the files are where the rows say: read by who stores blobs, written by who removes one.
    moving_files: RwLock<()>,
    #[cfg(test)]
    work: Work,
}

/// Counters of the work of a store.
#[cfg(test)]
#[derive(Debug, Default)]
pub struct Work {
    /// Times that [`Store::run`] took a thread.
    pub visits: AtomicU64,
    /// Blocks that were looked for.
    pub reads: AtomicU64,
    /// Blocks that came from peers.
    pub puts: AtomicU64,
}

/// A blob that is here whole and was verified, with one of its layouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The layout's id.
    pub id: u64,
    /// The sha256 of the bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// The root of the layout.
    pub root: Cid,
}

impl Store {
    /// Opens the store in a node directory and sets right what a crash left.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        recover::check_format(dir)?;
        std::fs::create_dir_all(dir).map_err(Error::at(dir))?;
        let disk = Disk::open(dir)?;
        let database = Database::open(&dir.join("index.redb"))?;
        upgrade::prepare(&database)?;
        compact::compact_if_due(&database)?;
        let next = database.read(|read| tables::number(&read.open_table(META)?, NEXT_ID))?.max(1);
        let left_network = database.read(network::left_network)?;
        let store = Self(Arc::new(StoreInner {
            database: Arc::new(database),
            disk,
            sources: Sources::default(),
            buffers: Buffers::default(),
            pending: Pending::default(),
            guarded: GuardedBlocks::default(),
            usage: UsageCounters::default(),
            last_hashed: LastHashed::default(),
            unlinked: Mutex::default(),
            next: AtomicU64::new(next),
            left_network: AtomicBool::new(left_network),
            readers: OnceLock::new(),
            signatures: OnceLock::new(),
            live: Mutex::default(),
            begun: Mutex::default(),
            moving_files: RwLock::default(),
            #[cfg(test)]
            work: Work::default(),
        }));
        store.count_saved()?;
        store.recover()?;
        Ok(store)
    }

    /// Works with the store off the threads that must not wait for a disk, for the viewer of the task.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        #[cfg(test)]
        self.work().visits.fetch_add(1, Ordering::Relaxed);
        let (store, view) = (self.clone(), View::current());
        let work = move || view.enter(|| work(&store));
        tokio::task::spawn_blocking(work).await.map_err(|_| Error::Stopped)?
    }

    /// The index file, for what else is kept in it.
    pub fn database(&self) -> Arc<Database> {
        self.0.database.clone()
    }

    /// The work of the store so far.
    #[cfg(test)]
    pub fn work(&self) -> &Work {
        &self.0.work
    }

    /// A file without a name for what is too much for the memory.
    pub fn scratch_file(&self) -> Result<File, Error> {
        self.0.disk.scratch(self.next_id())
    }

    /// Marks a block, or the file that it is the root of, as in use.
    pub fn guard_cid(&self, cid: &Cid) {
        self.guard_keys([BlockKey::of(cid)]);
    }

    fn next_id(&self) -> u64 {
        self.0.next.fetch_add(1, Ordering::Relaxed)
    }

    fn ids_used(&self) -> u64 {
        self.0.next.load(Ordering::Relaxed)
    }
}
