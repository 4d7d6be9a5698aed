//! Blobs that come in parts, over several requests. The saved part of an upload outlives the process.

mod finish;
mod in_flight;
#[cfg(test)]
mod tests;
mod upload;
mod usage;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use ocipfs_oci::Digest;
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Content, Profile, Store, StoreError, locked, store};

pub use in_flight::UploadInFlight;
pub use upload::Upload;
pub use usage::UploadUsage;

use usage::UploadProgress;

/// Under way at one time, in memory: one that rests between its parts may have a piece of less than a MiB there.
const MAX_UPLOADS: usize = 500;
/// Beyond that one gives way of which nothing came for so long.
const EVICT_IDLE_AFTER: Duration = Duration::from_secs(10);
/// At a stop, a request that works on an upload gets so long to leave it.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Bodies that are read at one time. Each takes a thread and some 4 MiB; the others wait, and those that make no progress.
const MAX_BODIES: usize = 32;
/// Kept in memory beyond that only where it is not saved.
const SAVE_IDLE_AFTER: Duration = Duration::from_secs(60);
/// An upload of which nothing came, or nothing could be saved, is given up after this time.
const EMPTY_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// A saved one is given up after this time.
const SAVED_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Why an upload does not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are too many.
    #[error("too many uploads: the limit is {MAX_UPLOADS}; finish or cancel some")]
    TooMany,
    /// So many bodies come that this one had no turn.
    #[error("too many concurrent upload requests: the limit is {MAX_BODIES}; try again later")]
    Busy,
    /// The client's stream ended early; what came is kept.
    #[error("request body was truncated: {0}")]
    BrokenOff(String),
    /// The bytes are others.
    #[error("digest mismatch: expected {expected}, found {found}")]
    Mismatch {
        /// Digest that the client gave.
        expected: Digest,
        /// Digest of the received bytes.
        found: Digest,
    },
    /// A part starts elsewhere than where the upload ends.
    #[error("invalid offset: the part begins at byte {found}, expected {expected}")]
    Offset {
        /// The length of the upload.
        expected: u64,
        /// The offset of the part.
        found: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

type UploadSlot = Arc<tokio::sync::Mutex<Upload>>;

/// An upload in memory.
struct UploadInMemory {
    owner: String,
    slot: UploadSlot,
    progress: Arc<UploadProgress>,
}

impl UploadInMemory {
    fn new(upload: Upload) -> Self {
        let owner = upload.owner().into();
        Self { owner, progress: upload.progress(), slot: Arc::new(tokio::sync::Mutex::new(upload)) }
    }
}

/// The uploads of one node.
pub struct Uploads {
    store: Store,
    profile: Profile,
    stall_timeout: Duration,
    bodies: Arc<Semaphore>,
    /// Cancelled when the process stops.
    stop: CancellationToken,
    live: Mutex<HashMap<String, UploadInMemory>>,
}

/// Seconds since 1970.
pub fn now() -> u64 {
    store::now() / 1000
}

impl Uploads {
    pub(super) fn new(store: Store, profile: Profile, stall_timeout: Duration) -> Self {
        let bodies = Arc::new(Semaphore::new(MAX_BODIES));
        Self { store, profile, stall_timeout, bodies, stop: CancellationToken::new(), live: Mutex::default() }
    }

    /// Begins an upload.
    pub fn begin(&self, owner: &str) -> Result<OwnedMutexGuard<Upload>, Error> {
        self.begin_among(owner, MAX_UPLOADS, EVICT_IDLE_AFTER)
    }

    fn begin_among(
        &self,
        owner: &str,
        most: usize,
        resting: Duration,
    ) -> Result<OwnedMutexGuard<Upload>, Error> {
        let mut live = locked(&self.live);
        if live.len() >= most {
            give_way(&mut live, resting)?;
        }
        let id = Uuid::new_v4().to_string();
        let upload = UploadInMemory::new(Upload::new(self, &id, owner));
        let slot = upload.slot.clone();
        live.insert(id, upload);
        slot.try_lock_owned().map_err(|_| StoreError::BrokenOff.into())
    }

    /// An upload of this owner, once no other request works on it.
    pub async fn find(&self, owner: &str, id: &str) -> Result<Option<OwnedMutexGuard<Upload>>, Error> {
        // Again where it failed in the middle, or left the memory: its saved part is there.
        for _ in 0..2 {
            let live = locked(&self.live).get(id).map(|live| live.slot.clone());
            let slot = match live {
                Some(slot) => slot,
                None => match self.resume(id).await? {
                    Some(slot) => slot,
                    None => return Ok(None),
                },
            };
            let upload = slot.lock_owned().await;
            if !upload.has_ended() {
                return Ok((upload.owner() == owner).then_some(upload));
            }
            self.forget(id);
        }
        Ok(None)
    }

    /// Goes on with one that was saved; of several requests that find it one resumes it.
    async fn resume(&self, id: &str) -> Result<Option<UploadSlot>, Error> {
        let of = id.to_string();
        let Some(saved) = self.store.run(move |store| store.saved_upload(&of)).await? else {
            return Ok(None);
        };
        let upload = Upload::saved(self, saved);
        let mut live = locked(&self.live);
        let live = live.entry(id.into()).or_insert_with(|| UploadInMemory::new(upload));
        Ok(Some(live.slot.clone()))
    }

    /// Forgets an upload that was finished or cancelled.
    pub fn forget(&self, id: &str) {
        locked(&self.live).remove(id);
    }

    /// Drops what is stale, and from memory what is idle and saved.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        self.sweep_at(now()).await
    }

    async fn sweep_at(&self, now: u64) -> Result<(), StoreError> {
        let live: Vec<(String, UploadSlot)> =
            locked(&self.live).iter().map(|(id, live)| (id.clone(), live.slot.clone())).collect();
        for (id, slot) in live {
            // What is locked is in use.
            let Ok(mut upload) = slot.try_lock_owned() else { continue };
            let limit = if upload.is_saved() { SAVE_IDLE_AFTER } else { EMPTY_LIFETIME };
            if upload.idle() > limit {
                // In this order: who goes on with it may not find its file before it is left.
                upload.drop_from_memory();
                self.forget(&id);
            }
        }
        let stale = |at: u64| now.saturating_sub(at) > SAVED_LIFETIME.as_secs();
        let saved = self.store.run(Store::saved_uploads).await?;
        for saved in saved.into_iter().filter(|saved| stale(saved.at)) {
            if !locked(&self.live).contains_key(&saved.id) {
                self.store.run(move |store| store.drop_upload(&saved)).await?;
            }
        }
        Ok(())
    }

    /// Saves all of which something came: the process ends. What is being read is broken off first.
    pub async fn save_all(&self) {
        self.stop.cancel();
        let live: Vec<UploadSlot> = locked(&self.live).values().map(|live| live.slot.clone()).collect();
        let save = |slot: UploadSlot| async move {
            let Ok(mut upload) = tokio::time::timeout(STOP_TIMEOUT, slot.lock_owned()).await else {
                return tracing::warn!("cannot save an upload: a request is still using it");
            };
            if let Err(error) = upload.save().await {
                tracing::warn!("cannot save an upload: {error}");
            }
        };
        futures::future::join_all(live.into_iter().map(save)).await;
    }
}

/// Drops an upload that rests from memory: the one that loses least, then the one that rests longest.
fn give_way(live: &mut HashMap<String, UploadInMemory>, resting: Duration) -> Result<(), Error> {
    let worth = |(id, live): (&String, &UploadInMemory)| {
        let upload = live.slot.try_lock().ok()?;
        (upload.idle() >= resting).then(|| (upload.worth(), id.clone()))
    };
    let (_, id) = live.iter().filter_map(worth).min().ok_or(Error::TooMany)?;
    let Some(upload) = live.remove(&id).and_then(|live| live.slot.try_lock_owned().ok()) else {
        return Err(Error::TooMany);
    };
    let mut upload = upload;
    upload.drop_from_memory();
    Ok(())
}

impl Content {
    /// Saves an upload in a moment, unless it is finished by then: of a streamed one that is not worth the client's wait.
    pub fn save_upload_soon(&self, owner: &str, id: &str) {
        let (content, owner, id) = (self.clone(), owner.to_string(), id.to_string());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if !locked(&content.0.uploads.live).contains_key(&id) {
                return;
            }
            if let Ok(Some(mut upload)) = content.0.uploads.find(&owner, &id).await
                && let Err(error) = upload.save().await
            {
                tracing::warn!("cannot save an upload: {error}");
            }
        });
    }
}
