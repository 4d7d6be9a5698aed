//! Slots for large blocks: few bytes are sent at a time, over all peers, so that each block is complete soon and its
//! receiver can pass it on. Slots are granted in order.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{self, Instant},
};

use crate::locked;

const MIB: f64 = (1 << 20) as f64;
/// Bytes of large blocks that are sent at a time.
const MAX_BYTES: usize = 4 << 20;
/// A block that takes this many times as long as the fast ones of late no longer uses its slot, and its peer needs none
/// until it is fast enough, so that slow peers do not delay others.
const SLOW_FACTOR: u32 = 3;
/// The time that a block has in any case, for each MiB.
const MIN_PATIENCE: Duration = Duration::from_millis(125);
/// The maximum: slots are of no use below 8 MiB a second.
const MAX_PATIENCE: Duration = Duration::from_millis(500);
/// Time that every block has beyond that.
const MIN_TIME: Duration = Duration::from_millis(10);

/// The large blocks that are being sent, and the peers that wait.
#[derive(Default)]
pub struct SendSlots(Mutex<State>);

struct State {
    /// For each slot its bytes, and when it expires.
    used: BTreeMap<u64, (usize, Instant)>,
    bytes: usize,
    waiting: VecDeque<Waiting>,
    counter: u64,
    /// The time that a block has for each MiB, before it is too slow for its slot.
    patience: Duration,
}

impl Default for State {
    fn default() -> Self {
        let (used, bytes, waiting, counter) = Default::default();
        // Fast blocks will shorten it. If it began short, a slow uplink would make all peers look slow.
        Self { used, bytes, waiting, counter, patience: MAX_PATIENCE }
    }
}

/// A peer that waits for a slot.
struct Waiting {
    bytes: usize,
    is_slow: Arc<AtomicBool>,
    granted: oneshot::Sender<SendSlot>,
}

impl SendSlots {
    /// Returns whether a large block has to wait.
    pub fn are_used_up(&self, now: Instant) -> bool {
        locked(&self.0).is_used_up(now)
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
                let Some(Waiting { bytes, is_slow, granted }) = state.waiting.pop_front() else { return };
                if granted.is_closed() {
                    continue;
                }
                (state.add(self, bytes, is_slow, now), granted)
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

    fn add(
        &mut self,
        slots: &Arc<SendSlots>,
        bytes: usize,
        is_slow: Arc<AtomicBool>,
        now: Instant,
    ) -> SendSlot {
        self.counter += 1;
        // A slow peer's block leaves the slots to others.
        let used = if is_slow.load(Ordering::Relaxed) { 0 } else { bytes };
        let expires = now + MIN_TIME + self.patience.mul_f64(bytes as f64 / MIB);
        self.used.insert(self.counter, (used, expires));
        self.bytes += used;
        SendSlot { slots: slots.clone(), id: self.counter, bytes, is_slow, begun: now }
    }

    fn expire(&mut self, now: Instant) {
        let expired: Vec<u64> =
            self.used.iter().filter(|(_, (_, expires))| *expires <= now).map(|(id, _)| *id).collect();
        for id in expired {
            self.remove(id);
        }
    }

    /// Returns false if the slot had expired.
    fn remove(&mut self, id: u64) -> bool {
        let removed = self.used.remove(&id);
        self.bytes -= removed.map_or(0, |(bytes, _)| bytes);
        removed.is_some()
    }

    /// Records how long a block took for each MiB. The patience changes bit by bit: a single block may be fast on a slow
    /// uplink; and it shrinks sooner than it grows, so that slow peers do not stretch it while others are fast.
    fn written(&mut self, took: Duration) {
        let (least, most) = (self.patience - self.patience / 8, self.patience + self.patience / 16);
        self.patience = (took * SLOW_FACTOR).clamp(least, most).clamp(MIN_PATIENCE, MAX_PATIENCE);
    }

    fn next_expiry(&self) -> Option<Instant> {
        self.used.values().map(|(_, expires)| *expires).min()
    }
}

/// A slot of one block, until it is written or dropped.
pub struct SendSlot {
    slots: Arc<SendSlots>,
    id: u64,
    bytes: usize,
    /// Of its peer.
    is_slow: Arc<AtomicBool>,
    begun: Instant,
}

impl Drop for SendSlot {
    fn drop(&mut self) {
        let now = Instant::now();
        {
            let mut state = locked(&self.slots.0);
            state.expire(now);
            self.is_slow.store(!state.remove(self.id), Ordering::Relaxed);
            state.written((now - self.begun).mul_f64(MIB / self.bytes.max(1) as f64));
        }
        self.slots.grant(now);
    }
}

/// The place of one peer among those that wait for a slot.
pub struct SlotTicket {
    slots: Arc<SendSlots>,
    queued: Option<oneshot::Receiver<SendSlot>>,
    granted: Option<SendSlot>,
    /// Whether the peer's last block was too slow for its slot.
    is_slow: Arc<AtomicBool>,
}

impl SlotTicket {
    pub fn new(slots: &Arc<SendSlots>) -> Self {
        Self { slots: slots.clone(), queued: None, granted: None, is_slow: Arc::default() }
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
        let mut state = locked(&self.slots.0);
        if !state.is_used_up(now) {
            return Some(state.add(&self.slots, bytes, self.is_slow.clone(), now));
        }
        let (granted, queued) = oneshot::channel();
        state.waiting.push_back(Waiting { bytes, is_slow: self.is_slow.clone(), granted });
        self.queued = Some(queued);
        None
    }

    /// Returns whether the peer is in the queue, or was granted a slot.
    pub fn is_waiting(&self) -> bool {
        self.queued.is_some() || self.granted.is_some()
    }

    /// Returns a slot without waiting, for a block that was read while slots were free.
    pub fn slot_at_once(&self, bytes: usize) -> SendSlot {
        locked(&self.slots.0).add(&self.slots, bytes, self.is_slow.clone(), Instant::now())
    }

    /// Returns whether the peer's blocks have to wait for slots: not those of a slow peer, which need little of the uplink.
    pub fn needs_slots(&self) -> bool {
        !self.is_slow.load(Ordering::Relaxed)
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
        assert!(begun.elapsed() > MIN_PATIENCE && begun.elapsed() < MAX_PATIENCE + 2 * MIN_TIME);
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

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_slower_than_others_needs_no_slots_until_it_is_fast() {
        let slots = Arc::new(SendSlots::default());
        let [mut slow, mut fast] = [(); 2].map(|()| SlotTicket::new(&slots));
        let of_slow = slow.slot(BLOCK).unwrap();
        for _ in 0..20 {
            let _of_fast = fast.slot(BLOCK).unwrap();
            time::advance(Duration::from_millis(20)).await;
        }
        assert!(slow.needs_slots(), "it has the time that was usual when it began");
        drop(of_slow);
        for (took, needs_slots) in [(MAX_PATIENCE / 2, false), (MIN_PATIENCE / 2, true)] {
            let block = slow.slot_at_once(BLOCK);
            time::advance(took).await;
            drop(block);
            assert_eq!(slow.needs_slots(), needs_slots, "after {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn blocks_of_slow_peers_leave_the_slots_to_others() {
        let slots = Arc::new(SendSlots::default());
        let [slow, mut fast] = [(); 2].map(|()| SlotTicket::new(&slots));
        let block = slow.slot_at_once(BLOCK);
        time::advance(2 * MAX_PATIENCE).await;
        drop(block);
        let _slow_blocks: Vec<_> = (0..2 * MAX_BYTES / BLOCK).map(|_| slow.slot_at_once(BLOCK)).collect();
        assert!(fast.slot(BLOCK).is_some());
    }
}
