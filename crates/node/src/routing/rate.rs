use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

/// Peers in the table before idle ones are removed.
const MAX_PEERS: usize = 1024;

/// A rate limit for each peer.
pub struct RateLimiter {
    /// The time in which one unit of an allowance is restored.
    every: Duration,
    /// The units of a full allowance.
    burst: u32,
    /// When each peer's allowance will be full again.
    whole: HashMap<PeerId, Instant>,
}

impl RateLimiter {
    pub fn new(every: Duration, burst: u32) -> Self {
        Self { every, burst, whole: HashMap::new() }
    }

    /// Takes one unit from the allowance of `peer`. Returns false if it is used up.
    pub fn allow(&mut self, peer: PeerId, now: Instant) -> bool {
        self.allow_many(peer, 1, now)
    }

    /// Takes `units` from the allowance of `peer`. Returns false if fewer are left.
    pub fn allow_many(&mut self, peer: PeerId, units: u32, now: Instant) -> bool {
        if self.whole.len() >= MAX_PEERS {
            self.whole.retain(|_, whole| *whole > now);
        }
        let whole = self.whole.entry(peer).or_insert(now);
        let next = (*whole).max(now) + self.every * units;
        let allowed = next <= now + self.every * self.burst;
        if allowed {
            *whole = next;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(40);
    const BURST: u32 = 256;

    #[test]
    fn the_rate_limit_allows_a_burst_per_peer() {
        let (mut limiter, now, peer) = (RateLimiter::new(EVERY, BURST), Instant::now(), PeerId::random());
        assert_eq!((0..1000).filter(|_| limiter.allow(peer, now)).count(), BURST as usize);
        assert!(limiter.allow(PeerId::random(), now));
        let later = now + EVERY * 10;
        assert_eq!((0..1000).filter(|_| limiter.allow(peer, later)).count(), 10);
    }

    #[test]
    fn a_request_beyond_the_rate_limit_is_rejected_without_cost() {
        let (mut limiter, now, peer) = (RateLimiter::new(EVERY, BURST), Instant::now(), PeerId::random());
        assert!(!limiter.allow_many(peer, BURST + 1, now));
        assert!(limiter.allow_many(peer, BURST, now) && !limiter.allow(peer, now));
    }

    #[test]
    fn idle_peers_are_removed_from_the_rate_limiter() {
        let (mut limiter, now) = (RateLimiter::new(EVERY, BURST), Instant::now());
        (0..MAX_PEERS).for_each(|_| assert!(limiter.allow(PeerId::random(), now)));
        assert!(limiter.allow(PeerId::random(), now + EVERY * 2));
        assert_eq!(limiter.whole.len(), 1);
    }
}
