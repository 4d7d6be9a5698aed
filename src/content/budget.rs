//! The memory that pieces of blobs take between the disk and the clients, over all downloads.
//!
//! A client that does not read leaves its piece here until its connection is closed. So pieces are large only while much of the
//! budget is free; beyond that they are small, and still each download has one.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Error;

/// Where half of the budget is taken, the other half is so many small pieces: room for the downloads of a crowd that does not
/// read, and for those beside it.
const SMALL_PIECES: u64 = 1_024;
const SMALLEST_BYTES: u64 = 4 << 10;
/// Bytes per permit of the semaphore.
const UNIT_BYTES: u64 = 1 << 10;

/// A budget. Clones share it.
#[derive(Clone, Debug)]
pub struct PieceBudget {
    free: Arc<Semaphore>,
    total: u64,
    /// The length of a small piece.
    small: u64,
}

/// Memory for one piece, given back with it.
#[derive(Debug)]
pub struct PieceReservation {
    length: u64,
    _permit: OwnedSemaphorePermit,
}

impl PieceBudget {
    /// Returns a budget for so many bytes of pieces at one time.
    pub fn new(bytes: u64) -> Self {
        let units = (bytes / UNIT_BYTES).min(Semaphore::MAX_PERMITS as u64);
        let small = (units / 2 / SMALL_PIECES * UNIT_BYTES).max(SMALLEST_BYTES);
        Self { free: Arc::new(Semaphore::new(units as usize)), total: units * UNIT_BYTES, small }
    }

    /// Takes room for a piece of at most `wanted` bytes; waits for a small one where all is taken.
    pub async fn reserve(&self, wanted: u64) -> Result<PieceReservation, Error> {
        if let Some(room) = self.spare(wanted) {
            return Ok(room);
        }
        let length = wanted.min(self.small);
        let permit = self.free.clone().acquire_many_owned(units(length)).await.map_err(Error::stopped)?;
        Ok(PieceReservation { length, _permit: permit })
    }

    /// Takes room for a piece of `wanted` bytes if more than half of the budget is free.
    pub fn spare(&self, wanted: u64) -> Option<PieceReservation> {
        let free = self.free.available_permits() as u64 * UNIT_BYTES;
        if free <= self.total / 2 {
            return None;
        }
        let permit = self.free.clone().try_acquire_many_owned(units(wanted)).ok()?;
        Some(PieceReservation { length: wanted, _permit: permit })
    }
}

fn units(length: u64) -> u32 {
    u32::try_from(length.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

impl PieceReservation {
    /// How long the piece may be.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Holds the room for as long as these bytes are somewhere.
    pub fn hold(self, bytes: Bytes) -> Bytes {
        hold(bytes, self)
    }
}

/// Holds something for as long as these bytes are somewhere.
pub fn hold<T: Send + 'static>(bytes: Bytes, with: T) -> Bytes {
    Bytes::from_owner(HeldBytes { bytes, _with: with })
}

struct HeldBytes<T> {
    bytes: Bytes,
    _with: T,
}

impl<T> AsRef<[u8]> for HeldBytes<T> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::task::unconstrained;

    use super::*;

    #[tokio::test]
    async fn reservations_shrink_beyond_half_of_the_memory_budget_and_wait_at_its_end() {
        let (total, large) = (64 << 20, 512 << 10);
        let budget = PieceBudget::new(total);
        let mut taken = Vec::new();
        while let Some(room) = budget.spare(large) {
            assert_eq!(room.length(), large);
            taken.push(room);
        }
        assert_eq!(taken.len() as u64, total / 2 / large);
        while let Some(room) = unconstrained(budget.reserve(large)).now_or_never() {
            taken.push(room.unwrap());
            assert_eq!(taken.last().unwrap().length(), budget.small);
        }
        assert_eq!(taken.iter().map(PieceReservation::length).sum::<u64>(), total);
        assert_eq!(taken.len() as u64, total / 2 / large + SMALL_PIECES);
        let bytes = taken.pop().unwrap().hold(Bytes::from_static(b"piece"));
        let rest = bytes.slice(1..);
        drop(bytes);
        assert!(
            unconstrained(budget.reserve(large)).now_or_never().is_none(),
            "a part of the piece is still somewhere"
        );
        drop(rest);
        assert_eq!(budget.reserve(1).now_or_never().unwrap().unwrap().length(), 1);
    }
}
