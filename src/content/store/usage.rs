//! How much is stored and how much may be, and what was used when.

use std::{
    collections::HashMap,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    Error, Store,
    extents::Extents,
    lock,
    tables::{self, ARRIVING, ARRIVING_BYTES, BYTES, LOOSE_BYTES, META, Tables},
};

/// Frees so many bytes, if it can.
pub type MakeRoom = Box<dyn Fn(&Store, u64) -> Result<(), Error> + Send + Sync>;

#[derive(Default)]
pub struct Usage {
    limit: OnceLock<(u64, MakeRoom)>,
    /// Bytes of drafts that are open.
    drafts: AtomicU64,
    /// Uses that are not written down yet, by file id.
    uses: Mutex<HashMap<u64, u64>>,
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

/// The bytes of an open draft, counted until it is dropped.
pub struct Counted {
    store: Store,
    bytes: u64,
}

impl Store {
    /// Refuses from now on what would make it more than `bytes`, unless `make_room` frees enough. Said once.
    pub fn limit(&self, bytes: u64, make_room: MakeRoom) {
        let _ = self.0.usage.limit.set((bytes, make_room));
    }

    /// Bytes of blobs, stored and on their way, and of blocks that stand alone. What arrives now counts whole.
    pub fn used_bytes(&self) -> Result<u64, Error> {
        let live = self.live();
        self.0.database.read(|read| {
            let (meta, arriving) = (read.open_table(META)?, read.open_table(ARRIVING)?);
            let mut used = self.draft_bytes();
            for row in [BYTES, LOOSE_BYTES, ARRIVING_BYTES] {
                used = used.saturating_add(tables::number(&meta, row)?);
            }
            // What is being fetched now counts as reserved instead of as saved.
            for (id, file) in &live {
                let saved = arriving.get(id)?.map_or(0, |row| Extents::from_rows(row.value().2).length());
                used = used.saturating_add(file.reserved()).saturating_sub(saved);
            }
            Ok(used)
        })
    }

    /// Bytes of what is being written from one end to the other.
    pub fn draft_bytes(&self) -> u64 {
        self.0.usage.drafts.load(Ordering::Relaxed)
    }

    /// Holds that `more` bytes may be stored.
    pub fn check_room(&self, more: u64) -> Result<(), Error> {
        let Some((limit, make_room)) = self.0.usage.limit.get() else { return Ok(()) };
        let over = || Ok::<_, Error>((self.used_bytes()? + more).saturating_sub(*limit));
        match over()? {
            0 => return Ok(()),
            over => make_room(self, over)?,
        }
        if over()? == 0 { Ok(()) } else { Err(Error::Quota { limit: *limit }) }
    }

    pub(super) fn counted(&self) -> Counted {
        Counted { store: self.clone(), bytes: 0 }
    }

    /// Remembers that a file was read just now.
    pub fn use_file(&self, id: u64) {
        lock(&self.0.usage.uses).insert(id, now());
    }

    /// Writes down what was used since the last call.
    pub fn save_uses(&self) -> Result<(), Error> {
        let uses = std::mem::take(&mut *lock(&self.0.usage.uses));
        if uses.is_empty() {
            return Ok(());
        }
        self.0.database.write(|write| {
            let mut used = Tables::open(write)?.used;
            // A file that was removed since has no row.
            for (id, when) in uses {
                if redb::ReadableTable::get(&used, id)?.is_some() {
                    used.insert(id, when)?;
                }
            }
            Ok(())
        })
    }
}

impl Counted {
    /// Adds bytes, and refuses what is too much.
    pub fn add(&mut self, bytes: u64) -> Result<(), Error> {
        self.bytes += bytes;
        self.store.0.usage.drafts.fetch_add(bytes, Ordering::Relaxed);
        self.store.check_room(0)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.store.0.usage.drafts.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
