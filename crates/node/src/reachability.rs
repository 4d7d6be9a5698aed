//! Whether and how other peers can dial this node.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use serde::{Deserialize, Serialize};

use crate::address::{self, is_circuit, is_local};

/// Peers whose observation of this node's address is kept.
const MAX_OBSERVERS: usize = 64;
/// Hole punching attempts whose outcome is kept.
const MAX_PUNCHES: usize = 8;

/// How other peers can dial this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reachability {
    /// Not known yet: no peer has said at which address it sees this node.
    #[default]
    Unknown,
    /// At an address of its own.
    Direct,
    /// Through a relay, which then gives way to a direct connection by hole punching.
    HolePunching,
    /// Through a relay only: the NAT gives each connection another port, or attempts to punch a hole failed.
    Relay,
    /// Not at all: it is behind NAT, and has no relay.
    None,
}

/// What is known of this node's addresses.
pub(crate) struct Whereabouts {
    /// Whether this is the public network, where private addresses lead nowhere.
    public: bool,
    /// Whether the user configured the addresses to announce.
    announced: bool,
    /// The addresses that it listens on.
    listening: HashSet<IpAddr>,
    /// Where peers see this node.
    observed: HashMap<PeerId, Multiaddr>,
    /// Addresses at which a peer has dialled this node to test them, or that the router maps to it.
    confirmed: HashSet<Multiaddr>,
    circuits: HashSet<Multiaddr>,
    /// Whether a peer could not dial a tested address.
    failed_test: bool,
    /// The outcomes of hole punching, the oldest first.
    punches: VecDeque<bool>,
}

impl Whereabouts {
    pub fn new(public: bool, announced: bool) -> Self {
        Self {
            public,
            announced,
            listening: HashSet::new(),
            observed: HashMap::new(),
            confirmed: HashSet::new(),
            circuits: HashSet::new(),
            failed_test: false,
            punches: VecDeque::new(),
        }
    }

    /// Records an address that this node listens on.
    pub fn listens(&mut self, address: &Multiaddr) {
        if let Some(ip) = address::ip(address).filter(|_| !is_circuit(address)) {
            self.listening.insert(ip);
        }
    }

    /// Records the address at which a peer sees this node over a direct connection.
    pub fn observed(&mut self, by: PeerId, address: Multiaddr) {
        let is_new = !self.observed.contains_key(&by);
        if is_circuit(&address) || (is_new && self.observed.len() >= MAX_OBSERVERS) {
            return;
        }
        self.observed.insert(by, address);
    }

    /// Forgets what a peer said.
    pub fn disconnected(&mut self, peer: &PeerId) {
        self.observed.remove(peer);
    }

    /// Records an address that leads to this node: through a relay, or directly as a peer or the router found out.
    pub fn confirmed(&mut self, address: &Multiaddr) {
        match is_circuit(address) {
            true => self.circuits.insert(address.clone()),
            false => self.confirmed.insert(address.clone()),
        };
    }

    /// Records that an address leads nowhere any more.
    pub fn expired(&mut self, address: &Multiaddr) {
        self.circuits.remove(address);
        self.confirmed.remove(address);
    }

    /// Records that a peer could not dial an address.
    pub fn failed_test(&mut self) {
        self.failed_test = true;
    }

    /// Records the outcome of an attempt to punch a hole.
    pub fn punched(&mut self, success: bool) {
        if self.punches.len() >= MAX_PUNCHES {
            self.punches.pop_front();
        }
        self.punches.push_back(success);
    }

    /// Returns the addresses through relays.
    pub fn circuits(&self) -> impl Iterator<Item = &Multiaddr> {
        self.circuits.iter()
    }

    /// Returns the addresses that lead to this node from elsewhere.
    pub fn elsewhere(&self) -> HashSet<Multiaddr> {
        self.circuits.union(&self.confirmed).cloned().collect()
    }

    /// Returns whether most peers see this node at an address that is not its own.
    fn is_behind_nat(&self) -> bool {
        let seen = self.observed.values().filter(|address| !(self.public && is_local(address)));
        let (own, foreign): (Vec<_>, Vec<_>) =
            seen.filter_map(address::ip).partition(|ip| self.listening.contains(ip));
        foreign.len() > own.len()
    }

    /// Returns whether peers can dial this node without a relay. In a network whose nodes trust their listen addresses, they
    /// can unless they see it somewhere else.
    pub fn is_direct(&self) -> bool {
        let trusted = !self.public && !self.is_behind_nat();
        self.announced || trusted || !self.confirmed.is_empty()
    }

    /// Returns whether this node should have reservations on relays.
    pub fn needs_relays(&self) -> bool {
        !self.is_direct() && (self.is_behind_nat() || self.failed_test)
    }

    /// Returns whether a NAT gives connections to different peers different ports, which no hole can be punched through.
    fn is_mapping_unstable(&self) -> bool {
        let mut mappings = HashMap::<bool, HashSet<&Multiaddr>>::new();
        for address in self.observed.values().filter(|address| !(self.public && is_local(address))) {
            let is_udp = address.iter().any(|part| matches!(part, Protocol::Udp(_)));
            mappings.entry(is_udp).or_default().insert(address);
        }
        !mappings.is_empty() && mappings.values().all(|addresses| addresses.len() > 1)
    }

    pub fn reachability(&self) -> Reachability {
        if self.is_direct() {
            return match self.announced || self.public || !self.observed.is_empty() {
                true => Reachability::Direct,
                false => Reachability::Unknown,
            };
        }
        let punched = self.punches.iter().filter(|success| **success).count();
        let fails = !self.punches.is_empty() && punched * 2 < self.punches.len();
        match (self.circuits.is_empty(), self.needs_relays()) {
            (true, true) => Reachability::None,
            (true, false) => Reachability::Unknown,
            (false, _) if fails || (punched == 0 && self.is_mapping_unstable()) => Reachability::Relay,
            (false, _) => Reachability::HolePunching,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn behind_nat(public: bool) -> Whereabouts {
        let mut node = Whereabouts::new(public, false);
        node.listens(&parse("/ip4/192.168.1.2/tcp/4001"));
        node.observed(PeerId::random(), parse("/ip4/203.0.113.1/tcp/4001"));
        node
    }

    fn circuit() -> Multiaddr {
        parse("/ip4/203.0.113.9/tcp/1").with(Protocol::P2p(PeerId::random())).with(Protocol::P2pCircuit)
    }

    #[test]
    fn a_node_on_a_network_without_nat_is_reachable_directly() {
        let mut node = Whereabouts::new(false, false);
        node.listens(&parse("/ip4/10.0.0.2/tcp/4001"));
        assert_eq!(node.reachability(), Reachability::Unknown, "no peer yet");
        node.observed(PeerId::random(), parse("/ip4/10.0.0.2/tcp/4001"));
        assert_eq!((node.reachability(), node.needs_relays()), (Reachability::Direct, false));
        // One peer alone cannot send it to relays.
        node.observed(PeerId::random(), parse("/ip4/203.0.113.66/tcp/1"));
        assert!(node.is_direct());
    }

    #[test]
    fn a_node_behind_nat_needs_relays_until_an_address_is_confirmed() {
        for public in [false, true] {
            let mut node = behind_nat(public);
            assert_eq!((node.reachability(), node.needs_relays()), (Reachability::None, true));
            node.confirmed(&circuit());
            assert_eq!(node.reachability(), Reachability::HolePunching);
            assert!(node.needs_relays(), "it keeps them");
            let direct = parse("/ip4/203.0.113.1/tcp/4001");
            node.confirmed(&direct);
            assert_eq!((node.reachability(), node.needs_relays()), (Reachability::Direct, false));
            node.expired(&direct);
            assert!(node.needs_relays());
        }
        assert!(Whereabouts { announced: true, ..behind_nat(true) }.is_direct());
    }

    #[test]
    fn private_observations_say_nothing_on_the_public_network() {
        let mut node = Whereabouts::new(true, false);
        node.listens(&parse("/ip4/192.168.1.2/tcp/4001"));
        node.observed(PeerId::random(), parse("/ip4/172.16.0.1/tcp/4001"));
        assert_eq!((node.reachability(), node.needs_relays()), (Reachability::Unknown, false));
        node.failed_test();
        assert_eq!((node.reachability(), node.needs_relays()), (Reachability::None, true));
    }

    #[test]
    fn a_nat_that_changes_ports_leaves_only_the_relay() {
        let mut node = behind_nat(true);
        node.confirmed(&circuit());
        let other = PeerId::random();
        node.observed(other, parse("/ip4/203.0.113.1/tcp/61234"));
        assert_eq!(node.reachability(), Reachability::Relay, "each peer sees another port");
        node.punched(true);
        assert_eq!(node.reachability(), Reachability::HolePunching, "it worked");
        node.disconnected(&other);
        for _ in 0..2 {
            node.punched(false);
        }
        assert_eq!(node.reachability(), Reachability::Relay, "most attempts fail");
    }
}
