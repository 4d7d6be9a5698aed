//! Slots for large blocks: few bytes are sent at a time, over all peers, so that each block is complete soon and its
//! receiver can pass it on. Slots are granted in order.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{self, Instant},
};

use crate::locked;

/// Bytes of large blocks that are sent at a time.
const MAX_BYTES: usize = 12 << 20;
/// A block that is written more slowly, in bytes per second, no longer uses its slot, so that slow peers do not delay
/// others: some 90 MiB a second are granted, whatever the peers do.
const MIN_RATE: u32 = 8 << 20;
/// Time that every block has beyond that.
const MIN_TIME: Duration = Duration::from_millis(10);

/// The large blocks that are being sent, and the peers that wait.
#[derive(Default)]
pub struct SendSlots(Mutex<State>);

#[derive(Default)]
struct State {
    /// For each slot its bytes, and when it expires.
    used: BTreeMap<u64, (usize, Instant)>,
    bytes: usize,
    waiting: VecDeque<(usize, oneshot::Sender<SendSlot>)>,
    counter: u64,
}

impl SendSlots {
    /// Returns whether a large block has to wait.
    pub fn are_used_up(&self, now: Instant) -> bool {
        locked(&self.0).is_used_up(now)
    }

    /// Takes a slot without waiting.
    fn occupy(self: &Arc<Self>, bytes: usize, now: Instant) -> SendSlot {
        SendSlot { slots: self.clone(), id: locked(&self.0).add(bytes, now) }
    }

    /// Takes a slot if one is free, after all those that wait.
    fn request(
        self: &Arc<Self>,
        bytes: usize,
        now: Instant,
    ) -> Result<SendSlot, oneshot::Receiver<SendSlot>> {
        let mut state = locked(&self.0);
        if !state.is_used_up(now) {
            return Ok(SendSlot { slots: self.clone(), id: state.add(bytes, now) });
        }
        let (granted, slot) = oneshot::channel();
        state.waiting.push_back((bytes, granted));
        Err(slot)
    }

    /// Grants free slots to those that wait.
    fn grant(self: &Arc<Self>, now: Instant) {
        loop {
            let (slot, granted) = {
                let mut state = locked(&self.0);
                state.expire(now);
                if state.bytes >= MAX_BYTES {
                    return;
                }
                let Some((bytes, granted)) = state.waiting.pop_front() else { return };
                if granted.is_closed() {
                    continue;
                }
                (SendSlot { slots: self.clone(), id: state.add(bytes, now) }, granted)
            };
            // A slot whose receiver is gone is dropped outside the lock, and granted to the next one.
            drop(granted.send(slot));
        }
    }
}

impl State {
    fn is_used_up(&mut self, now: Instant) -> bool {
        self.expire(now);
        self.bytes >= MAX_BYTES || !self.waiting.is_empty()
    }

    fn add(&mut self, bytes: usize, now: Instant) -> u64 {
        self.counter += 1;
        let expires = now + MIN_TIME + Duration::from_secs(1) * bytes as u32 / MIN_RATE;
        self.used.insert(self.counter, (bytes, expires));
        self.bytes += bytes;
        self.counter
    }

    fn expire(&mut self, now: Instant) {
        let expired: Vec<u64> =
            self.used.iter().filter(|(_, (_, expires))| *expires <= now).map(|(id, _)| *id).collect();
        expired.into_iter().for_each(|id| self.remove(id));
    }

    fn remove(&mut self, id: u64) {
        if let Some((bytes, _)) = self.used.remove(&id) {
            self.bytes -= bytes;
        }
    }

    fn next_expiry(&self) -> Option<Instant> {
        self.used.values().map(|(_, expires)| *expires).min()
    }
}

/// A slot of one block, until it is written or dropped.
pub struct SendSlot {
    slots: Arc<SendSlots>,
    id: u64,
}

impl Drop for SendSlot {
    fn drop(&mut self) {
        locked(&self.slots.0).remove(self.id);
        self.slots.grant(Instant::now());
    }
}

/// The place of one peer among those that wait for a slot.
pub struct SlotTicket {
    slots: Arc<SendSlots>,
    queued: Option<oneshot::Receiver<SendSlot>>,
    granted: Option<SendSlot>,
}

impl SlotTicket {
    pub fn new(slots: &Arc<SendSlots>) -> Self {
        Self { slots: slots.clone(), queued: None, granted: None }
    }

    /// Returns a slot for a block of this length, or queues.
    pub fn slot(&mut self, bytes: usize) -> Option<SendSlot> {
        let now = Instant::now();
        self.slots.grant(now);
        if self.is_granted() {
            return self.granted.take();
        }
        if self.queued.is_some() {
            return None;
        }
        match self.slots.request(bytes, now) {
            Ok(slot) => Some(slot),
            Err(queued) => {
                self.queued = Some(queued);
                None
            }
        }
    }

    /// Returns whether the peer is in the queue, or was granted a slot.
    pub fn is_waiting(&self) -> bool {
        self.queued.is_some() || self.granted.is_some()
    }

    /// Returns a slot without waiting, for a block that was read while slots were free.
    pub fn slot_at_once(&self, bytes: usize) -> SendSlot {
        self.slots.occupy(bytes, Instant::now())
    }

    /// Leaves the queue, and gives a granted slot back.
    pub fn give_up(&mut self) {
        (self.queued, self.granted) = (None, None);
    }

    /// Returns whether a slot was granted.
    pub fn is_granted(&mut self) -> bool {
        if let Some(queued) = &mut self.queued
            && let Ok(slot) = queued.try_recv()
        {
            (self.granted, self.queued) = (Some(slot), None);
        }
        self.granted.is_some()
    }

    /// Returns when a slot that another peer uses expires.
    #[cfg(test)]
    pub fn next_expiry(&self) -> Option<Instant> {
        locked(&self.slots.0).next_expiry()
    }

    /// Waits until a slot is granted.
    pub async fn granted(&mut self) {
        while let Some(queued) = &mut self.queued {
            let expiry = locked(&self.slots.0).next_expiry().unwrap_or_else(Instant::now);
            match time::timeout_at(expiry, queued).await {
                Ok(granted) => (self.granted, self.queued) = (granted.ok(), None),
                Err(_) => self.slots.grant(Instant::now()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 1 << 20;

    #[tokio::test(start_paused = true)]
    async fn slots_are_granted_in_order_when_a_block_is_written_or_too_slow() {
        let slots = Arc::new(SendSlots::default());
        let [mut first, mut second, mut third] = [(); 3].map(|()| SlotTicket::new(&slots));
        let mut used: Vec<SendSlot> =
            (0..MAX_BYTES / BLOCK).map(|_| SlotTicket::new(&slots).slot(BLOCK).unwrap()).collect();
        assert!(first.slot(BLOCK).is_none() && second.slot(BLOCK).is_none());
        let begun = Instant::now();
        used.pop();
        assert!(third.slot(BLOCK).is_none(), "it comes after those that wait");
        assert!(second.slot(BLOCK).is_none());
        let of_first = first.slot(BLOCK).expect("the first that waits gets the free slot");
        drop(of_first);
        second.granted().await;
        assert_eq!(Instant::now(), begun, "without waiting for the clock");
        let _of_second = second.slot(BLOCK).unwrap();
        third.granted().await;
        assert!(third.slot(BLOCK).is_some(), "slow blocks give their slots up");
        assert!(begun.elapsed() > Duration::from_millis(100) && begun.elapsed() < Duration::from_millis(200));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_leaves_the_queue_passes_its_turn_on() {
        let slots = Arc::new(SendSlots::default());
        let [mut first, mut second] = [(); 2].map(|()| SlotTicket::new(&slots));
        let mut used: Vec<SendSlot> =
            (0..MAX_BYTES / BLOCK).map(|_| SlotTicket::new(&slots).slot(BLOCK).unwrap()).collect();
        assert!(first.slot(BLOCK).is_none() && second.slot(BLOCK).is_none());
        used.pop();
        first.give_up();
        assert!(second.slot(BLOCK).is_some());
    }
}
