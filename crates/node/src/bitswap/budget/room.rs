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

use super::{Counted, LIST, Share};
use crate::{bitswap::stream::Error, locked};

/// How long a message waits for memory before that of another peer is taken.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a message holds of the budget and of its peer's share.
#[derive(Debug, Default)]
pub struct Room {
    own: Option<OwnedSemaphorePermit>,
    all: Option<OwnedSemaphorePermit>,
}

impl Room {
    fn add(&mut self, permit: OwnedSemaphorePermit) {
        match &mut self.all {
            Some(all) => all.merge(permit),
            none => *none = Some(permit),
        }
    }
}

/// The room of a message that is being read.
pub struct Reservation {
    share: Arc<Share>,
    room: Room,
    is_whole: bool,
    unfinished: usize,
    evicted: CancellationToken,
}

impl Share {
    /// Reserves room for a message of this length.
    pub async fn reserve(self: &Arc<Self>, length: usize) -> Result<Reservation, Error> {
        let mut reservation = self.begin(length)?;
        reservation.claim(length).await?;
        if self.owes() && self.is_proven() {
            let kib = length.div_ceil(1024) as u32;
            reservation.take(&self.budget.proven, kib, || self.budget.evict_stalled()).await?;
            reservation.is_whole = true;
        }
        Ok(reservation)
    }

    /// Begins a message, of which only the bytes that came count; refuses one that is longer than the peer may send now.
    pub fn begin(self: &Arc<Self>, length: usize) -> Result<Reservation, Error> {
        if !self.owes() && length > LIST {
            self.unrequested(length);
            return Err(Error::Unrequested(length));
        }
        let evicted = locked(&self.evicted).clone();
        let room = Room::default();
        Ok(Reservation { share: self.clone(), room, is_whole: false, unfinished: 0, evicted })
    }
}

/// Waits for the peer's own share, which only the peer's other messages can hold up.
async fn acquire_own(
    share: &Arc<Share>,
    own: &Arc<Semaphore>,
    kib: u32,
) -> Result<OwnedSemaphorePermit, Error> {
    if let Ok(permit) = own.clone().try_acquire_many_owned(kib) {
        return Ok(permit);
    }
    let _waiting = Counted::one(share, |share| &share.waiting, share.streams().1).ok_or(Error::TooMany)?;
    own.clone().acquire_many_owned(kib).await.map_err(|_| Error::Evicted)
}

impl Reservation {
    /// Takes the message's part of its peer's own share.
    pub async fn claim(&mut self, length: usize) -> Result<(), Error> {
        let share = &self.share;
        let own = if length > LIST || share.owes() { &share.blocks } else { &share.lists };
        self.room.own = Some(acquire_own(share, own, length.div_ceil(1024) as u32).await?);
        Ok(())
    }

    /// Counts `bytes` that are about to be read.
    pub async fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        self.share.came.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.is_whole {
            return Ok(());
        }
        let budget = self.share.budget.clone();
        self.take(&budget.others, bytes.div_ceil(1024) as u32, || budget.evict_largest()).await
    }

    async fn take(&mut self, budget: &Arc<Semaphore>, kib: u32, evict: impl Fn()) -> Result<(), Error> {
        let permit = loop {
            match timeout(PATIENCE, budget.clone().acquire_many_owned(kib)).await {
                Ok(permit) => break permit.map_err(|_| Error::Evicted)?,
                Err(_) => evict(),
            }
        };
        self.room.add(permit);
        self.unfinished += kib as usize;
        self.share.unfinished.fetch_add(kib as usize, Ordering::Relaxed);
        Ok(())
    }

    /// Takes over what another part of the same message holds.
    pub fn merge(&mut self, mut part: Self) {
        self.unfinished += std::mem::take(&mut part.unfinished);
        if let Some(permit) = part.room.all.take() {
            self.room.add(permit);
        }
    }

    /// Ends when other peers need the memory more.
    pub fn evicted(&self) -> CancellationToken {
        self.evicted.clone()
    }

    /// The message is whole.
    pub fn finish(mut self) -> Arc<Room> {
        Arc::new(std::mem::take(&mut self.room))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.share.unfinished.fetch_sub(self.unfinished, Ordering::Relaxed);
    }
}
