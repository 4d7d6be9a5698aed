//! How many peers a relay serves.

use std::{collections::HashMap, net::IpAddr, time::Instant};

use libp2p::PeerId;

const MAX_RESERVATIONS: usize = 128;
/// Reservations of strangers from one address.
const MAX_RESERVATIONS_PER_ADDRESS: usize = 8;
const MAX_CIRCUITS: usize = 64;
const MAX_CIRCUITS_PER_SOURCE: usize = 8;
/// Circuits without limits hold two buffers of 64 KiB each: 8 MiB at most.
const MAX_UNLIMITED_CIRCUITS: usize = 64;

struct Reservation {
    address: Option<IpAddr>,
    unlimited: bool,
    expires: Instant,
}

/// The reservations and open circuits of a relay.
#[derive(Default)]
pub struct Places {
    reservations: HashMap<PeerId, Reservation>,
    /// Open circuits of strangers by their source.
    circuits: HashMap<PeerId, usize>,
    unlimited_circuits: usize,
}

impl Places {
    /// Makes or renews a reservation. Returns false if there is no place.
    pub fn reserve(
        &mut self,
        peer: PeerId,
        address: Option<IpAddr>,
        unlimited: bool,
        expires: Instant,
    ) -> bool {
        let now = Instant::now();
        self.reservations.retain(|_, reservation| reservation.expires > now);
        let strangers =
            || self.reservations.iter().filter(|(other, held)| **other != peer && !held.unlimited);
        let is_full = strangers().count() >= MAX_RESERVATIONS
            || strangers().filter(|(_, held)| held.address == address).count()
                >= MAX_RESERVATIONS_PER_ADDRESS;
        if !unlimited && is_full {
            return false;
        }
        self.reservations.insert(peer, Reservation { address, unlimited, expires });
        true
    }

    pub fn is_reserved(&self, peer: &PeerId, now: Instant) -> bool {
        self.reservations.get(peer).is_some_and(|reservation| reservation.expires > now)
    }

    /// Counts a new circuit. Returns false if there are too many.
    pub fn open(&mut self, source: PeerId, unlimited: bool) -> bool {
        if unlimited {
            let is_free = self.unlimited_circuits < MAX_UNLIMITED_CIRCUITS;
            self.unlimited_circuits += usize::from(is_free);
            return is_free;
        }
        let all: usize = self.circuits.values().sum();
        let own = self.circuits.get(&source).copied().unwrap_or_default();
        let is_free = all < MAX_CIRCUITS && own < MAX_CIRCUITS_PER_SOURCE;
        if is_free {
            self.circuits.insert(source, own + 1);
        }
        is_free
    }

    /// Counts the end of a circuit.
    pub fn close(&mut self, source: &PeerId, unlimited: bool) {
        if unlimited {
            self.unlimited_circuits = self.unlimited_circuits.saturating_sub(1);
            return;
        }
        if let Some(open) = self.circuits.get_mut(source) {
            *open -= 1;
            if *open == 0 {
                self.circuits.remove(source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn strangers_from_one_address_get_few_reservations_and_named_peers_always_get_one() {
        let (mut places, later) = (Places::default(), Instant::now() + Duration::from_secs(60));
        let address = Some("203.0.113.1".parse().unwrap());
        let peers: Vec<_> = (0..MAX_RESERVATIONS_PER_ADDRESS).map(|_| PeerId::random()).collect();
        for peer in &peers {
            assert!(places.reserve(*peer, address, false, later));
        }
        assert!(!places.reserve(PeerId::random(), address, false, later));
        assert!(places.reserve(peers[0], address, false, later), "a renewal");
        assert!(places.reserve(PeerId::random(), address, true, later));
        assert!(places.is_reserved(&peers[0], Instant::now()) && !places.is_reserved(&peers[0], later));
        for n in 0..MAX_RESERVATIONS - MAX_RESERVATIONS_PER_ADDRESS {
            let other = Some(IpAddr::from([198, 51, 100, n as u8]));
            assert!(places.reserve(PeerId::random(), other, false, later));
        }
        assert!(!places.reserve(PeerId::random(), Some(IpAddr::from([192, 0, 2, 1])), false, later));
    }

    #[test]
    fn the_circuits_of_one_source_are_bounded_and_counted_down() {
        let (mut places, source) = (Places::default(), PeerId::random());
        for _ in 0..MAX_CIRCUITS_PER_SOURCE {
            assert!(places.open(source, false));
        }
        assert!(!places.open(source, false));
        assert!(places.open(PeerId::random(), false) && places.open(source, true));
        places.close(&source, false);
        assert!(places.open(source, false));
    }
}
