use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

/// One verification takes a tenth of a millisecond, so a peer costs less than a hundredth of a core.
const EVERY: Duration = Duration::from_millis(40);
/// What a peer may send at once: another node's hourly replication is one burst.
const BURST: u32 = 256;
/// Peers remembered before those that are idle are forgotten.
const PEERS: usize = 1024;

/// How often each peer may have something verified.
#[derive(Default)]
pub struct Rates {
    /// When a peer's allowance will be whole again.
    whole: HashMap<PeerId, Instant>,
}

impl Rates {
    /// Takes one from the allowance of `peer`; false where it is used up.
    pub fn allow(&mut self, peer: PeerId, now: Instant) -> bool {
        if self.whole.len() >= PEERS {
            self.whole.retain(|_, whole| *whole > now);
        }
        let whole = self.whole.entry(peer).or_insert(now);
        let next = (*whole).max(now) + EVERY;
        let allowed = next <= now + EVERY * BURST;
        if allowed {
            *whole = next;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_the_rate_and_others_do_not_feel_it() {
        let (mut rates, now, peer) = (Rates::default(), Instant::now(), PeerId::random());
        assert_eq!((0..1000).filter(|_| rates.allow(peer, now)).count(), BURST as usize);
        assert!(rates.allow(PeerId::random(), now));
        let later = now + EVERY * 10;
        assert_eq!((0..1000).filter(|_| rates.allow(peer, later)).count(), 10);
    }

    #[test]
    fn peers_that_are_idle_are_forgotten() {
        let (mut rates, now) = (Rates::default(), Instant::now());
        (0..PEERS).for_each(|_| assert!(rates.allow(PeerId::random(), now)));
        assert!(rates.allow(PeerId::random(), now + EVERY * 2));
        assert_eq!(rates.whole.len(), 1);
    }
}
