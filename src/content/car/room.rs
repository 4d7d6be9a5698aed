//! The memory of blocks and CARs on their way to clients, over all of them.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Limit for all of them: eight blocks of the largest length that peers exchange.
const TOTAL_BYTES: u64 = 16 << 20;
/// Bytes per permit of the semaphore.
const UNIT_BYTES: u64 = 1 << 10;

/// The memory of blocks and CARs on their way to clients. Clones share it.
#[derive(Clone, Debug)]
pub struct CarRoom(Arc<Semaphore>);

/// All of the memory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// Memory that was taken, given back when it is dropped.
pub type Taken = OwnedSemaphorePermit;

impl Default for CarRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new((TOTAL_BYTES / UNIT_BYTES) as usize)))
    }
}

impl CarRoom {
    /// Takes memory if there is enough. What is larger than all of it takes all of it.
    pub fn try_take(&self, bytes: u64) -> Result<Taken, Busy> {
        self.0.clone().try_acquire_many_owned(units(bytes)).map_err(|_| Busy)
    }

    /// Waits for memory, as long as `limit`.
    pub async fn take(&self, bytes: u64, limit: Duration) -> Result<Taken, Busy> {
        let taken = tokio::time::timeout(limit, self.0.clone().acquire_many_owned(units(bytes))).await;
        taken.map_err(|_| Busy)?.map_err(|_| Busy)
    }
}

fn units(bytes: u64) -> u32 {
    bytes.min(TOTAL_BYTES).div_ceil(UNIT_BYTES) as u32
}
