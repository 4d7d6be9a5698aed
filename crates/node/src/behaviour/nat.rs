//! Whether this node can be dialled, and what it does if not: it reserves places on relays, announces the addresses through
//! them, and leaves the routing system to peers that can be dialled.

use std::{collections::HashSet, time::Instant};

use libp2p::{
    Multiaddr, PeerId, autonat,
    core::transport::ListenerId,
    dcutr, identify, relay,
    swarm::{
        ConnectionId, ExternalAddresses, FromSwarm, NetworkBehaviour, NewExternalAddrCandidate, ToSwarm,
    },
};
use tokio::sync::watch;

use super::{Behaviour, relays::Relays};
use crate::{
    Reachability, Route,
    address::{is_circuit, is_link_local, is_local, relay_of, without_peer},
    reachability::Whereabouts,
    relay_service::Addresses,
};

/// Addresses that peers see this node at and that were not tested yet.
const MAX_CANDIDATES: usize = 16;

/// What the node knows and does about its reachability.
pub(super) struct Nat {
    whereabouts: Whereabouts,
    relays: Relays,
    reachability: watch::Sender<Reachability>,
    /// What the relay service tells of this node's addresses.
    addresses: Addresses,
    external: ExternalAddresses,
    listening: HashSet<Multiaddr>,
    /// Addresses that are tested once the node turns out to be behind NAT.
    candidates: Vec<Multiaddr>,
    /// The addresses from elsewhere that records were last announced with.
    announced: HashSet<Multiaddr>,
}

impl Nat {
    pub(super) fn new(
        public: bool,
        announced: bool,
        reachability: watch::Sender<Reachability>,
        addresses: Addresses,
    ) -> Self {
        Self {
            whereabouts: Whereabouts::new(public, announced),
            relays: Relays::default(),
            reachability,
            addresses,
            external: ExternalAddresses::default(),
            listening: HashSet::new(),
            candidates: Vec::new(),
            announced: HashSet::new(),
        }
    }

    pub(super) fn disconnected(&mut self, peer: &PeerId) {
        self.whereabouts.disconnected(peer);
        self.relays.withdrawn(peer);
    }

    /// Returns whether there is a reservation to make, now or later.
    pub(super) fn is_waiting(&self) -> bool {
        self.whereabouts.needs_relays() && self.relays.is_waiting()
    }
}

impl Behaviour {
    pub(super) fn on_identify(&mut self, peer: PeerId, connection: ConnectionId, info: identify::Info) {
        let is_foreign = !info.agent_version.starts_with("ocipfs/");
        let new = self.peers.identified(&peer, info.agent_version);
        let is_direct = self.connections.route(&connection) == Some(Route::Direct);
        if is_direct {
            self.nat.whereabouts.observed(peer, without_peer(&info.observed_addr));
            self.note_relay(peer, connection, &info.protocols, &info.listen_addrs);
        }
        // A limited circuit does not carry queries.
        if self.connections.route(&connection) != Some(Route::LimitedRelay)
            && self.add_server(peer, &info.protocols, info.listen_addrs, is_foreign)
        {
            self.peers.serves_dht(&peer);
            // Not Kademlia's own event: a restarted peer is still in the table, but has lost its records.
            if new {
                let size = self.table_size();
                self.peers.joined(size);
            }
        }
        if !is_foreign && self.connections.route(&connection) != Some(Route::LimitedRelay) {
            self.ask_time(peer);
        }
        self.update_nat();
    }

    /// Records whether a directly connected peer offers to relay, and where others reach it.
    fn note_relay(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        protocols: &[libp2p::StreamProtocol],
        listens: &[Multiaddr],
    ) {
        if !protocols.contains(&relay::HOP_PROTOCOL_NAME) {
            return self.nat.relays.withdrawn(&peer);
        }
        let is_usable = |address: &Multiaddr| {
            let is_hidden = is_circuit(address) || is_link_local(address);
            !(is_hidden || self.public && is_local(address))
        };
        let dialled = self.connections.dialled(&connection).filter(|address| is_usable(address));
        let address = dialled.or_else(|| listens.iter().find(|address| is_usable(address)));
        if let Some(address) = address.map(without_peer) {
            self.nat.relays.offered(peer, address, Instant::now());
        }
    }

    /// Returns whether a candidate for an address of this node means nothing: on the public network, one that a peer in the same
    /// private network sees.
    pub(super) fn is_meaningless(&self, candidate: &Multiaddr) -> bool {
        self.public && is_local(candidate)
    }

    /// Follows the addresses of this node.
    pub(super) fn on_address_event(&mut self, event: &FromSwarm) {
        self.nat.external.on_swarm_event(event);
        match event {
            FromSwarm::NewListenAddr(e) => {
                self.nat.whereabouts.listens(e.addr);
                let trusted = self.trust_listen_addresses && !is_link_local(e.addr);
                let relayed = is_circuit(e.addr) && !(self.public && is_local(e.addr));
                if !is_circuit(e.addr) {
                    self.nat.listening.insert(e.addr.clone());
                }
                if trusted || relayed {
                    self.queue.push_back(ToSwarm::ExternalAddrConfirmed(e.addr.clone()));
                }
            }
            FromSwarm::ExpiredListenAddr(e) => {
                self.nat.listening.remove(e.addr);
                if self.trust_listen_addresses || is_circuit(e.addr) {
                    self.queue.push_back(ToSwarm::ExternalAddrExpired(e.addr.clone()));
                }
            }
            FromSwarm::ListenerClosed(e) => self.end_reservation(&e.listener_id),
            // A listener that did not begin is not closed.
            FromSwarm::ListenerError(e) => self.end_reservation(&e.listener_id),
            FromSwarm::ExternalAddrConfirmed(e) => {
                // A listen address that is trusted says nothing about the world outside.
                if is_circuit(e.addr) || self.public || !self.nat.listening.contains(e.addr) {
                    self.nat.whereabouts.confirmed(e.addr);
                }
            }
            FromSwarm::ExternalAddrExpired(e) => self.nat.whereabouts.expired(e.addr),
            FromSwarm::ConnectionClosed(_) => {}
            _ => return,
        }
        let told = self.nat.external.iter().chain(&self.nat.listening).cloned().collect();
        self.nat.addresses.set(told);
        self.update_nat();
    }

    /// Returns whether a candidate for an address of this node is tested by peers; otherwise it is kept for later. In a
    /// network without NAT a test would only open another connection.
    pub(super) fn is_tested(&mut self, address: &Multiaddr) -> bool {
        if self.public {
            return !is_circuit(address);
        }
        let tests = self.nat.whereabouts.needs_relays() && !is_circuit(address);
        if !tests && self.nat.candidates.len() < MAX_CANDIDATES && !self.nat.candidates.contains(address) {
            self.nat.candidates.push(address.clone());
        }
        tests
    }

    pub(super) fn on_address_test(&mut self, event: &autonat::v2::client::Event) {
        tracing::debug!(address = %event.tested_addr, peer = %event.server, reachable = event.result.is_ok(), "a peer tested an address of this node");
        match event.result {
            Ok(()) => self.nat.whereabouts.confirmed(&event.tested_addr),
            Err(_) => self.nat.whereabouts.failed_test(),
        }
        self.update_nat();
    }

    pub(super) fn on_hole_punching(&mut self, event: &dcutr::Event) {
        let peer = event.remote_peer_id;
        match &event.result {
            Ok(_) => tracing::debug!(%peer, "punched a hole: connected directly"),
            Err(error) => tracing::debug!(%peer, %error, "cannot punch a hole"),
        }
        self.nat.whereabouts.punched(event.result.is_ok());
        self.update_nat();
    }

    /// Acts on what is known of this node's reachability.
    fn update_nat(&mut self) {
        let whereabouts = &self.nat.whereabouts;
        let (direct, needs_relays) = (whereabouts.is_direct(), whereabouts.needs_relays());
        let (reachability, elsewhere) = (whereabouts.reachability(), whereabouts.elsewhere());
        self.nat
            .reachability
            .send_if_modified(|known| std::mem::replace(known, reachability) != reachability);
        self.serve_dht(direct);
        if needs_relays {
            for addr in std::mem::take(&mut self.nat.candidates) {
                let candidate = NewExternalAddrCandidate { addr: &addr };
                self.behaviours.autonat.on_swarm_event(FromSwarm::NewExternalAddrCandidate(candidate));
            }
            self.advance_nat();
        } else if direct {
            let released = self.nat.relays.release();
            if !released.is_empty() {
                self.queue.extend(released.into_iter().map(|id| ToSwarm::RemoveListener { id }));
                self.forget_circuits(|_| true);
            }
        }
        // Records with addresses that lead nowhere are worth announcing again; one more address is not.
        if !elsewhere.is_empty() && elsewhere.is_disjoint(&self.nat.announced) {
            self.nat.announced = elsewhere;
            self.peers.moved();
        }
    }

    /// Makes the reservations that are due.
    pub(super) fn advance_nat(&mut self) {
        if !self.nat.whereabouts.needs_relays() {
            return;
        }
        while let Some(opts) = self.nat.relays.next(Instant::now()) {
            if let Some(relay) = relay_of(opts.address()) {
                tracing::debug!(%relay, "asking a peer to relay");
                self.peers.want(relay);
            }
            self.queue.push_back(ToSwarm::ListenOn { opts });
        }
    }

    fn end_reservation(&mut self, id: &ListenerId) {
        if let Some(relay) = self.nat.relays.closed(id, Instant::now()) {
            tracing::debug!(%relay, "reservation on a relay has ended");
            self.forget_circuits(|circuit| relay_of(circuit) == Some(relay));
        }
    }

    fn forget_circuits(&mut self, is_forgotten: impl Fn(&Multiaddr) -> bool) {
        let circuits = self.nat.whereabouts.circuits().filter(|circuit| is_forgotten(circuit));
        let expired: Vec<_> = circuits.cloned().map(ToSwarm::ExternalAddrExpired).collect();
        self.queue.extend(expired);
    }
}
