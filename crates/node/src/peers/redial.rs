//! When a peer that should be connected is dialled again.

use std::{ops::RangeInclusive, time::Duration};

const MIN_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// The maximum pause for a peer that closes connections at once because it is full, while this node has few others.
const MAX_PAUSE_ALONE: Duration = Duration::from_secs(8);
/// The pauses before a full peer is dialled again.
const FULL_PEER_PAUSES: RangeInclusive<Duration> = Duration::from_secs(30)..=Duration::from_secs(10 * 60);
/// A connection that was closed sooner had a temporary slot of a full peer, or that peer is in trouble.
const MIN_CONNECTED: Duration = Duration::from_secs(60);
/// With this many other peers the node can wait for a full one; a gossipsub mesh has as many.
const ENOUGH_PEERS: usize = 6;

/// The pause before a peer is dialled again.
pub struct RedialPause(Duration);

impl Default for RedialPause {
    fn default() -> Self {
        Self(MIN_PAUSE)
    }
}

/// The outcome of the last dial of a peer.
#[derive(Clone, Copy)]
pub enum DialOutcome {
    Unreachable,
    /// It is full, and this node has few other peers.
    FullAlone,
    /// It is full and closed the temporary connection; this node has other peers.
    Full,
    Connected,
}

impl DialOutcome {
    /// Classifies a dial: whether the peer was `reached`, how long the connection `lived`, and how many `others` are
    /// connected.
    pub fn new(reached: bool, was_identified: bool, lived: Duration, others: usize) -> Self {
        match was_identified {
            true if lived < MIN_CONNECTED && others >= ENOUGH_PEERS => Self::Full,
            true => Self::Connected,
            false if reached && others < ENOUGH_PEERS => Self::FullAlone,
            false => Self::Unreachable,
        }
    }
}

impl RedialPause {
    /// Returns the next pause. It doubles, also if the peer accepts connections only to close them.
    pub fn next(&mut self, end: DialOutcome) -> Duration {
        let (shortest, longest) = match end {
            DialOutcome::Unreachable => (MIN_PAUSE, MAX_PAUSE),
            DialOutcome::FullAlone => (MIN_PAUSE, MAX_PAUSE_ALONE),
            DialOutcome::Full => FULL_PEER_PAUSES.into_inner(),
            DialOutcome::Connected => (MIN_PAUSE, MIN_PAUSE),
        };
        let pause = self.0.clamp(shortest, longest);
        self.0 = pause * 2;
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the pauses in milliseconds of `count` dials with the same outcome.
    fn pauses(pause: &mut RedialPause, count: usize, end: DialOutcome) -> Vec<u128> {
        (0..count).map(|_| pause.next(end).as_millis()).collect()
    }

    #[test]
    fn the_redial_back_off_grows_until_the_peer_has_identified_itself() {
        let mut pause = RedialPause::default();
        let unreachable = DialOutcome::new(false, false, Duration::ZERO, 0);
        let growing = [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000];
        assert_eq!(pauses(&mut pause, 9, unreachable), growing);
        for connected in [
            DialOutcome::new(true, true, MIN_CONNECTED, ENOUGH_PEERS),
            DialOutcome::new(true, true, Duration::ZERO, 1),
        ] {
            assert_eq!(pauses(&mut pause, 1, connected), [500]);
            assert_eq!(pauses(&mut pause, 2, unreachable), [1000, 2000]);
        }
    }

    #[test]
    fn a_full_peer_is_redialled_less_often_by_a_node_with_other_peers() {
        let full = DialOutcome::new(true, true, Duration::from_secs(3), ENOUGH_PEERS);
        let growing = [30_000, 60_000, 120_000, 240_000, 480_000, 600_000, 600_000];
        assert_eq!(pauses(&mut RedialPause::default(), 7, full), growing);
        let alone = DialOutcome::new(true, false, Duration::ZERO, 0);
        assert_eq!(pauses(&mut RedialPause::default(), 6, alone), [500, 1000, 2000, 4000, 8000, 8000]);
    }
}
