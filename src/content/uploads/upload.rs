use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::sync::{Semaphore, mpsc::channel};
use tokio_util::sync::CancellationToken;

use super::{Error, Uploads, now, usage::UploadProgress};
use crate::content::{BlobWriter, Profile, Store, StoreError, store::SavedUpload};

/// Parts of a body that wait to be hashed and written.
const QUEUE_LENGTH: usize = 3;
/// A body of which nothing comes for so long gives up its place until more comes.
const BODY_TURN_TIMEOUT: Duration = Duration::from_millis(250);
/// A body of which more comes all the time gives up its place after so many bytes, where all places are taken.
const TURN_BYTES: u64 = 16 << 20;

/// One upload. A request that works on it has it alone.
pub struct Upload {
    pub(super) store: Store,
    profile: Profile,
    stall_timeout: Duration,
    bodies: Arc<Semaphore>,
    stop: CancellationToken,
    progress: Arc<UploadProgress>,
    pub(super) id: String,
    owner: String,
    state: UploadState,
    length: u64,
    pub(super) saved: Option<SavedUpload>,
    used: Instant,
}

enum UploadState {
    /// Nothing came, or it is on the disk only.
    Idle,
    InMemory(Box<BlobWriter>),
    /// It was finished, cancelled, or failed in the middle.
    Ended,
}

impl Upload {
    pub(super) fn new(uploads: &Uploads, id: &str, owner: &str) -> Self {
        Self {
            store: uploads.store.clone(),
            profile: uploads.profile,
            stall_timeout: uploads.stall_timeout,
            bodies: uploads.bodies.clone(),
            stop: uploads.stop.clone(),
            progress: Arc::default(),
            id: id.into(),
            owner: owner.into(),
            state: UploadState::Idle,
            length: 0,
            saved: None,
            used: Instant::now(),
        }
    }

    pub(super) fn saved(uploads: &Uploads, saved: SavedUpload) -> Self {
        let mut upload = Self::new(uploads, &saved.id, &saved.owner);
        upload.length = saved.length;
        upload.saved = Some(saved);
        upload.tell();
        upload
    }

    /// Returns the progress that others may read while a request works on the upload.
    pub(super) fn progress(&self) -> Arc<UploadProgress> {
        self.progress.clone()
    }

    fn tell(&mut self) {
        self.used = Instant::now();
        self.progress.length.store(self.length, Ordering::Relaxed);
        self.progress.used.store(now(), Ordering::Relaxed);
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its owner.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// How many bytes came.
    pub fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, UploadState::Ended)
    }

    /// Whether all that came is saved, and something did.
    pub(super) fn is_saved(&self) -> bool {
        self.saved.as_ref().is_some_and(|saved| saved.length == self.length)
    }

    pub(super) fn idle(&self) -> Duration {
        self.used.elapsed()
    }

    /// Returns the order of eviction from memory: uploads without unsaved bytes first, then the longest idle.
    pub(super) fn worth(&self) -> (u64, std::cmp::Reverse<Duration>) {
        let lost = if self.is_saved() { 0 } else { self.length };
        (lost.min(1), std::cmp::Reverse(self.idle()))
    }

    /// The saved part stays on the disk.
    pub(super) fn drop_from_memory(&mut self) {
        self.state = UploadState::Ended;
    }

    /// Refuses a part that does not start where the upload ends.
    pub fn check_offset(&self, offset: u64) -> Result<(), Error> {
        match offset == self.length {
            true => Ok(()),
            false => Err(Error::Offset { expected: self.length, found: offset }),
        }
    }

    /// Takes the next bytes. Where the body breaks off, what came of it is kept. It has a place among those that are read
    /// only while it makes progress.
    pub async fn append<E: std::fmt::Display>(
        &mut self,
        mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<(), Error> {
        while let Some(first) = self.part(&mut body).await? {
            let turn = tokio::time::timeout(self.stall_timeout, self.bodies.clone().acquire_owned()).await;
            let _turn = turn.map_err(|_| Error::Busy)?.map_err(|_| StoreError::Stopped)?;
            if self.append_stream(first, &mut body).await? {
                break;
            }
        }
        self.tell();
        Ok(())
    }

    /// Takes parts until none comes at once, or others had to wait long enough; whether that was the end of the body.
    async fn append_stream<E: std::fmt::Display>(
        &mut self,
        first: Bytes,
        body: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
    ) -> Result<bool, Error> {
        let (parts, mut waiting) = channel::<Bytes>(QUEUE_LENGTH);
        let (mut first, mut given) = (Some(first), 0);
        let writer = self.take_writer();
        let writing = tokio::task::spawn_blocking(move || {
            let mut writer = writer()?;
            let mut length = 0;
            while let Some(part) = waiting.blocking_recv() {
                length += part.len() as u64;
                writer.write(part)?;
            }
            writer.rest()?;
            Ok::<_, StoreError>((writer, length))
        });
        let is_over = loop {
            let part = match first.take() {
                Some(first) => Ok(Some(first)),
                None => {
                    let others_wait = self.bodies.available_permits() == 0;
                    if others_wait && given >= TURN_BYTES {
                        break Ok(false);
                    }
                    let patience = if others_wait { Duration::ZERO } else { BODY_TURN_TIMEOUT };
                    match tokio::time::timeout(patience, self.part(body)).await {
                        Ok(part) => part,
                        Err(_) => break Ok(false),
                    }
                }
            };
            match part {
                Ok(Some(part)) => {
                    given += part.len() as u64;
                    // It hangs up before the end only with an error.
                    if parts.send(part).await.is_err() {
                        break Ok(true);
                    }
                }
                Ok(None) => break Ok(true),
                Err(error) => break Err(error),
            }
        };
        drop(parts);
        let (writer, length) = writing.await.map_err(|_| StoreError::Stopped)??;
        self.state = UploadState::InMemory(Box::new(writer));
        self.length += length;
        self.tell();
        is_over
    }

    /// The next part of a body; none at its end.
    async fn part<E: std::fmt::Display>(
        &self,
        body: &mut (impl Stream<Item = Result<Bytes, E>> + Unpin),
    ) -> Result<Option<Bytes>, Error> {
        let broken_off = |why: String| Err(Error::BrokenOff(why));
        tokio::select! {
            biased;
            part = tokio::time::timeout(self.stall_timeout, body.next()) => match part {
                Ok(part) => part.transpose().or_else(|error| broken_off(error.to_string())),
                Err(_) => broken_off(format!("no bytes received for {} s", self.stall_timeout.as_secs())),
            },
            () = self.stop.cancelled() => broken_off("the registry is shutting down".into()),
        }
    }

    /// Returns the work that continues the upload, for a thread that may block. Until its result is put back,
    /// the upload counts as ended.
    pub(super) fn take_writer(&mut self) -> impl FnOnce() -> Result<BlobWriter, StoreError> + Send + 'static {
        let (store, profile, saved) = (self.store.clone(), self.profile, self.saved.clone());
        let state = std::mem::replace(&mut self.state, UploadState::Ended);
        move || match (state, saved) {
            (UploadState::InMemory(writer), _) => Ok(*writer),
            (UploadState::Ended, _) => Err(StoreError::BrokenOff),
            (UploadState::Idle, None) => BlobWriter::new(&store, profile),
            (UploadState::Idle, Some(saved)) => BlobWriter::resume(&store, profile, saved.file, saved.length),
        }
    }

    /// Makes what came durable.
    pub async fn save(&mut self) -> Result<(), StoreError> {
        if self.is_saved() || self.length == 0 || self.has_ended() {
            return Ok(());
        }
        let writer = self.take_writer();
        let (id, owner, length) = (self.id.clone(), self.owner.clone(), self.length);
        let save = move |store: &Store| {
            let mut writer = writer()?;
            let saved = SavedUpload { id, owner, file: writer.save()?, at: now(), length };
            store.save_upload(saved.clone())?;
            writer.count_saved(length)?;
            Ok((writer, saved))
        };
        let (writer, saved) = self.store.run(save).await?;
        self.state = UploadState::InMemory(Box::new(writer));
        self.saved = Some(saved);
        Ok(())
    }

    /// Drops it and all that came.
    pub async fn cancel(&mut self) -> Result<(), StoreError> {
        let state = std::mem::replace(&mut self.state, UploadState::Ended);
        let saved = self.saved.take();
        let cancel = move |store: &Store| {
            if let Some(saved) = saved {
                store.drop_upload(&saved)?;
            }
            if let UploadState::InMemory(writer) = state {
                writer.discard();
            }
            Ok(())
        };
        self.store.run(cancel).await
    }
}
