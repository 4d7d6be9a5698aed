use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

/// Peers remembered before those that are idle are forgotten.
const PEERS: usize = 1024;

/// How much each peer may cost this node.
pub struct Rates {
    /// In what time one unit of an allowance comes back.
    every: Duration,
    /// The units of a whole allowance.
    burst: u32,
    /// When a peer's allowance will be whole again.
    whole: HashMap<PeerId, Instant>,
}

impl Rates {
    pub fn new(every: Duration, burst: u32) -> Self {
        Self { every, burst, whole: HashMap::new() }
    }

    /// Takes one from the allowance of `peer`; false where it is used up.
    pub fn allow(&mut self, peer: PeerId, now: Instant) -> bool {
        self.allow_many(peer, 1, now)
    }

    /// Takes `units` from the allowance of `peer`; false where fewer are left.
    pub fn allow_many(&mut self, peer: PeerId, units: u32, now: Instant) -> bool {
        if self.whole.len() >= PEERS {
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
    fn a_burst_is_allowed_and_then_the_rate_and_others_do_not_feel_it() {
        let (mut rates, now, peer) = (Rates::new(EVERY, BURST), Instant::now(), PeerId::random());
        assert_eq!((0..1000).filter(|_| rates.allow(peer, now)).count(), BURST as usize);
        assert!(rates.allow(PeerId::random(), now));
        let later = now + EVERY * 10;
        assert_eq!((0..1000).filter(|_| rates.allow(peer, later)).count(), 10);
    }

    #[test]
    fn what_costs_more_than_is_left_is_refused_and_takes_nothing() {
        let (mut rates, now, peer) = (Rates::new(EVERY, BURST), Instant::now(), PeerId::random());
        assert!(!rates.allow_many(peer, BURST + 1, now));
        assert!(rates.allow_many(peer, BURST, now) && !rates.allow(peer, now));
    }

    #[test]
    fn peers_that_are_idle_are_forgotten() {
        let (mut rates, now) = (Rates::new(EVERY, BURST), Instant::now());
        (0..PEERS).for_each(|_| assert!(rates.allow(PeerId::random(), now)));
        assert!(rates.allow(PeerId::random(), now + EVERY * 2));
        assert_eq!(rates.whole.len(), 1);
    }
}
