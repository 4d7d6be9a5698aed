//! The memory of one message, from its first byte until its blocks are stored.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{CountGuard, Share, WANTLIST_BYTES};
use crate::locked;

/// How long a message waits for memory before another peer's messages are evicted.
const EVICTION_DELAY: Duration = Duration::from_millis(500);

/// Reasons why a message gets no memory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("message too long for a peer without open requests: {0} bytes")]
    Unrequested(usize),
    #[error("too many messages of this peer are waiting for memory")]
    TooMany,
    #[error("memory needed by other peers")]
    Evicted,
}

/// The memory of a message, taken from the budget and from its peer's share.
#[derive(Debug, Default)]
pub struct MemoryLease {
    own: Option<OwnedSemaphorePermit>,
    all: Option<OwnedSemaphorePermit>,
}

impl MemoryLease {
    fn add(&mut self, permit: OwnedSemaphorePermit) {
        match &mut self.all {
            Some(all) => all.merge(permit),
            none => *none = Some(permit),
        }
    }
}

/// The memory of a message that is being read.
pub struct Reservation {
    share: Arc<Share>,
    memory: MemoryLease,
    is_whole: bool,
    unfinished: usize,
    evicted: CancellationToken,
}

impl Share {
    /// Reserves memory for a message of this length.
    pub async fn reserve(self: &Arc<Self>, length: usize) -> Result<Reservation, Error> {
        let mut reservation = self.begin(length)?;
        reservation.claim(length).await?;
        if self.has_open_requests() && self.is_proven() {
            let kib = length.div_ceil(1024) as u32;
            reservation.acquire(&self.budget.proven, kib, || self.budget.evict_stalled()).await?;
            reservation.is_whole = true;
        }
        Ok(reservation)
    }

    /// Starts a message whose memory is counted as its bytes arrive. Fails if it is longer than the peer may send now.
    pub fn begin(self: &Arc<Self>, length: usize) -> Result<Reservation, Error> {
        if !self.has_open_requests() && length > WANTLIST_BYTES {
            self.unrequested(length);
            return Err(Error::Unrequested(length));
        }
        let evicted = locked(&self.evicted).clone();
        let memory = MemoryLease::default();
        Ok(Reservation { share: self.clone(), memory, is_whole: false, unfinished: 0, evicted })
    }
}

/// Waits for memory of the peer's own share, which only its own messages can hold up.
async fn acquire_own(
    share: &Arc<Share>,
    own: &Arc<Semaphore>,
    kib: u32,
) -> Result<OwnedSemaphorePermit, Error> {
    if let Ok(permit) = own.clone().try_acquire_many_owned(kib) {
        return Ok(permit);
    }
    let _waiting = CountGuard::one(share, |share| &share.waiting, share.streams().1).ok_or(Error::TooMany)?;
    own.clone().acquire_many_owned(kib).await.map_err(|_| Error::Evicted)
}

impl Reservation {
    /// Claims the message's part of its peer's own share.
    pub async fn claim(&mut self, length: usize) -> Result<(), Error> {
        let share = &self.share;
        let own = if length > WANTLIST_BYTES || share.has_open_requests() {
            &share.blocks
        } else {
            &share.wantlist
        };
        self.memory.own = Some(acquire_own(share, own, length.div_ceil(1024) as u32).await?);
        Ok(())
    }

    /// Counts `bytes` that are about to be read, and waits until the maximum rate lets them pass.
    pub async fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        self.share.received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.pace(bytes).await;
        if self.is_whole {
            return Ok(());
        }
        let budget = self.share.budget.clone();
        self.acquire(&budget.others, bytes.div_ceil(1024) as u32, || budget.evict_largest()).await
    }

    /// Only what this node asked for has a turn: with its streams a stranger could otherwise take most of the turns.
    async fn pace(&self, bytes: usize) {
        let download = &self.share.budget.download;
        if self.share.has_open_requests() {
            let _paced = CountGuard::one(&self.share, |share| &share.paced, usize::MAX);
            download.pass(bytes).await;
        } else {
            download.count(bytes);
        }
    }

    async fn acquire(&mut self, budget: &Arc<Semaphore>, kib: u32, evict: impl Fn()) -> Result<(), Error> {
        let permit = loop {
            match timeout(EVICTION_DELAY, budget.clone().acquire_many_owned(kib)).await {
                Ok(permit) => break permit.map_err(|_| Error::Evicted)?,
                Err(_) => evict(),
            }
        };
        self.memory.add(permit);
        self.unfinished += kib as usize;
        self.share.unfinished.fetch_add(kib as usize, Ordering::Relaxed);
        Ok(())
    }

    /// Takes over the memory of another stripe of the same message.
    pub fn merge(&mut self, mut other: Self) {
        self.unfinished += std::mem::take(&mut other.unfinished);
        if let Some(permit) = other.memory.all.take() {
            self.memory.add(permit);
        }
    }

    /// Returns a token that is cancelled when other peers need the memory.
    pub fn evicted(&self) -> CancellationToken {
        self.evicted.clone()
    }

    /// Turns the reservation of a complete message into a lease.
    pub fn finish(mut self) -> Arc<MemoryLease> {
        Arc::new(std::mem::take(&mut self.memory))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.share.unfinished.fetch_sub(self.unfinished, Ordering::Relaxed);
    }
}
