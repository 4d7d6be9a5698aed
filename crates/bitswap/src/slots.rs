//! Slots for large blocks: few are sent at a time, over all peers, so that each is complete soon and its receiver can
//! pass it on.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{self, Instant},
};

use crate::locked;

/// Large blocks sent at a time.
const MAX_SLOTS: usize = 12;
/// A block that is not written after this time no longer uses its slot, so that slow peers do not delay others.
const SLOT_TIMEOUT: Duration = Duration::from_secs(1);

/// The large blocks that are being sent, and since when.
#[derive(Default)]
pub struct SendSlots {
    used: Mutex<BTreeMap<u64, Instant>>,
    counter: AtomicU64,
    freed: Notify,
}

impl SendSlots {
    /// Takes a slot, or returns when one is free at the latest.
    pub fn begin(self: &Arc<Self>, now: Instant) -> Result<SendSlot, Instant> {
        let mut used = locked(&self.used);
        used.retain(|_, since| now.saturating_duration_since(*since) < SLOT_TIMEOUT);
        if used.len() >= MAX_SLOTS {
            return Err(used.values().next().map_or(now, |since| *since + SLOT_TIMEOUT));
        }
        let id = self.counter.fetch_add(1, Ordering::Relaxed);
        used.insert(id, now);
        Ok(SendSlot { slots: self.clone(), id })
    }

    /// Waits until a slot was freed, but no longer than until `deadline`. Those that wait are woken in order.
    pub async fn freed(&self, deadline: Instant) {
        // Timed out: a slot may have expired.
        let _ = time::timeout_at(deadline, self.freed.notified()).await;
    }
}

/// A slot of one block, until it is written or dropped.
pub struct SendSlot {
    slots: Arc<SendSlots>,
    id: u64,
}

impl Drop for SendSlot {
    fn drop(&mut self) {
        locked(&self.slots.used).remove(&self.id);
        self.slots.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slot_is_free_again_when_its_block_is_written_or_after_a_time() {
        let slots = Arc::new(SendSlots::default());
        let mut used: Vec<SendSlot> = (0..MAX_SLOTS).map(|_| slots.begin(Instant::now()).unwrap()).collect();
        let until = slots.begin(Instant::now()).err().unwrap();
        assert_eq!(until, Instant::now() + SLOT_TIMEOUT);
        used.pop();
        slots.freed(until).await;
        assert!(Instant::now() < until, "the end of a block wakes those that wait");
        used.push(slots.begin(Instant::now()).unwrap());
        slots.freed(until).await;
        assert_eq!(Instant::now(), until, "no block was written");
        assert!(slots.begin(Instant::now()).is_ok(), "peers that do not read keep no slot");
    }
}
