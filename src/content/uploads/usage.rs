//! How many uploads there are: those under way, and those that were left.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{SAVE_IDLE_AFTER, Store, StoreError, UploadSlot, Uploads, locked, now};
use crate::content::store::SavedUpload;

/// Progress of an upload, readable while a request holds the upload itself.
#[derive(Default)]
pub struct UploadProgress {
    /// How many bytes came.
    pub length: AtomicU64,
    /// When the last of them came, in seconds since 1970.
    pub used: AtomicU64,
}

/// Uploads, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadUsage {
    /// Those of which something came within a minute, or is coming.
    pub under_way: u64,
    /// Their bytes.
    pub under_way_bytes: u64,
    /// The others: they can go on, until they are dropped.
    pub abandoned: u64,
    /// Their bytes.
    pub abandoned_bytes: u64,
    /// How long nothing came of the oldest of those, in seconds.
    pub oldest_seconds: u64,
}

/// One of them, in memory or only saved.
enum UnfinishedUpload {
    InMemory(String, UploadSlot, u64),
    Saved(SavedUpload),
}

impl UploadUsage {
    fn count_live(&mut self, progress: &UploadProgress, is_busy: bool, now: u64) -> bool {
        let (length, used) = (progress.length.load(Ordering::Relaxed), progress.used.load(Ordering::Relaxed));
        let idle = now.saturating_sub(used);
        if is_busy || idle < SAVE_IDLE_AFTER.as_secs() {
            self.under_way += 1;
            self.under_way_bytes += length;
            return false;
        }
        self.count_abandoned(length, idle);
        true
    }

    fn count_abandoned(&mut self, length: u64, idle: u64) {
        self.abandoned += 1;
        self.abandoned_bytes += length;
        self.oldest_seconds = self.oldest_seconds.max(idle);
    }
}

impl Uploads {
    /// How many uploads there are.
    pub async fn usage(&self) -> Result<UploadUsage, StoreError> {
        Ok(self.look(now()).await?.0)
    }

    /// Drops those of which nothing came for a minute; what that was.
    pub async fn drop_abandoned(&self, dry: bool) -> Result<UploadUsage, StoreError> {
        self.drop_abandoned_at(now(), dry).await
    }

    pub(super) async fn drop_abandoned_at(&self, now: u64, dry: bool) -> Result<UploadUsage, StoreError> {
        let (mut usage, left) = self.look(now).await?;
        if dry {
            return Ok(usage);
        }
        for left in left {
            match left {
                UnfinishedUpload::Saved(saved) => {
                    self.store.run(move |store| store.drop_upload(&saved)).await?
                }
                UnfinishedUpload::InMemory(id, slot, length) => match slot.try_lock_owned() {
                    Ok(mut upload) => {
                        upload.cancel().await?;
                        self.forget(&id);
                    }
                    // Something comes after all.
                    Err(_) => {
                        usage.abandoned -= 1;
                        usage.abandoned_bytes = usage.abandoned_bytes.saturating_sub(length);
                    }
                },
            }
        }
        Ok(usage)
    }

    async fn look(&self, now: u64) -> Result<(UploadUsage, Vec<UnfinishedUpload>), StoreError> {
        let saved = self.store.run(Store::saved_uploads).await?;
        let live: HashMap<String, (UploadSlot, Arc<UploadProgress>)> = locked(&self.live)
            .iter()
            .map(|(id, live)| (id.clone(), (live.slot.clone(), live.progress.clone())))
            .collect();
        let (mut usage, mut left) = (UploadUsage::default(), Vec::new());
        for saved in saved.into_iter().filter(|saved| !live.contains_key(&saved.id)) {
            usage.count_abandoned(saved.length, now.saturating_sub(saved.at));
            left.push(UnfinishedUpload::Saved(saved));
        }
        for (id, (slot, progress)) in live {
            let is_busy = slot.try_lock().is_err();
            if usage.count_live(&progress, is_busy, now) {
                left.push(UnfinishedUpload::InMemory(id, slot, progress.length.load(Ordering::Relaxed)));
            }
        }
        Ok((usage, left))
    }
}
