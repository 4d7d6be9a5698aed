//! The peers that announcements told of, and when each is dialled.

use std::{collections::HashMap, time::Duration};

use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

/// The most peers that are remembered, however many are announced.
const MAX_NEIGHBOURS: usize = 256;
/// Peers that are dialled in each turn.
const MAX_DIALS: usize = 16;
/// Of two peers that hear of each other one dials at once; the other one after this time, if that was of no use.
const COURTESY: Duration = Duration::from_millis(700);
/// A peer is not dialled again before this time.
const REDIAL_PAUSE: Duration = Duration::from_secs(10);

/// Peers to dial.
#[derive(Default)]
pub(super) struct Neighbours(HashMap<PeerId, Neighbour>);

struct Neighbour {
    addresses: Vec<Multiaddr>,
    /// When it is dialled; none if it was, until it is heard of again.
    due: Option<Instant>,
    dialled: Option<Instant>,
    heard: Instant,
}

impl Neighbours {
    /// Takes note of a peer that is not connected. `first` says whether this node is the one that dials at once.
    pub(super) fn heard(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, first: bool, now: Instant) {
        if !self.0.contains_key(&peer) && self.0.len() >= MAX_NEIGHBOURS {
            let oldest = self.0.iter().min_by_key(|(_, known)| known.heard).map(|(peer, _)| *peer);
            if let Some(peer) = oldest {
                self.0.remove(&peer);
            }
        }
        let new = || Neighbour { addresses: Vec::new(), due: None, dialled: None, heard: now };
        let known = self.0.entry(peer).or_insert_with(new);
        known.heard = now;
        // At new addresses it is another matter than before.
        let rests = known.dialled.is_some_and(|at| now.duration_since(at) < REDIAL_PAUSE)
            && known.addresses == addresses;
        known.addresses = addresses;
        if !rests && known.due.is_none() {
            known.due = Some(if first { now } else { now + COURTESY });
        }
    }

    /// When the next peer is dialled.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.values().filter_map(|known| known.due).min()
    }

    /// Returns the peers to dial now.
    pub(super) fn next(&mut self, now: Instant) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let due = self.0.iter_mut().filter(|(_, known)| known.due.is_some_and(|at| at <= now));
        let dial = |(peer, known): (&PeerId, &mut Neighbour)| {
            (known.due, known.dialled) = (None, Some(now));
            (*peer, known.addresses.clone())
        };
        due.take(MAX_DIALS).map(dial).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Vec<Multiaddr> {
        vec![format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap()]
    }

    #[tokio::test(start_paused = true)]
    async fn a_neighbour_is_dialled_once_and_again_after_a_pause() {
        let (mut all, peer, start) = (Neighbours::default(), PeerId::random(), Instant::now());
        all.heard(peer, address(1), true, start);
        assert_eq!(all.next(start), [(peer, address(1))]);
        all.heard(peer, address(1), true, start);
        assert_eq!((all.next(start), all.due()), (Vec::new(), None));
        all.heard(peer, address(2), true, start);
        assert_eq!(all.next(start), [(peer, address(2))], "it has another address");
        all.heard(peer, address(2), true, start + REDIAL_PAUSE);
        assert_eq!(all.next(start + REDIAL_PAUSE), [(peer, address(2))]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_two_neighbours_waits_for_the_dial_of_the_other() {
        let (mut all, peer, start) = (Neighbours::default(), PeerId::random(), Instant::now());
        all.heard(peer, address(1), false, start);
        assert_eq!((all.next(start), all.due()), (Vec::new(), Some(start + COURTESY)));
        assert_eq!(all.next(start + COURTESY).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_announcements_is_bounded() {
        let (mut all, start) = (Neighbours::default(), Instant::now());
        for n in 0..2 * MAX_NEIGHBOURS as u64 {
            all.heard(PeerId::random(), address(1), true, start + Duration::from_millis(n));
        }
        assert_eq!(all.0.len(), MAX_NEIGHBOURS);
        assert_eq!(all.next(start + REDIAL_PAUSE).len(), MAX_DIALS);
    }
}
