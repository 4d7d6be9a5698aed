//! Reservations on relays, for a node that cannot be dialled: chosen among the connected peers that offer to relay, renewed
//! by libp2p, and replaced when one is lost.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, core::transport::ListenerId, multiaddr::Protocol, swarm::ListenOpts};

/// Reservations at a time: with one alone, a relay that stops would make the node unreachable.
const RESERVATIONS: usize = 2;
/// Relays that are remembered as candidates.
const MAX_CANDIDATES: usize = 64;
/// The pauses before a relay that refused or lost a reservation is asked again.
const MIN_PAUSE: Duration = Duration::from_secs(2);
const MAX_PAUSE: Duration = Duration::from_secs(10 * 60);
/// A reservation that lived so long was not refused.
const ACCEPTED: Duration = Duration::from_secs(60);

/// A connected peer that offers to relay.
struct Candidate {
    address: Multiaddr,
    pause: Duration,
    /// When it may be asked.
    after: Instant,
}

struct RelayReservation {
    relay: PeerId,
    since: Instant,
}

/// The relays of this node.
#[derive(Default)]
pub(super) struct Relays {
    candidates: HashMap<PeerId, Candidate>,
    reservations: HashMap<ListenerId, RelayReservation>,
}

impl Relays {
    /// Records a directly connected peer that offers to relay, and the address at which others reach it.
    pub fn offered(&mut self, relay: PeerId, address: Multiaddr, now: Instant) {
        if self.candidates.len() < MAX_CANDIDATES || self.candidates.contains_key(&relay) {
            let candidate = Candidate { address, pause: MIN_PAUSE, after: now };
            self.candidates.entry(relay).or_insert(candidate);
        }
    }

    /// Forgets a peer that disconnected or offers it no longer.
    pub fn withdrawn(&mut self, relay: &PeerId) {
        self.candidates.remove(relay);
    }

    /// Returns whether a further reservation is wanted and some peer could give it, now or later.
    pub fn is_waiting(&self) -> bool {
        self.reservations.len() < RESERVATIONS && self.free().next().is_some()
    }

    fn free(&self) -> impl Iterator<Item = (&PeerId, &Candidate)> {
        let is_used =
            |relay: &PeerId| self.reservations.values().any(|reservation| reservation.relay == *relay);
        self.candidates.iter().filter(move |(relay, _)| !is_used(relay))
    }

    /// Returns the next reservation to make, if one is wanted.
    pub fn next(&mut self, now: Instant) -> Option<ListenOpts> {
        if self.reservations.len() >= RESERVATIONS {
            return None;
        }
        let due = self.free().filter(|(_, candidate)| candidate.after <= now);
        let (relay, candidate) = due.min_by_key(|(_, candidate)| candidate.pause)?;
        let (relay, address) = (*relay, candidate.address.clone());
        let listen = ListenOpts::new(address.with(Protocol::P2p(relay)).with(Protocol::P2pCircuit));
        self.reservations.insert(listen.listener_id(), RelayReservation { relay, since: now });
        Some(listen)
    }

    /// Records that a reservation was refused or has ended. Returns its relay.
    pub fn closed(&mut self, listener: &ListenerId, now: Instant) -> Option<PeerId> {
        let RelayReservation { relay, since } = self.reservations.remove(listener)?;
        if let Some(candidate) = self.candidates.get_mut(&relay) {
            if now.saturating_duration_since(since) >= ACCEPTED {
                candidate.pause = MIN_PAUSE;
            }
            candidate.after = now + candidate.pause;
            candidate.pause = MAX_PAUSE.min(candidate.pause * 2);
        }
        Some(relay)
    }

    /// Returns all reservations, of a node that needs them no longer.
    pub fn release(&mut self) -> Vec<ListenerId> {
        self.reservations.drain().map(|(listener, _)| listener).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Multiaddr {
        "/ip4/203.0.113.1/tcp/4001".parse().unwrap()
    }

    #[test]
    fn two_relays_are_used_and_a_lost_one_is_replaced() {
        let (mut relays, now) = (Relays::default(), Instant::now());
        assert!(!relays.is_waiting(), "no peer offers it");
        let peers = [PeerId::random(), PeerId::random(), PeerId::random()];
        peers.iter().for_each(|peer| relays.offered(*peer, address(), now));
        let first = relays.next(now).unwrap();
        let second = relays.next(now).unwrap();
        assert_ne!(first.address(), second.address());
        assert!(first.address().to_string().ends_with("/p2p-circuit"));
        assert!(relays.next(now).is_none() && !relays.is_waiting());
        relays.closed(&first.listener_id(), now);
        let third = relays.next(now).unwrap();
        assert!(third.address() != first.address() && third.address() != second.address());
        assert_eq!(relays.release().len(), 2);
    }

    #[test]
    fn a_relay_that_refuses_is_asked_again_ever_later() {
        let (mut relays, mut now) = (Relays::default(), Instant::now());
        relays.offered(PeerId::random(), address(), now);
        for pause in [2, 4, 8, 16] {
            let listen = relays.next(now).unwrap();
            relays.closed(&listen.listener_id(), now);
            assert!(relays.is_waiting() && relays.next(now).is_none());
            now += Duration::from_secs(pause - 1);
            assert!(relays.next(now).is_none(), "before {pause} s");
            now += Duration::from_secs(1);
        }
        let peer = *relays.candidates.keys().next().unwrap();
        relays.withdrawn(&peer);
        assert!(!relays.is_waiting());
    }
}
