//! Blobs as bytes: what is stored under a digest or a CID, read and written as streams.
//!
//! ```text
//! reading    stat, open, reader, documents ──► fetch (blocks), download (files) ──► node (peers)
//! writing    uploads, add ──► blob_writer ──► ocipfs_unixfs
//! giving     car ──► share
//! keeping    keep, gc_roots, pin ──► gc, share
//! asking     known (by a digest alone)
//!               all of them ──► store (blobs and blocks on the disk; it imports none of them)
//! ```
//!
//! Nothing above this module knows blocks.

mod add;
mod blob_writer;
mod blocking_reader;
mod blocks;
mod budget;
pub mod car;
mod dag;
mod documents;
mod download;
mod error;
mod fetch;
mod file_blocks;
mod file_importer;
mod gc;
mod gc_roots;
mod keep;
mod known;
mod open;
mod other_dag;
mod pin;
mod reader;
mod share;
mod stat;
mod store;
mod tree_blocks;
mod unstored;
mod uploads;
mod verify;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use ocipfs_node::{Cid, Node};
use ocipfs_oci::Digest;
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

pub use add::{AddError, Adder};
pub use blob_writer::{BlobWriter, FileOptions, KnownBlob, PIECE_BYTES, Pieces, WrittenBlob};
pub use blocking_reader::BlockingReader;
pub use budget::hold;
pub use dag::{DagBlock, Extent};
pub use documents::OpenDocument;
pub use download::DownloadProgress;
pub use error::Error;
pub use fetch::{Difference, Nodes, differences};
pub use file_blocks::FileBlock;
pub use file_importer::{ExpectedFile, FileImporter, WrongFile};
pub use gc::{CollectStep, Collected, GcTotals, Usage, WhenFull};
pub use known::Presence;
pub use ocipfs_unixfs::{
    CborTarget, Changed, Changes, Chunker, CidPath, DagOptions, DirectorySize, Document, Edit, Edited,
    Entries, EntryFormat, EntryKey, Fields, HashFunction, Metadata, PathError, Profile, Root, cbor_resolve,
    dag_json, entry_names, hash_function, lookup,
};
pub use other_dag::{OtherDag, StoredBytes};
pub use reader::Reader;
pub use share::{SharePolicy, Shared};
pub use stat::{DagEntry, EntryKind, Found, Stat};
#[cfg(test)]
pub use store::counting::{counting, counting_reads};
pub use store::index::{
    GcRoot, ImportedImage, PinInfo, RetainedCounts, is_retained, release_root, retain_root,
};
pub use store::{
    Database, Error as StoreError, GcGuard, Origin, ReadSeek, Readers, SignatureCheck, Store, StoreStat,
    Stored, TreeVersion, View, Viewer, add_tree, is_stored, share_added_again, share_again, whole_cid,
};
pub use tree_blocks::TreePaths;
pub use uploads::{Error as UploadError, Upload, UploadInFlight, UploadUsage, Uploads, now};
pub use verify::{Damage, Verified, VerifyStep};

use add::AddingMemory;
use budget::PieceBudget;
use documents::Documents;
use download::Downloads;
use gc::GarbageCollector;
use store::index::Index;

use crate::memory::Memory;

const MIB: usize = 1 << 20;

/// How content waits and what it writes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The shape of the DAGs that are written.
    pub profile: Profile,
    /// How long a root is looked for.
    pub find_timeout: Duration,
    /// How long a stream may make no progress.
    pub stall_timeout: Duration,
    /// How long a digest is searched among peers that no local repository has; zero for not at all.
    pub digest_timeout: Duration,
    /// The maximum size of the pull cache in bytes.
    pub cache_size: Option<u64>,
    /// The most bytes that are stored at all.
    pub max_size: Option<u64>,
    /// Sharing policy: which content peers may get.
    pub share: SharePolicy,
    /// Division of the memory budget.
    pub memory: Memory,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            find_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            digest_timeout: Duration::from_millis(50),
            cache_size: None,
            max_size: None,
            share: SharePolicy::All,
            memory: Memory::default(),
        }
    }
}

/// A blob as an image names it, and where its bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Blob {
    /// Digest of the bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// Where they are.
    pub at: CidPath,
    /// The root of the document that names the blob: once fetched, the blob is retained under it. None where a GC root, such as
    /// a followed name, retains the blob already.
    pub gc_root: Option<Cid>,
}

/// The blobs of one node. Clones are handles on the same.
#[derive(Clone)]
pub struct Content(Arc<ContentInner>);

struct ContentInner {
    node: Node,
    store: Store,
    index: Index,
    settings: Settings,
    downloads: Arc<Downloads>,
    gc: Arc<GarbageCollector>,
    stop: CancellationToken,
    uploads: Uploads,
    /// Memory budget of downloads.
    sending: PieceBudget,
    /// Memory budget of documents.
    documents: Documents,
    /// Memory budget of what is added.
    adding: AddingMemory,
    /// Blobs whose bytes were fetched whole and did not match; asked again, they are refused at once.
    rejected: Mutex<HashSet<Blob>>,
    /// Blobs of other algorithms than sha256 whose stored bytes were seen to match.
    verified: Mutex<HashSet<Blob>>,
    /// Read while blocks are put that came on the way to a file, written by who counts on them.
    keeping: Arc<RwLock<()>>,
    /// Those blocks, until they are in the store.
    fresh: Mutex<HashMap<Cid, Bytes>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A peer cannot fill the memory with lies.
const CACHE_ENTRIES: usize = 10_000;

impl Content {
    /// Content over a store, and a node that serves it; what is retained is announced.
    pub fn new(store: Store, node: Node, settings: Settings) -> Result<Self, Error> {
        let index = Index::new(store.database());
        let announce = |roots| settings.share.shown(&store, roots).map(|shown| node.announce_known(shown));
        if node.is_online() {
            index.for_each_announced(|root| announce(vec![root]))?;
            announce(index.pins()?)?;
        }
        let downloads = Arc::new(Downloads::default());
        let gc = Arc::new(GarbageCollector::new(settings.cache_size, settings.max_size, downloads.clone()));
        gc.install_in(&store);
        let shares = settings.memory.shares();
        let content = Self(Arc::new(ContentInner {
            uploads: Uploads::new(store.clone(), settings.profile, settings.stall_timeout),
            node,
            store,
            index,
            settings,
            downloads,
            gc: gc.clone(),
            stop: CancellationToken::new(),
            sending: PieceBudget::new(shares.pieces),
            documents: Documents::new(shares.documents),
            adding: AddingMemory::new(shares.adding),
            rejected: Mutex::default(),
            verified: Mutex::default(),
            keeping: Arc::default(),
            fresh: Mutex::default(),
        }));
        tokio::spawn(gc::run(Arc::downgrade(&content.0), gc, content.0.stop.clone()));
        Ok(content)
    }

    /// Stops the background tasks and saves last-use times.
    pub async fn close(&self) {
        self.0.stop.cancel();
        if let Err(error) = self.0.store.run(Store::save_uses).await {
            tracing::warn!("cannot save last-use times: {error}");
        }
    }

    /// The node that the blocks come from.
    pub fn node(&self) -> &Node {
        &self.0.node
    }

    /// The profile that new DAGs are written in.
    pub fn profile(&self) -> Profile {
        self.0.settings.profile
    }

    /// How long a root or a name is looked for.
    pub fn find_timeout(&self) -> Duration {
        self.0.settings.find_timeout
    }

    /// How long a stream may make no progress.
    pub fn stall_timeout(&self) -> Duration {
        self.0.settings.stall_timeout
    }

    /// The memory that is divided among all that peers and clients do.
    pub fn memory(&self) -> Memory {
        self.0.settings.memory
    }

    fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Returns the content.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Returns the uploads.
    pub fn uploads(&self) -> &Uploads {
        &self.0.uploads
    }

    /// Whether the whole blob is here and was verified.
    pub async fn has(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.stored_blob(digest).await?.is_some())
    }

    /// A stored blob whose file is there, by any of its digests, if the viewer of the task may read it. Under a guard it is
    /// not collected.
    pub async fn stored_blob(&self, digest: &Digest) -> Result<Option<Stored>, Error> {
        let digest = digest.clone();
        let find = move |store: &Store| match store.is_visible_blob(&digest)? {
            true => store.present_guarded(&digest),
            false => Ok(None),
        };
        Ok(self.0.store.run(find).await?)
    }

    /// Remembers that a blob does not match its digest.
    fn reject(&self, blob: &Blob, found: &Digest) -> Error {
        self.remember(&self.0.rejected, blob);
        Error::Mismatch { at: blob.at.clone(), why: format!("digest is {found}, expected {}", blob.digest) }
    }

    fn remember(&self, blobs: &Mutex<HashSet<Blob>>, blob: &Blob) {
        let mut blobs = locked(blobs);
        if blobs.len() < CACHE_ENTRIES {
            blobs.insert(blob.clone());
        }
    }

    fn refuse_rejected(&self, blob: &Blob) -> Result<(), Error> {
        if locked(&self.0.rejected).contains(blob) {
            let why = "fetched before with another digest".into();
            return Err(Error::Mismatch { at: blob.at.clone(), why });
        }
        Ok(())
    }

    /// How much is stored.
    pub async fn store_stat(&self) -> Result<StoreStat, Error> {
        Ok(self.0.store.run(Store::stat).await?)
    }

    /// Returns the size of the index file.
    pub async fn index_bytes(&self) -> Result<u64, Error> {
        Ok(self.0.store.run(|store| Ok(store.index_bytes())).await?)
    }

    /// Opens a guard: content stored or found while it lives is not collected.
    pub async fn gc_guard(&self) -> GcGuard {
        self.0.store.gc_guard()
    }
}
