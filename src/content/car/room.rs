//! The memory of blocks and CARs on their way to clients, over all of them.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes per permit of the semaphore.
const UNIT_BYTES: u64 = 1 << 10;

/// The memory of blocks and CARs on their way to clients. Clones share it.
#[derive(Clone, Debug)]
pub struct CarRoom {
    free: Arc<Semaphore>,
    units: u32,
}

/// All of the memory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// Memory that was taken, given back when it is dropped.
pub type Taken = OwnedSemaphorePermit;

impl CarRoom {
    /// Returns a limit of so many bytes for all of them.
    pub fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).min(u32::MAX >> 3);
        Self { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Takes memory if there is enough. What is larger than all of it takes all of it.
    pub fn try_take(&self, bytes: u64) -> Result<Taken, Busy> {
        self.free.clone().try_acquire_many_owned(self.units(bytes)).map_err(|_| Busy)
    }

    /// Waits for memory, as long as `limit`.
    pub async fn take(&self, bytes: u64, limit: Duration) -> Result<Taken, Busy> {
        let waiting = self.free.clone().acquire_many_owned(self.units(bytes));
        let taken = tokio::time::timeout(limit, waiting).await;
        taken.map_err(|_| Busy)?.map_err(|_| Busy)
    }

    fn units(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(self.units)
    }
}
