//! The stored bytes, their limit, and last-use times.

use std::{
    collections::HashMap,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use redb::ReadableTable;

use super::{
    Error, Store,
    extents::Extents,
    lock,
    tables::{self, BYTES, LOOSE_BYTES, META, PARTIAL, PARTIAL_BYTES, Tables, USED},
};

/// Evicts at least so many bytes, if it can, for a write that adds so many more.
pub type Evict = Box<dyn Fn(&Store, u64, u64) -> Result<(), Error> + Send + Sync>;
/// Evicts other cached content for so many bytes that are about to be written.
pub type EvictFor = Box<dyn Fn(&Store, u64) -> Result<(), Error> + Send + Sync>;

#[derive(Default)]
pub struct UsageCounters {
    limit: OnceLock<(u64, Evict)>,
    make_room: OnceLock<EvictFor>,
    /// Bytes of drafts that are open, and of uploads that are saved.
    drafts: AtomicU64,
    /// Uses that are not written down yet, by file id.
    uses: Mutex<HashMap<u64, u64>>,
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

/// The bytes of an open draft, counted until it is dropped. What a row says is saved of it stays counted with the row.
pub struct CountedBytes {
    store: Store,
    bytes: u64,
    saved: u64,
}

impl Store {
    /// Sets the quota: a write that would exceed `bytes` is refused, unless `evict` frees enough. Set once.
    pub fn limit(&self, bytes: u64, evict: Evict) {
        let _ = self.0.usage.limit.set((bytes, evict));
    }

    /// Calls `make_room` from now on before bytes of cached files are written. Set once.
    pub fn set_make_room(&self, make_room: EvictFor) {
        let _ = self.0.usage.make_room.set(make_room);
    }

    /// Evicts other cached content for so many bytes of a file that is only cached.
    pub(super) fn make_room(&self, more: u64) -> Result<(), Error> {
        self.0.usage.make_room.get().map_or(Ok(()), |make_room| make_room(self, more))
    }

    /// Bytes of blobs, stored and on their way, and of blocks that stand alone.
    pub fn used_bytes(&self) -> Result<u64, Error> {
        let live = self.live();
        self.0.database.read(|read| {
            let (meta, partial) = (read.open_table(META)?, read.open_table(PARTIAL)?);
            let mut used = self.draft_bytes();
            for row in [BYTES, LOOSE_BYTES, PARTIAL_BYTES] {
                used = used.saturating_add(tables::number(&meta, row)?);
            }
            // What is being fetched now counts as written instead of as saved.
            for (id, file) in &live {
                let saved = partial.get(id)?.map_or(0, |row| Extents::from_rows(row.value().2).length());
                used = used.saturating_add(file.written).saturating_sub(saved);
            }
            Ok(used)
        })
    }

    /// Bytes of the files that are being fetched now, and how many of them are still to come.
    pub fn claimed_bytes(&self) -> (u64, u64) {
        let live = self.live();
        let all = live.iter().fold(0u64, |sum, (_, file)| sum.saturating_add(file.size));
        (all, all.saturating_sub(live.iter().map(|(_, file)| file.written).sum()))
    }

    /// Bytes that are free on the disk, beyond those that the index may need.
    pub fn free_bytes(&self) -> Result<u64, Error> {
        self.0.disk.free()
    }

    /// Bytes of what is being written from one end to the other, and of saved uploads.
    pub fn draft_bytes(&self) -> u64 {
        self.0.usage.drafts.load(Ordering::Relaxed)
    }

    /// Fails if `more` bytes would exceed the quota, even after eviction.
    pub fn check_quota(&self, more: u64) -> Result<(), Error> {
        let Some((limit, evict)) = self.0.usage.limit.get() else { return Ok(()) };
        let over = || Ok::<_, Error>((self.used_bytes()? + more).saturating_sub(*limit));
        match over()? {
            0 => return Ok(()),
            over => evict(self, over, more)?,
        }
        if over()? == 0 { Ok(()) } else { Err(self.quota()) }
    }

    /// Fails if `bytes` can never be stored, because they exceed the limit of the store or what is free on the disk. They are
    /// only claimed, so nothing is evicted for them.
    pub fn check_claim(&self, bytes: u64) -> Result<(), Error> {
        match self.0.usage.limit.get() {
            Some((limit, _)) if bytes > *limit => Err(self.quota()),
            // What is evicted for them will be free.
            Some((limit, _)) if self.used_bytes()?.saturating_add(bytes) > *limit => Ok(()),
            _ if bytes > self.free_bytes()? => Err(Error::Full),
            _ => Ok(()),
        }
    }

    /// The error where the limit leaves no room.
    pub fn quota(&self) -> Error {
        Error::Quota { limit: self.0.usage.limit.get().map_or(u64::MAX, |(limit, _)| *limit) }
    }

    /// Counts a draft of `bytes` so far, of which `saved` are counted already.
    pub(super) fn counted(&self, bytes: u64, saved: u64) -> CountedBytes {
        let counted = CountedBytes { store: self.clone(), bytes, saved };
        self.0.usage.drafts.fetch_add(counted.total() - saved, Ordering::Relaxed);
        counted
    }

    /// Counts what is saved of uploads, before anything else is.
    pub(super) fn count_saved(&self) -> Result<(), Error> {
        let saved = self.saved_uploads()?.iter().map(|saved| saved.length).sum();
        self.0.usage.drafts.store(saved, Ordering::Relaxed);
        Ok(())
    }

    /// Stops counting an upload whose row is gone.
    pub fn uncount_saved(&self, bytes: u64) {
        self.0.usage.drafts.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Remembers that a file was read just now.
    pub fn use_file(&self, id: u64) {
        lock(&self.0.usage.uses).insert(id, now());
    }

    /// Remembers that a file was read at another time.
    #[cfg(test)]
    pub fn use_file_at(&self, id: u64, when: u64) {
        lock(&self.0.usage.uses).insert(id, when);
    }

    /// Replaces last-use times after `now`: the clock was set back since. Until it is there again, such a file would be evicted last,
    /// and not collected at all.
    pub fn correct_uses(&self, now: u64) -> Result<(), Error> {
        let later = self.0.database.read(|read| {
            let mut later = Vec::new();
            for row in read.open_table(USED)?.iter()? {
                let (id, when) = row?;
                if when.value() > now {
                    later.push(id.value());
                }
            }
            Ok(later)
        })?;
        if later.is_empty() {
            return Ok(());
        }
        self.0.database.write(|write| {
            let mut used = Tables::open(write)?.used;
            for id in later {
                // A file that was removed since has no row.
                if used.get(id)?.is_some() {
                    used.insert(id, now)?;
                }
            }
            Ok(())
        })
    }

    /// Saves the last-use times since the last call.
    pub fn save_uses(&self) -> Result<(), Error> {
        let uses = std::mem::take(&mut *lock(&self.0.usage.uses));
        if uses.is_empty() {
            return Ok(());
        }
        self.0.database.write(|write| {
            let mut used = Tables::open(write)?.used;
            // A file that was removed since has no row.
            for (id, when) in uses {
                if used.get(id)?.is_some() {
                    used.insert(id, when)?;
                }
            }
            Ok(())
        })
    }
}

impl CountedBytes {
    /// The length of its file, of which the end may be saved and not counted as written.
    fn total(&self) -> u64 {
        self.bytes.max(self.saved)
    }

    /// Adds bytes, and refuses what is too much.
    pub fn add(&mut self, bytes: u64) -> Result<(), Error> {
        let before = self.total();
        self.bytes += bytes;
        self.store.0.usage.drafts.fetch_add(self.total() - before, Ordering::Relaxed);
        self.store.check_quota(0)
    }

    /// Leaves the count of the first `length` bytes to the row that names them.
    pub fn save(&mut self, length: u64) {
        let before = self.total();
        self.saved = self.saved.max(length);
        self.store.0.usage.drafts.fetch_add(self.total() - before, Ordering::Relaxed);
    }

    /// How many bytes are saved, where more than these were written.
    pub fn cut(&self) -> Option<u64> {
        (self.saved > 0 && self.bytes > self.saved).then_some(self.saved)
    }
}

impl Drop for CountedBytes {
    fn drop(&mut self) {
        self.store.0.usage.drafts.fetch_sub(self.total() - self.saved, Ordering::Relaxed);
    }
}
