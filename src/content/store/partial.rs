//! A file that comes in any order: a sparse file, what of it is written, and rows that follow the disk.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, ErrorKind},
    ops::Range,
    os::unix::fs::FileExt,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use ocipfs_node::Cid;

use super::{
    Error, Leaf, Origin, Store, disk,
    draft::CHECK_EVERY,
    extents::Extents,
    layout::{BlockKey, BlockPlace, frame},
    lock,
    pending::PendingBlock,
    source::OpenBytes,
};

/// Looking at the limit costs little beside a MiB.
const WEIGH_EVERY: u64 = 1 << 20;

mod begin;
mod commit;
#[cfg(test)]
mod tests;

/// A partial file. Clones write the same; there is one for each root.
#[derive(Clone)]
pub struct PartialBlob(Arc<PartialBlobInner>);

/// How far a partial file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialProgress {
    /// Its root.
    pub root: Cid,
    /// Its size.
    pub size: u64,
    /// The bytes of it that are here.
    pub written: u64,
    /// Whether it is in use.
    pub is_live: bool,
}

/// Whether a fetch is at the file of this root. The lock is to be retained as long as that counts.
pub(super) fn is_fetched(live: &HashMap<BlockKey, Weak<PartialBlobInner>>, key: &BlockKey) -> bool {
    live.get(key).is_some_and(|inner| inner.strong_count() > 0)
}

pub(super) struct PartialBlobInner {
    store: Store,
    id: u64,
    root: Cid,
    size: u64,
    file: Arc<File>,
    state: Mutex<WriteState>,
    /// Held by the one checkpoint, `finish` or `discard` that is at work.
    settling: Mutex<()>,
    /// Others that are only cached go for it.
    is_cached: AtomicBool,
    /// Only streamed through: it has no rows and no name on the disk, and its parts go when they were read.
    is_streaming_through: bool,
}

#[derive(Default)]
struct WriteState {
    extents: Extents,
    /// Rows to be committed when what they name is synced.
    pending: Vec<(BlockKey, BlockPlace)>,
    hashed: Option<Hashed>,
    /// The least public of what the file is made of.
    origin: Origin,
    /// How far the hash is that was committed last.
    hash_saved: u64,
    /// Bytes since the disk was looked at, and since the limit was.
    unchecked: u64,
    unweighed: u64,
    /// A sync failed: it is unknown what of the unsynced data the disk has.
    broken: bool,
    ended: bool,
}

/// The sha256 of a file's first bytes, to be resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// How many bytes are hashed.
    pub length: u64,
    /// The state of the hash.
    pub state: Vec<u8>,
}

impl PartialBlob {
    /// The root of its DAG.
    pub fn root(&self) -> Cid {
        self.0.root
    }

    /// The file's length in bytes.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// How many bytes of it are written.
    pub fn written(&self) -> u64 {
        self.0.progress().written
    }

    /// Whether the data of this leaf is written here, at this place.
    pub fn has(&self, leaf: &Leaf) -> bool {
        self.has_range(leaf.offset, leaf.length)
    }

    /// Whether every byte of a range is written.
    pub fn has_range(&self, offset: u64, length: u64) -> bool {
        self.0.state().extents.contain(offset, offset.saturating_add(length))
    }

    /// How many bytes from an offset on are written without a gap.
    pub fn available(&self, offset: u64) -> u64 {
        self.0.state().extents.from(offset)
    }

    /// Keeps an inner node of the DAG, whose bytes the caller has verified; parents come before children.
    pub fn insert_node(&self, cid: Cid, block: Bytes) -> Result<(), Error> {
        self.0.record(BlockKey::of(&cid), BlockPlace::Inline(block), (0, 0))
    }

    /// Writes the data of a leaf, which is `data` of its `block` that the caller has verified.
    pub fn write(&self, leaf: &Leaf, block: &Bytes, data: Range<usize>) -> Result<(), Error> {
        let inner = &self.0;
        let end = leaf.offset.checked_add(leaf.length).filter(|end| *end <= inner.size);
        let bytes = block.get(data.clone()).filter(|bytes| bytes.len() as u64 == leaf.length);
        let (Some(end), Some(bytes)) = (end, bytes) else {
            let Leaf { offset, length, .. } = *leaf;
            return Err(Error::Outside { root: inner.root, size: inner.size, offset, length });
        };
        inner.check_space(leaf.length)?;
        inner.file.write_all_at(bytes, leaf.offset).map_err(|e| inner.failed(e))?;
        let (head, tail) = frame(&leaf.cid, leaf.length);
        let is_framed = block[..data.start] == head && block[data.end..] == tail;
        let place = if is_framed { BlockPlace::window(leaf) } else { BlockPlace::Inline(block.clone()) };
        inner.record(BlockKey::of(&leaf.cid), place, (leaf.offset, end))
    }

    /// Notes that the file takes over a block that came in this way: peers may learn of the file at most what they may of that block.
    pub fn set_origin(&self, origin: Origin) {
        if origin < Origin::Added {
            let mut state = self.0.state();
            state.origin = state.origin.min(origin);
        }
    }

    /// Where all of the file came from so far.
    pub fn origin(&self) -> Origin {
        self.0.state().origin
    }

    /// How far the file is hashed, as far as that was told.
    pub fn hashed(&self) -> Option<Hashed> {
        self.0.state().hashed.clone()
    }

    /// Takes how far the file is hashed; the next checkpoint saves it.
    pub fn set_hashed(&self, hashed: Hashed) {
        let mut state = self.0.state();
        if !self.0.is_streaming_through && state.extents.contain(0, hashed.length) {
            state.hashed = Some(hashed);
        }
    }

    /// Has other cached content go for it from now on.
    pub fn cache(&self) {
        self.0.is_cached.store(true, Ordering::Relaxed);
    }

    /// Whether it is only streamed through.
    pub fn is_streaming_through(&self) -> bool {
        self.0.is_streaming_through
    }

    /// Gives back the disk's room of a range, where the file is only streamed through: it is not read there again.
    pub fn forget(&self, range: Range<u64>) -> Result<(), Error> {
        match self.0.is_streaming_through && !range.is_empty() {
            true => disk::punch(&self.0.file, &range).map_err(|e| self.0.failed(e)),
            false => Ok(()),
        }
    }

    /// Reads what is written; where something of it is not, it is an error of kind `UnexpectedEof`.
    pub fn read_at(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        if !self.has_range(offset, length as u64) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let source = OpenBytes::File(self.0.file.clone());
        self.0.store.0.buffers.read(&source, offset, length, (&[], &[]))
    }
}

impl PartialBlobInner {
    fn state(&self) -> MutexGuard<'_, WriteState> {
        lock(&self.state)
    }

    fn progress(&self) -> PartialProgress {
        let written = self.state().extents.length();
        PartialProgress { root: self.root, size: self.size, written, is_live: true }
    }

    /// Takes up a block whose data, if it has any here, is in the file from `start` to `end`.
    fn record(&self, key: BlockKey, place: BlockPlace, (start, end): (u64, u64)) -> Result<(), Error> {
        let mut state = self.state();
        if state.ended {
            return Err(Error::Ended(self.root));
        }
        state.extents.insert(start, end);
        if self.is_streaming_through {
            return Ok(());
        }
        state.pending.push((key.clone(), place.clone()));
        // Within the lock, so that a checkpoint that commits the row finds it here to be forgotten.
        let (source, origin) = (OpenBytes::File(self.file.clone()), state.origin);
        self.store.0.pending.insert(key, PendingBlock { owner: self.id, place, source, origin });
        Ok(())
    }

    /// Holds that there is room for so many bytes more, which others may have to make.
    fn check_space(&self, length: u64) -> Result<(), Error> {
        let due = |count: &mut u64, every: u64| {
            *count += length;
            let is_due = *count >= every;
            *count = if is_due { 0 } else { *count };
            is_due
        };
        let (disk, limit) = {
            let mut state = self.state();
            (due(&mut state.unchecked, CHECK_EVERY), due(&mut state.unweighed, WEIGH_EVERY))
        };
        if disk {
            self.store.0.disk.check_space()?;
        }
        if limit { self.check_limits(length) } else { Ok(()) }
    }

    /// Looks at the limits before so many bytes come.
    fn check_limits(&self, length: u64) -> Result<(), Error> {
        if self.is_streaming_through {
            return Ok(());
        }
        if self.is_cached.load(Ordering::Relaxed) {
            self.store.make_room(length)?;
        }
        self.store.check_quota(length)
    }

    /// Whether a row names the file. Where that is unknown, one may.
    fn has_rows(&self) -> bool {
        let rows = (self.store.file_row(self.id), self.store.is_partial(self.id));
        !matches!(rows, (Ok(None), Ok(false)))
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::at(&self.store.0.disk.incoming(self.id))(error)
    }
}

impl Drop for PartialBlobInner {
    fn drop(&mut self) {
        let pending = std::mem::take(&mut self.state().pending);
        self.store.0.pending.forget(self.id, pending.iter().map(|(key, _)| key));
        let key = BlockKey::of(&self.root);
        // Held to the end: another handle begins with the file, or after it is gone.
        let mut live = lock(&self.store.0.live);
        // Another may have begun since.
        if live.get(&key).is_some_and(|inner| inner.strong_count() == 0) {
            live.remove(&key);
        }
        if self.is_streaming_through || self.has_rows() {
            return;
        }
        self.store.0.sources.forget(self.id);
        if let Err(error) = disk::unlink(&self.store.0.disk.incoming(self.id)) {
            tracing::warn!("unfinished download stays until the next start: {error}");
        }
    }
}
