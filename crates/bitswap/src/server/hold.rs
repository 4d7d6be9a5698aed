//! How long a peer waits for a large block that was just sent to another one, which may pass it on meanwhile.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// For each peer that wants something, the wait of a peer that gets nothing from others. It is long enough to notice
/// that they are connected by now, on a fast network.
const MIN: Duration = Duration::from_millis(100);
/// The same for a peer that gets from others whatever it waits for.
const MAX: Duration = Duration::from_millis(600);
/// How many of the last outcomes count, roughly.
const OUTCOMES: u32 = 16;
/// All outcomes are of one kind.
const ALL: u32 = 1 << 16;

/// The hold time of one peer, by how its own waits ended. What a peer does about its wants changes no other's time.
pub struct HoldTime {
    /// The part of the blocks that came from others, of [`ALL`].
    from_others: AtomicU32,
}

impl Default for HoldTime {
    fn default() -> Self {
        Self { from_others: AtomicU32::new(ALL / 2) }
    }
}

impl HoldTime {
    /// Records that the peer no longer wants a block that it waited for.
    pub fn came_from_another(&self) {
        self.record(ALL);
    }

    /// Records that the peer is sent a block that it waited for.
    pub fn waited_in_vain(&self) {
        self.record(0);
    }

    fn record(&self, outcome: u32) {
        let mean = |before: u32| Some((before * (OUTCOMES - 1) + outcome) / OUTCOMES);
        let _ = self.from_others.fetch_update(Ordering::Relaxed, Ordering::Relaxed, mean);
    }

    /// Returns the wait where so many peers want something.
    pub fn among(&self, sharing: usize) -> Duration {
        let from_others = f64::from(self.from_others.load(Ordering::Relaxed)) / f64::from(ALL);
        (MIN + (MAX - MIN).mul_f64(from_others)) * sharing as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hold_time_follows_how_the_waits_of_a_peer_ended() {
        let hold = HoldTime::default();
        assert_eq!(hold.among(8), (MIN + MAX) * 4);
        (0..100).for_each(|_| hold.waited_in_vain());
        assert!(hold.among(1) >= MIN && hold.among(1) < MIN + MIN / 20, "{:?}", hold.among(1));
        (0..100).for_each(|_| hold.came_from_another());
        assert!(hold.among(1) <= MAX && hold.among(1) > MAX - MIN / 20, "{:?}", hold.among(1));
        (0..8).for_each(|_| hold.waited_in_vain());
        assert!(hold.among(1) > MIN * 3 && hold.among(1) < MAX - MIN, "{:?}", hold.among(1));
    }
}
