//! Files that are being downloaded: one task a file fetches what its readers need, each block once, however many read.
//!
//! ```text
//! readers ─► join, prefer ─► task: tree (what is missing) ─► block fetcher (peers)
//!    ▲                         │                                 │ blocks, verified
//!    └── windows, outcome ◄────┴── hash (in order) ◄── store ◄───┘ written in place
//! ```

mod in_flight;
mod range_reader;
mod read_ranges;
mod task;
#[cfg(test)]
mod tests;
mod tree;
mod whole;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::Range,
    slice,
    sync::{Arc, Mutex, atomic::AtomicU64},
};

use bytes::Bytes;
use ocipfs_node::{BlockFetcher, Cid, as_v1};
use ocipfs_oci::Digest;
use ocipfs_unixfs::DagNode;
use tokio::sync::{Notify, watch};

use super::{
    Blob, Content, Error, locked,
    store::{self, PartialBlob, Stored},
};
pub use in_flight::DownloadProgress;
pub use range_reader::RangeReader;
use read_ranges::ReadRanges;
pub use whole::{WholeHasher, hash as hash_whole};

/// Maximum number of bytes that one read returns.
const WINDOW_BYTES: u64 = 1 << 20;

/// All downloads in progress, by their roots.
#[derive(Default)]
pub struct Downloads {
    all: Mutex<HashMap<Cid, Arc<Download>>>,
    /// Called for each piece that is hashed: makes hashing slow.
    #[cfg(test)]
    slow: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

/// Purpose of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be read; streamed through and not kept if it does not fit.
    Read,
    /// To be kept; fails if it does not fit.
    Keep,
    /// To be read later; fails at once if it does not fit.
    Cache,
}

/// How far ahead of its reader a file comes that is only streamed through.
const MAX_STREAM_AHEAD: u64 = 32 << 20;

/// The state that readers and the task of a download share.
struct Download {
    /// The root under version 1.
    root_v1: Cid,
    root: Cid,
    file: PartialBlob,
    readers: Mutex<Readers>,
    /// Told when a reader came, went, read on or waits: however many do, the task looks once.
    moved: Notify,
    progress: watch::Sender<DownloadState>,
    /// How far a file that is only streamed through was hashed, if it is read whole.
    hashed: AtomicU64,
}

#[derive(Default)]
struct Readers {
    all: BTreeMap<u64, ReaderState>,
    counter: u64,
    /// Blobs that the complete file must match, as its readers expect.
    promised: Vec<Blob>,
}

struct ReaderState {
    /// The current range and those after it.
    ranges: VecDeque<Range<u64>>,
    /// Whether it was promised nothing about the whole.
    is_by_cid: bool,
    /// Where it waits for bytes.
    waits_at: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct DownloadState {
    /// Counts the blocks that came and the pieces that were hashed.
    steps: u64,
    /// All is here, and the disk has its turn: that has an end, and no steps to count.
    is_committing: bool,
    outcome: Option<Result<Arc<Committed>, Error>>,
}

/// A file that is here whole.
#[derive(Debug)]
pub struct Committed {
    pub stored: Stored,
    /// The digests that were promised and found right.
    verified: Vec<Digest>,
    /// How many promises were judged.
    promises: usize,
}

impl Committed {
    /// Whether the bytes were seen to have this digest.
    pub fn has(&self, digest: &Digest) -> bool {
        self.stored.digest == *digest || self.verified.contains(digest)
    }
}

/// A file to be fetched, whose first block is here.
pub struct ResolvedDownload {
    pub root: Cid,
    pub node: DagNode,
    pub block: Bytes,
    pub block_fetcher: BlockFetcher,
}

impl Content {
    /// Joins a download, or begins one. Returns none if the file is stored by now.
    pub(super) async fn join_download(
        &self,
        start: ResolvedDownload,
        ranges: Vec<Range<u64>>,
        promised: Option<&Blob>,
        purpose: Purpose,
    ) -> Result<Option<RangeReader>, Error> {
        let file = match self.begin_download(&start, purpose).await {
            Err(store::Error::Stored(_)) => return Ok(None),
            file => file?,
        };
        let (stall_timeout, budget) = (self.0.settings.stall_timeout, &self.0.sending);
        let mut downloads = locked(&self.0.downloads.all);
        let root_v1 = as_v1(&start.root);
        let is_streaming_through = file.is_streaming_through();
        if let Some(shared) = downloads.get(&root_v1).filter(|_| !is_streaming_through) {
            return Ok(Some(RangeReader::new(shared.clone(), ranges, promised, stall_timeout, budget)));
        }
        let is_whole = ranges == slice::from_ref(&(0..start.node.size()));
        let shared = Arc::new(Download {
            root_v1,
            root: start.root,
            file,
            readers: Mutex::default(),
            moved: Notify::new(),
            progress: watch::Sender::default(),
            hashed: AtomicU64::new(if is_whole { 0 } else { u64::MAX }),
        });
        let part = RangeReader::new(shared.clone(), ranges, promised, stall_timeout, budget);
        if !is_streaming_through {
            downloads.insert(root_v1, shared.clone());
        }
        drop(downloads);
        tokio::spawn(task::run(self.clone(), shared, start));
        Ok(Some(part))
    }

    /// Begins a download into the store, or streams it through if it does not fit and nothing can be evicted.
    async fn begin_download(
        &self,
        start: &ResolvedDownload,
        purpose: Purpose,
    ) -> Result<PartialBlob, store::Error> {
        let (root, size) = (start.root, start.node.size());
        let is_known = locked(&self.0.downloads.all).contains_key(&as_v1(&root));
        let gc = self.0.gc.clone();
        let claim = move |store: &store::Store| {
            // Its size is claimed first, so that what others claim is seen.
            let file = match store.begin_partial(root, size) {
                // What is here is for others: this viewer gets what peers have.
                Err(store::Error::Stored(_)) if !store.is_visible_file(&root)? => {
                    return store.stream_through(root, size);
                }
                file => file?,
            };
            if is_known {
                return Ok(file);
            }
            match purpose {
                Purpose::Keep if !gc.admits_kept(store)? => Err(store.quota()),
                // A small DAG may have one block in many places: what it claims would fill the disk before it fails.
                Purpose::Keep => store.check_claim(size.saturating_sub(file.written())).map(|()| file),
                Purpose::Read | Purpose::Cache if gc.admits(store)? => {
                    file.cache();
                    Ok(file)
                }
                Purpose::Cache => Err(store::Error::NoRoom { size }),
                Purpose::Read => {
                    drop(file);
                    tracing::info!(%root, size, "a file does not fit in the cache: streaming it through");
                    store.stream_through(root, size)
                }
            }
        };
        let arrive = move |store: &store::Store| {
            let file = claim(store)?;
            // A root that this viewer may not see came from peers just now, although a client pushed it here.
            if store.is_visible(&root)?
                && let Some(origin) = store.origin(&root)?
            {
                file.set_origin(origin);
            }
            Ok(file)
        };
        self.store().run(arrive).await
    }
}

impl Downloads {
    /// Returns the roots that garbage collection must keep for partial blobs: their own, and those that led
    /// to them.
    pub fn roots(&self) -> Vec<Cid> {
        let mut roots = Vec::new();
        for shared in locked(&self.all).values() {
            roots.push(shared.root);
            let promised = &locked(&shared.readers).promised;
            roots.extend(promised.iter().flat_map(|blob| blob.gc_root.into_iter().chain([*blob.at.root()])));
        }
        roots
    }

    #[cfg(test)]
    fn slow(&self) -> impl Fn() + Send + 'static {
        let slow = locked(&self.slow).clone();
        move || slow.iter().for_each(|slow| slow())
    }

    /// Removes a download that has no reader left, or that `must` end. Returns whether it was removed.
    fn leave(&self, shared: &Arc<Download>, must: bool) -> bool {
        let mut downloads = locked(&self.all);
        if !must && !shared.is_unread() {
            return false;
        }
        if downloads.get(&shared.root_v1).is_some_and(|known| Arc::ptr_eq(known, shared)) {
            downloads.remove(&shared.root_v1);
        }
        true
    }
}

impl Download {
    /// Whether it has no reader.
    fn is_unread(&self) -> bool {
        locked(&self.readers).all.is_empty()
    }

    fn interest(&self) -> ReadRanges {
        // Of a file that is only streamed through, what comes too early would stay on the disk.
        let (ahead, count) = match self.file.is_streaming_through() {
            true => (MAX_STREAM_AHEAD, 1),
            false => (u64::MAX, usize::MAX),
        };
        let readers = locked(&self.readers);
        let near = |range: &Range<u64>| range.start..range.end.min(range.start.saturating_add(ahead));
        let waited_for = |reader: &ReaderState| {
            let (at, end) = (reader.waits_at?, near(reader.ranges.front()?).end);
            Some(at..end.min(at.saturating_add(WINDOW_BYTES)))
        };
        ReadRanges::new(
            readers.all.values().flat_map(|reader| reader.ranges.iter().take(count).map(near)).collect(),
            readers.all.values().filter_map(waited_for).collect(),
        )
    }

    /// Where readers wait.
    fn waits(&self) -> BTreeSet<u64> {
        locked(&self.readers).all.values().filter_map(|reader| reader.waits_at).collect()
    }

    /// Has the task look at what readers need, unless it will anyway.
    fn tell(&self, number: u64, change: impl FnOnce(&mut ReaderState)) {
        if let Some(reader) = locked(&self.readers).all.get_mut(&number) {
            change(reader);
        }
        self.moved.notify_one();
    }

    /// The expected blobs after the first `known` ones.
    fn promised(&self, known: usize) -> Vec<Blob> {
        locked(&self.readers).promised.get(known..).unwrap_or_default().to_vec()
    }

    /// Whether a reader was promised nothing about the file.
    fn is_read_by_cid(&self) -> bool {
        locked(&self.readers).all.values().any(|reader| reader.is_by_cid)
    }

    fn step(&self) {
        self.progress.send_modify(|progress| progress.steps += 1);
    }

    fn committing(&self) {
        self.progress.send_modify(|progress| progress.is_committing = true);
    }

    fn end(&self, outcome: Result<Arc<Committed>, Error>) {
        self.progress.send_modify(|progress| progress.outcome = Some(outcome));
    }
}
