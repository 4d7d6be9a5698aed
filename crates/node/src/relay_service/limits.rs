//! How many peers a relay serves.

use std::{collections::HashMap, net::IpAddr, time::Instant};

use libp2p::PeerId;

const MAX_RESERVATIONS: usize = 128;
/// Reservations of strangers from one address.
const MAX_RESERVATIONS_PER_ADDRESS: usize = 8;
/// Circuits with limits.
const MAX_LIMITED_CIRCUITS: usize = 64;
/// Circuits without limits hold two buffers of 64 KiB each: 8 MiB at most.
const MAX_UNLIMITED_CIRCUITS: usize = 64;
/// Circuits without limits that strangers may open to named peers; the others are left for named peers.
const MAX_UNLIMITED_CIRCUITS_OF_STRANGERS: usize = 48;
/// Circuits of one kind that a stranger may have open.
const MAX_CIRCUITS_PER_STRANGER: usize = 8;
/// Circuits of one kind that strangers from one address may have open: an id costs nothing.
const MAX_CIRCUITS_PER_ADDRESS: usize = 16;
/// Circuits of one kind that a named peer may have open.
const MAX_CIRCUITS_PER_NAMED_PEER: usize = 32;

struct HeldPlace {
    address: Option<IpAddr>,
    unlimited: bool,
    expires: Instant,
}

/// The source of a circuit, and the circuit's kind.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    pub source: PeerId,
    /// Where the source is connected from.
    pub address: Option<IpAddr>,
    /// Whether the source itself is served without limits.
    pub is_named: bool,
    /// Whether the circuit has no limits, because one of its ends is named.
    pub unlimited: bool,
}

/// The reservations and open circuits of a relay.
#[derive(Default)]
pub struct Places {
    reservations: HashMap<PeerId, HeldPlace>,
    circuits: HashMap<u64, Opened>,
    next: u64,
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
        let strangers =
            || self.reservations.iter().filter(|(other, held)| **other != peer && !held.unlimited);
        let is_full = strangers().count() >= MAX_RESERVATIONS
            || strangers().filter(|(_, held)| held.address == address).count()
                >= MAX_RESERVATIONS_PER_ADDRESS;
        if !unlimited && is_full {
            return false;
        }
        self.reservations.insert(peer, HeldPlace { address, unlimited, expires });
        true
    }

    /// Forgets the reservations that have expired, and those of peers that are not connected: a peer that comes back makes
    /// another one.
    pub fn forget_gone(&mut self, now: Instant, is_connected: impl Fn(&PeerId) -> bool) {
        self.reservations.retain(|peer, reservation| reservation.expires > now && is_connected(peer));
    }

    pub fn is_reserved(&self, peer: &PeerId, now: Instant) -> bool {
        self.reservations.get(peer).is_some_and(|reservation| reservation.expires > now)
    }

    /// Counts a new circuit, until it is closed by the returned number. Returns none if there are too many.
    pub fn open(&mut self, opened: Opened) -> Option<u64> {
        if !self.has_room(&opened) {
            return None;
        }
        self.next += 1;
        self.circuits.insert(self.next, opened);
        Some(self.next)
    }

    fn has_room(&self, new: &Opened) -> bool {
        let count = |is_such: &dyn Fn(&Opened) -> bool| {
            self.circuits.values().filter(|open| open.unlimited == new.unlimited && is_such(open)).count()
        };
        let (all, own) = (count(&|_| true), count(&|open| open.source == new.source));
        let max = if new.unlimited { MAX_UNLIMITED_CIRCUITS } else { MAX_LIMITED_CIRCUITS };
        if new.is_named {
            return all < max && own < MAX_CIRCUITS_PER_NAMED_PEER;
        }
        let nearby = count(&|open| !open.is_named && open.address == new.address);
        let of_strangers = count(&|open| !open.is_named);
        all < max
            && own < MAX_CIRCUITS_PER_STRANGER
            && nearby < MAX_CIRCUITS_PER_ADDRESS
            && (!new.unlimited || of_strangers < MAX_UNLIMITED_CIRCUITS_OF_STRANGERS)
    }

    /// Counts the end of a circuit.
    pub fn close(&mut self, number: u64) {
        self.circuits.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(n: u8) -> Option<IpAddr> {
        Some(IpAddr::from([198, 51, 100, n]))
    }

    fn stranger(n: u8, unlimited: bool) -> Opened {
        Opened { source: PeerId::random(), address: address(n), is_named: false, unlimited }
    }

    fn named() -> Opened {
        Opened { is_named: true, ..stranger(0, true) }
    }

    /// Opens circuits until one is refused, and returns how many were opened.
    fn fill(places: &mut Places, next: impl Fn(u8) -> Opened) -> usize {
        (0..=u8::MAX).take_while(|n| places.open(next(*n)).is_some()).count()
    }

    #[test]
    fn strangers_from_one_address_get_few_reservations_and_named_peers_always_get_one() {
        let (mut places, later) = (Places::default(), Instant::now() + Duration::from_secs(60));
        let one = Some("203.0.113.1".parse().unwrap());
        let peers: Vec<_> = (0..MAX_RESERVATIONS_PER_ADDRESS).map(|_| PeerId::random()).collect();
        for peer in &peers {
            assert!(places.reserve(*peer, one, false, later));
        }
        assert!(!places.reserve(PeerId::random(), one, false, later));
        assert!(places.reserve(peers[0], one, false, later), "a renewal");
        assert!(places.reserve(PeerId::random(), one, true, later));
        assert!(places.is_reserved(&peers[0], Instant::now()) && !places.is_reserved(&peers[0], later));
        for n in 0..MAX_RESERVATIONS - MAX_RESERVATIONS_PER_ADDRESS {
            assert!(places.reserve(PeerId::random(), address(n as u8), false, later));
        }
        assert!(!places.reserve(PeerId::random(), Some(IpAddr::from([192, 0, 2, 1])), false, later));
    }

    #[test]
    fn a_reservation_ends_with_the_connection_and_leaves_its_place_to_others() {
        let (mut places, now) = (Places::default(), Instant::now());
        let later = now + Duration::from_secs(60);
        let peers: Vec<_> = (0..MAX_RESERVATIONS_PER_ADDRESS).map(|_| PeerId::random()).collect();
        assert!(peers.iter().all(|peer| places.reserve(*peer, address(1), false, later)));
        assert!(!places.reserve(PeerId::random(), address(1), false, later));
        places.forget_gone(now, |peer| *peer == peers[0]);
        assert!(places.is_reserved(&peers[0], now) && !places.is_reserved(&peers[1], now));
        assert!(places.reserve(PeerId::random(), address(1), false, later));
        places.forget_gone(later, |_| true);
        assert!(places.reservations.is_empty(), "expired");
    }

    #[test]
    fn the_circuits_of_one_source_are_bounded_and_counted_down() {
        for unlimited in [false, true] {
            let (mut places, one) = (Places::default(), stranger(1, unlimited));
            let first = places.open(one).unwrap();
            assert_eq!(fill(&mut places, |_| one), MAX_CIRCUITS_PER_STRANGER - 1);
            assert!(places.open(Opened { unlimited: !unlimited, ..one }).is_some(), "of the other kind");
            assert!(places.open(stranger(2, unlimited)).is_some());
            places.close(first);
            assert!(places.open(one).is_some());
        }
    }

    #[test]
    fn strangers_cannot_take_all_unlimited_circuits() {
        let mut places = Places::default();
        assert_eq!(
            fill(&mut places, |_| stranger(1, true)),
            MAX_CIRCUITS_PER_ADDRESS,
            "many ids, one address"
        );
        let more = fill(&mut places, |n| stranger(n.saturating_add(2), true));
        assert_eq!(more, MAX_UNLIMITED_CIRCUITS_OF_STRANGERS - MAX_CIRCUITS_PER_ADDRESS);
        let left = MAX_UNLIMITED_CIRCUITS - MAX_UNLIMITED_CIRCUITS_OF_STRANGERS;
        assert_eq!(fill(&mut places, |_| named()), left, "left for named peers");
    }

    #[test]
    fn a_named_peer_cannot_take_all_unlimited_circuits() {
        let (mut places, one) = (Places::default(), named());
        assert_eq!(fill(&mut places, |_| one), MAX_CIRCUITS_PER_NAMED_PEER);
        assert!(places.open(named()).is_some() && places.open(stranger(1, true)).is_some());
    }
}
