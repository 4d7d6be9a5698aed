//! Rate limit shared by all traffic that passes: a clock that tells when the last byte is through.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How far the clock may lag behind: who sleeps wakes late, and a cap that forgot that would be lower.
const LAG: Duration = Duration::from_millis(2);

/// One direction of one node's line.
pub struct Shaper {
    /// Bytes a second.
    rate: u64,
    /// When the last that was let in is through.
    free: Mutex<Instant>,
    passed: AtomicU64,
}

impl Shaper {
    pub fn new(rate: u64) -> Arc<Self> {
        Arc::new(Self { rate, free: Mutex::new(Instant::now()), passed: AtomicU64::new(0) })
    }

    /// Says when `bytes` that come at `at` are through.
    pub fn pass(&self, bytes: usize, at: Instant) -> Instant {
        let takes = Duration::from_nanos(bytes as u64 * 1_000_000_000 / self.rate);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        *free = (*free).max(at.checked_sub(LAG).unwrap_or(at)) + takes;
        self.passed.fetch_add(bytes as u64, Ordering::Relaxed);
        *free
    }

    /// How many bytes were let in.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_at_once_is_through_at_the_rate() {
        let shaper = Shaper::new(1_000_000);
        let start = Instant::now() + LAG;
        let through = (0..100).fold(start, |_, _| shaper.pass(10_000, start));
        let took = through - start;
        assert!(took <= Duration::from_secs(1) && took >= Duration::from_secs(1) - LAG, "{took:?}");
    }

    #[test]
    fn who_wakes_late_loses_nothing() {
        let shaper = Shaper::new(1_000_000);
        let start = Instant::now() + LAG;
        let mut at = start;
        for _ in 0..100 {
            at = shaper.pass(10_000, at) + Duration::from_millis(1);
        }
        let took = at - start;
        assert!(took < Duration::from_millis(1_010), "{took:?}");
    }

    #[test]
    fn silence_saves_no_more_than_the_lag() {
        let shaper = Shaper::new(1_000_000);
        let later = Instant::now() + Duration::from_secs(10);
        assert_eq!(shaper.pass(10_000, later), later - LAG + Duration::from_millis(10));
    }
}
