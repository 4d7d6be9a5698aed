//! The memory of what is being added, over all requests, until it is stored.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes per permit of the semaphore.
const UNIT_BYTES: u64 = 1 << 10;
/// What a file takes in one step.
const STEP_UNITS: u32 = 64;

/// The memory of what is being added. Clones share it.
#[derive(Clone, Debug)]
pub struct AddingMemory {
    free: Arc<Semaphore>,
    units: u32,
}

/// Memory that is held for what one request adds.
#[derive(Debug)]
pub struct Held {
    memory: AddingMemory,
    permit: Option<OwnedSemaphorePermit>,
    bytes: u64,
}

/// Why there is no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMemory {
    /// It is more than there is at all.
    TooMuch,
    /// Other requests hold it.
    Busy,
}

impl AddingMemory {
    /// Returns a budget of so many bytes.
    pub fn new(bytes: u64) -> Self {
        let units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).min(u32::MAX >> 3);
        Self { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Holds nothing yet.
    pub fn held(&self) -> Held {
        Held { memory: self.clone(), permit: None, bytes: 0 }
    }
}

impl Held {
    /// Holds `more` bytes more, without waiting: who waits holds memory that others wait for.
    pub fn grow(&mut self, more: u64) -> Result<(), NoMemory> {
        let held = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) as u32;
        let bytes = self.bytes.saturating_add(more);
        let needed = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        if needed > self.memory.units {
            return Err(NoMemory::TooMuch);
        }
        if let Some(missing) = needed.checked_sub(held).filter(|missing| *missing > 0) {
            let free = self.memory.free.clone();
            let step = missing.max(STEP_UNITS);
            let more = free.clone().try_acquire_many_owned(step);
            let more = more.or_else(|_| free.try_acquire_many_owned(missing)).map_err(|_| NoMemory::Busy)?;
            match &mut self.permit {
                Some(permit) => permit.merge(more),
                None => self.permit = Some(more),
            }
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Takes over what another one holds.
    pub fn merge(&mut self, other: Self) {
        self.bytes += other.bytes;
        match (&mut self.permit, other.permit) {
            (Some(permit), Some(more)) => permit.merge(more),
            (permit @ None, more) => *permit = more,
            (Some(_), None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_holds_memory_until_it_is_stored() {
        let memory = AddingMemory::new(1 << 20);
        let (mut one, mut other) = (memory.held(), memory.held());
        assert_eq!(one.grow(2 << 20), Err(NoMemory::TooMuch));
        assert_eq!(one.grow(700 << 10), Ok(()));
        assert_eq!(other.grow(400 << 10), Err(NoMemory::Busy));
        assert_eq!(other.grow(300 << 10), Ok(()));
        one.merge(other);
        assert_eq!(memory.held().grow(100 << 10), Err(NoMemory::Busy));
        drop(one);
        assert_eq!(memory.held().grow(1 << 20), Ok(()));
    }
}
