//! Blobs as bytes: what is stored under a digest or a CID, read and written as streams.
//!
//! ```text
//! stat, open, read ──► store (here) or fetch, download ──────────► node (peers)
//! uploads          ──► put, in parts, over several requests
//! put              ──► ocipfs_unixfs ──► store: a blob is a file, a block a window into it
//! retain, release  ──► index: what is kept for whom
//! ```
//!
//! Nothing above this module knows blocks.

mod budget;
mod documents;
mod download;
mod error;
mod fetch;
mod gc;
mod open;
mod pin;
mod put;
mod share;
mod store;
mod uploads;
mod verify;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use ocipfs_node::{Block, Cid, Node};
use ocipfs_oci::Digest;
use ocipfs_unixfs::DagNode;
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;

pub use budget::hold;
pub use documents::OpenDocument;
pub use error::Error;
pub use fetch::{Difference, Nodes, differences};
pub use gc::{Collected, Usage, WhenFull};
pub use ocipfs_unixfs::{
    Changed, Changes, CidPath, Document, Edit, Edited, EntryFormat, EntryKey, PathError, Profile, Root,
    entry_names, lookup,
};
pub use open::Reader;
pub use put::{Put, Written};
pub use share::{SharePolicy, Shared};
#[cfg(test)]
pub use store::counting::counting;
pub use store::index::{GcRoot, Named, RetainedCounts as HeldCounts, is_held, release_root, retain_root};
pub use store::{
    Database, Error as StoreError, GcGuard, Origin, Store, StoreStat, Stored, TreeVersion, add_tree,
    is_stored, share_again,
};
pub use uploads::{Error as UploadError, Upload, UploadUsage, Uploads, now};
pub use verify::{Damage, Verified};

use budget::Budget;
use documents::Documents;
use download::Downloads;
use fetch::DagFetcher;
use gc::GarbageCollector;
use store::index::{self, Index};

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
            cache_size: None,
            max_size: None,
            share: SharePolicy::All,
            memory: Memory::default(),
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

/// Content that a CID, or a path below one, leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A file.
    File(Stat),
    /// A directory, and names in it: of a sharded one not all.
    Directory(Vec<String>),
    /// A symbolic link, which nothing here follows.
    Link,
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
    /// The root of the document that names the blob: once fetched, the blob is held under it. None where a holder, such as
    /// a followed name, leads to the blob already.
    pub holder: Option<Cid>,
}

/// The blobs of one node. Clones are handles on the same.
#[derive(Clone)]
pub struct Content(Arc<Inner>);

struct Inner {
    node: Node,
    store: Store,
    index: Index,
    settings: Settings,
    downloads: Arc<Downloads>,
    gc: Arc<GarbageCollector>,
    stop: CancellationToken,
    uploads: Uploads,
    /// Memory budget of downloads.
    sending: Budget,
    /// Memory budget of documents.
    documents: Documents,
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
    /// Content over a store, and a node that serves it; what is held is announced.
    pub fn new(store: Store, node: Node, settings: Settings) -> Result<Self, Error> {
        let index = Index::new(store.database());
        let announce = |roots| settings.share.shown(&store, roots).map(|shown| node.announce(shown));
        index.for_each_announced(|root| announce(vec![root]))?;
        announce(index.pins()?)?;
        let downloads = Arc::new(Downloads::default());
        let gc = Arc::new(GarbageCollector::new(settings.cache_size, settings.max_size, downloads.clone()));
        if let Some(limit) = settings.max_size {
            let gc = gc.clone();
            store.limit(limit, Box::new(move |store, over, more| gc.make_room(store, over, more)));
        }
        let makes_way = gc.clone();
        store.limit_cached(Box::new(move |store, more| makes_way.make_way(store, more)));
        let shares = settings.memory.shares();
        let content = Self(Arc::new(Inner {
            uploads: Uploads::new(store.clone(), settings.profile, settings.stall_timeout),
            node,
            store,
            index,
            settings,
            downloads,
            gc: gc.clone(),
            stop: CancellationToken::new(),
            sending: Budget::new(shares.pieces),
            documents: Documents::new(shares.documents),
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

    /// A block that is here, or about to be.
    async fn local(&self, cid: &Cid) -> Result<Option<Bytes>, Error> {
        if let Some(data) = locked(&self.0.fresh).get(cid) {
            return Ok(Some(data.clone()));
        }
        let cid = *cid;
        self.0.store.touch_cid(&cid);
        Ok(self.0.store.run(move |store| store.get_verified(&cid)).await?)
    }

    /// Stores blocks that came on the way to a file, in parallel with the rest of the work.
    async fn keep_blocks(&self, blocks: Vec<Block>) {
        if blocks.is_empty() {
            return;
        }
        // Who counts on blocks holds this only until those before are in the store.
        let keeping = self.0.keeping.clone().read_owned().await;
        let content = self.clone();
        locked(&content.0.fresh).extend(blocks.iter().map(|block| (block.cid, block.data.clone())));
        tokio::task::spawn_blocking(move || {
            match content.0.store.put_blocks(&blocks) {
                Ok(()) => content.0.gc.came(&content.0.store),
                Err(error) => tracing::warn!("cannot store fetched blocks: {error}"),
            }
            let cids: Vec<Cid> = blocks.iter().map(|block| block.cid).collect();
            let mut fresh = locked(&content.0.fresh);
            cids.iter().for_each(|cid| drop(fresh.remove(cid)));
            drop((fresh, keeping));
            content.0.node.arrived(&cids);
        });
    }

    /// Finds a file and its size; its bytes stay where they are.
    pub async fn stat(&self, at: &CidPath) -> Result<Stat, Error> {
        let mut fetcher = DagFetcher::new(self.clone(), at);
        let file = fetch::resolve(&mut fetcher, at).await?;
        self.keep_blocks(fetcher.take_fetched()).await;
        Ok(Stat { cid: file.cid, size: file.size() })
    }

    /// Finds out what is there, be it a file or not.
    pub async fn look(&self, at: &CidPath) -> Result<Found, Error> {
        let mut fetcher = DagFetcher::new(self.clone(), at);
        let (cid, node) = fetch::walk(&mut fetcher, at).await?;
        self.keep_blocks(fetcher.take_fetched()).await;
        Ok(match node {
            DagNode::File { .. } => Found::File(Stat { cid, size: node.size() }),
            DagNode::Directory(_) | DagNode::Shard { .. } => Found::Directory(node.entries()),
            DagNode::Symlink => Found::Link,
        })
    }

    /// Gives `take` the chunks of a file of at most `limit` bytes that its earlier version `before` does not have. False
    /// where one is too long to be one of many, or `take` refuses it.
    pub async fn new_chunks(
        &self,
        at: &CidPath,
        before: &Cid,
        limit: u64,
        take: impl FnMut(&[u8]) -> bool,
    ) -> Result<bool, Error> {
        let Stat { cid, size } = self.stat(at).await?;
        if size > limit {
            return Err(Error::TooLarge { at: at.clone(), size, limit });
        }
        fetch::new_chunks(&mut self.nodes(at.announced()), cid, *before, limit, take).await
    }

    /// Reads nodes of the tree that the providers of `announced` have.
    pub fn nodes(&self, announced: Cid) -> Nodes {
        Nodes::new(self.clone(), announced)
    }

    /// Keeps blocks that came from peers, and serves them from now on.
    async fn put_fetched(&self, blocks: Vec<Block>) -> Result<(), Error> {
        if blocks.is_empty() {
            return Ok(());
        }
        let cids: Vec<Cid> = blocks.iter().map(|block| block.cid).collect();
        let gc = self.0.gc.clone();
        let put = move |store: &Store| {
            store.put_blocks(&blocks)?;
            gc.came(store);
            Ok(())
        };
        self.0.store.run(put).await?;
        self.0.node.arrived(&cids);
        Ok(())
    }

    /// Waits until the blocks that came so far are in the store.
    pub async fn wait_for_blocks(&self) {
        drop(self.0.keeping.write().await);
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

    /// The top of a DAG that is here, as directories name it.
    pub async fn root_of(&self, cid: &Cid) -> Result<Root, Error> {
        let block = self.local(cid).await?.ok_or(ocipfs_node::Error::Offline(*cid))?;
        Ok(Root::of(*cid, block)?)
    }

    /// The CID of a directory.
    pub async fn directory(&self, at: &CidPath) -> Result<Cid, Error> {
        let mut fetcher = DagFetcher::new(self.clone(), at);
        let (cid, node) = fetch::walk(&mut fetcher, at).await?;
        self.keep_blocks(fetcher.take_fetched()).await;
        match node {
            DagNode::Directory(_) | DagNode::Shard { .. } => Ok(cid),
            _ => Err(Error::NoEntry { at: at.clone(), entry: at.file_name().unwrap_or_default().into() }),
        }
    }

    /// Whether a block is here.
    pub async fn is_here(&self, cid: &Cid) -> Result<bool, Error> {
        let cid = *cid;
        Ok(self.0.store.run(move |store| store.size(&cid)).await?.is_some())
    }

    /// Whether anybody keeps a root.
    pub async fn is_held(&self, root: &Cid) -> Result<bool, Error> {
        let root = *root;
        Ok(self.0.store.run(move |store| store.database().read(|read| index::is_held(read, &root))).await?)
    }

    /// Whether the whole blob is here and was verified.
    pub async fn has(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.stored_blob(digest).await?.is_some())
    }

    /// A stored blob whose file is there, by any of its digests. Under a guard it is not collected.
    pub async fn stored_blob(&self, digest: &Digest) -> Result<Option<Stored>, Error> {
        let digest = digest.clone();
        let find = move |store: &Store| {
            let found = store.present(&digest)?;
            found.iter().for_each(|stored| store.touch_cid(&stored.root));
            Ok(found)
        };
        Ok(self.0.store.run(find).await?)
    }

    /// Keeps the blocks of a document.
    pub async fn put_document(&self, document: Document) -> Result<(), Error> {
        let cids: Vec<Cid> = document.blocks.iter().map(|block| block.cid).collect();
        self.0.store.run(move |store| store.put_blocks(&document.blocks)).await?;
        self.0.node.arrived(&cids);
        Ok(())
    }

    /// How much is stored.
    pub async fn store_stat(&self) -> Result<StoreStat, Error> {
        Ok(self.0.store.run(Store::stat).await?)
    }

    /// Opens a guard: content stored or found while it lives is not collected.
    pub async fn gc_guard(&self) -> GcGuard {
        self.0.store.gc_guard()
    }

    /// Announces those of these roots that peers may know of.
    pub async fn announce(&self, roots: Vec<Cid>) -> Result<(), Error> {
        let share = self.settings().share;
        let shown = self.0.store.run(move |store| share.shown(store, roots)).await?;
        self.0.node.announce(shown);
        Ok(())
    }

    /// Retains and announces the roots of `reference` until `key` is released.
    pub async fn retain(&self, key: Cid, reference: GcRoot) -> Result<(), Error> {
        let roots = reference.roots();
        self.index(move |index| index.retain(&key, &reference)).await?;
        self.announce(roots).await
    }

    /// Adds the roots of `reference` to those that `key` retains, and announces them.
    pub async fn retain_also(&self, key: Cid, reference: GcRoot) -> Result<(), Error> {
        let roots = reference.roots();
        self.index(move |index| index.retain_also(&key, reference)).await?;
        self.announce(roots).await
    }

    /// Returns the GC root of `key`.
    pub async fn held(&self, key: &Cid) -> Result<Option<GcRoot>, Error> {
        let key = *key;
        self.index(move |index| index.reference(&key)).await
    }

    /// How many layers and images are held.
    pub async fn held_counts(&self) -> Result<HeldCounts, Error> {
        self.index(Index::counts).await
    }

    /// The images that were imported, by the root that they are held under.
    pub async fn held_images(&self) -> Result<Vec<(Cid, Vec<Named>)>, Error> {
        self.index(Index::images).await
    }

    /// Forgets what is held under `key`: every block that nothing else held needs.
    pub async fn release(&self, key: &Cid) -> Result<bool, Error> {
        let key = *key;
        let Some(free) = self.index(move |index| index.release(&key)).await? else { return Ok(false) };
        self.remove_free(free).await?;
        Ok(true)
    }

    /// The index is on the disk, so it is asked off the threads that serve.
    async fn index<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Index) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let content = self.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&content.0.index));
        Ok(asked.await.map_err(Error::stopped)??)
    }
}
