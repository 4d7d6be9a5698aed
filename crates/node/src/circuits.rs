//! Circuits through relays, and which of them are limited.
//!
//! A limited circuit carries some 100 KiB for two minutes. It is for agreeing on a direct connection, so neither Bitswap nor
//! the routing system use it; boxo does the same.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use libp2p::{Multiaddr, PeerId, core::ConnectedPoint, relay::client};

use crate::{address, locked};

/// Relays and peers whose last circuit is remembered.
const MAX_REMEMBERED: usize = 1024;

/// The way that a connection takes, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// Without a relay.
    Direct,
    /// Through a relay that limits nothing.
    Relay,
    /// Through a relay that limits bytes and time.
    LimitedRelay,
}

/// What relays said of their circuits. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Circuits(Arc<Mutex<CircuitLimits>>);

#[derive(Default)]
struct CircuitLimits {
    /// Relays, by whether the last circuit that this node opened through them is limited.
    through: HashMap<PeerId, bool>,
    /// Peers, by whether the last circuit that they opened to this node is limited.
    from: HashMap<PeerId, bool>,
}

impl Circuits {
    /// Records what a relay said of a new circuit, before the connection over it is established.
    pub fn on_event(&self, event: &client::Event) {
        let mut limits = locked(&self.0);
        match event {
            client::Event::ReservationReqAccepted { .. } => {}
            client::Event::OutboundCircuitEstablished { relay_peer_id, limit } => {
                remember(&mut limits.through, *relay_peer_id, limit.is_some());
            }
            client::Event::InboundCircuitEstablished { src_peer_id, limit } => {
                remember(&mut limits.from, *src_peer_id, limit.is_some());
            }
        }
    }

    /// Returns the route of an open connection.
    pub fn route(&self, peer: &PeerId, endpoint: &ConnectedPoint) -> Route {
        match endpoint {
            ConnectedPoint::Dialer { address, .. } => self.outbound(address),
            ConnectedPoint::Listener { local_addr, .. } => self.inbound(peer, local_addr),
        }
    }

    /// Returns the route of a connection to an address.
    pub fn outbound(&self, address: &Multiaddr) -> Route {
        let limited = |relay| locked(&self.0).through.get(&relay).copied();
        route(address, || address::relay_of(address).and_then(limited))
    }

    /// Returns the route of a connection from a peer that reached this node at its address `local`.
    pub fn inbound(&self, peer: &PeerId, local: &Multiaddr) -> Route {
        route(local, || locked(&self.0).from.get(peer).copied())
    }
}

fn remember(limits: &mut HashMap<PeerId, bool>, peer: PeerId, limited: bool) {
    if limits.len() >= MAX_REMEMBERED && !limits.contains_key(&peer) {
        limits.clear();
    }
    limits.insert(peer, limited);
}

/// Without knowledge of a circuit it counts as limited.
fn route(address: &Multiaddr, is_limited: impl FnOnce() -> Option<bool>) -> Route {
    match address::is_circuit(address) {
        false => Route::Direct,
        true if is_limited() == Some(false) => Route::Relay,
        true => Route::LimitedRelay,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circuit_is_limited_unless_its_relay_said_otherwise() {
        let (relay, peer) = (PeerId::random(), PeerId::random());
        let parse = |text: String| text.parse::<Multiaddr>().unwrap();
        let direct = parse(format!("/ip4/203.0.113.1/tcp/1/p2p/{peer}"));
        let circuit = parse(format!("/ip4/203.0.113.1/tcp/1/p2p/{relay}/p2p-circuit/p2p/{peer}"));
        let listener = parse("/ip4/203.0.113.1/tcp/1/p2p-circuit".into());
        let circuits = Circuits::default();
        assert_eq!(circuits.outbound(&direct), Route::Direct);
        assert_eq!(circuits.outbound(&circuit), Route::LimitedRelay, "nothing is known");
        assert_eq!(circuits.inbound(&peer, &listener), Route::LimitedRelay);
        circuits.on_event(&client::Event::OutboundCircuitEstablished { relay_peer_id: relay, limit: None });
        circuits.on_event(&client::Event::InboundCircuitEstablished { src_peer_id: peer, limit: None });
        assert_eq!(circuits.outbound(&circuit), Route::Relay);
        assert_eq!(circuits.inbound(&peer, &listener), Route::Relay);
        assert_eq!(circuits.inbound(&relay, &listener), Route::LimitedRelay, "of another peer");
    }
}
