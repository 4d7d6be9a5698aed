//! Reaching the providers of a CID. One that is named without an address, or answers at none of those, is looked up
//! (`FIND_NODE`) while the search goes on.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    core::Endpoint,
    kad::RecordKey,
    swarm::{
        ConnectionId, NetworkBehaviour, ToSwarm,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::mpsc;

use super::{
    Behaviour,
    dht::{Dht, Query},
};
use crate::{
    address::{ips, is_circuit, is_dns, is_local, with_one_circuit_per_relay},
    peers::resolve,
};

/// Providers dialled per search; boxo stops at ten too.
const MAX_DIALLED_PROVIDERS: usize = 10;
/// Peers that are looked up at a time.
const MAX_LOOKUPS: usize = 64;
/// A peer is not looked up again before this time.
const LOOKUP_PAUSE: Duration = Duration::from_secs(20);
/// A provider that was dialled so long without success is looked up: its addresses may be old.
const DIAL_PATIENCE: Duration = Duration::from_secs(2);
/// A provider that was not reached after this time is given up.
const REACH_TIMEOUT: Duration = Duration::from_secs(30);
/// Names that are resolved for one peer.
const MAX_NAMES_PER_PEER: usize = 4;

/// A search for the providers of a CID.
pub(super) struct ProviderQuery {
    pub(super) key: RecordKey,
    found: mpsc::UnboundedSender<PeerId>,
    /// Each provider is found once for every peer that names it.
    dialled: HashSet<PeerId>,
}

impl ProviderQuery {
    pub(super) fn new(key: RecordKey, found: mpsc::UnboundedSender<PeerId>) -> Self {
        Self { key, found, dialled: HashSet::new() }
    }
}

/// Peers that are wanted, and where they are.
#[derive(Default)]
pub(super) struct Lookups {
    running: HashMap<PeerId, Vec<Query>>,
    /// When peers were looked up last.
    recent: HashMap<PeerId, Instant>,
    /// Providers that are being reached.
    sought: HashMap<PeerId, Sought>,
}

/// A provider that is not connected yet.
struct Sought {
    since: Instant,
    /// Addresses that were dialled or are being dialled.
    tried: HashSet<Multiaddr>,
}

impl Lookups {
    /// Returns whether the tables have to be asked for addresses from time to time.
    pub(super) fn is_waiting(&self) -> bool {
        !self.running.is_empty() || !self.sought.is_empty()
    }

    /// Returns whether a peer is being looked up, or was a moment ago.
    fn is_known(&self, peer: &PeerId, now: Instant) -> bool {
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < LOOKUP_PAUSE;
        self.running.contains_key(peer) || self.recent.get(peer).is_some_and(is_recent)
    }

    /// Returns whether a peer may be looked up now, and records it.
    fn begin(&mut self, peer: PeerId, now: Instant) -> bool {
        self.recent.retain(|_, at| now.saturating_duration_since(*at) < LOOKUP_PAUSE);
        let begins = self.running.len() < MAX_LOOKUPS
            && self.recent.len() < 2 * MAX_LOOKUPS
            && !self.recent.contains_key(&peer);
        if begins {
            self.recent.insert(peer, now);
        }
        begins
    }
}

impl Behaviour {
    /// Dials while the query is running: only then does Kademlia know the providers' addresses.
    pub(super) fn on_providers(&mut self, query: Query, providers: HashSet<PeerId>) {
        self.ask_over_http(query, &providers);
        for peer in providers {
            let Some(search) = self.provider_queries.get_mut(&query) else { return };
            let _ = search.found.send(peer);
            let is_dialled = peer != self.me
                && !self.peers.is_connected(&peer)
                && search.dialled.len() < MAX_DIALLED_PROVIDERS
                && search.dialled.insert(peer);
            if is_dialled {
                self.reach(peer, Vec::new());
            }
        }
    }

    /// Dials a provider at `addresses` and those that the tables know, or looks it up without any.
    pub(super) fn reach(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>) {
        if peer == self.me || self.peers.is_connected(&peer) {
            return;
        }
        if self.lookups.sought.len() < MAX_LOOKUPS {
            let new = || Sought { since: Instant::now(), tried: HashSet::new() };
            self.lookups.sought.entry(peer).or_insert_with(new);
        }
        if let Some(http) = &self.http {
            http.found(addresses.iter());
        }
        addresses.retain(|address| self.is_dialled(address));
        addresses.extend(self.known_addresses(peer));
        match addresses.is_empty() {
            true => self.look_up(peer),
            false => self.dial(peer, addresses),
        }
    }

    /// Returns the addresses that the tables and the running queries know of a peer.
    fn known_addresses(&mut self, peer: PeerId) -> Vec<Multiaddr> {
        let mut known = Vec::new();
        for dht in [Dht::Main, Dht::Lan] {
            let found = self.query_addresses(dht, peer);
            known.extend(found.into_iter().filter(|address| self.is_dialled_from(dht, address)));
        }
        known
    }

    /// Returns the addresses of a peer that Kademlia would dial. It only reads its tables here.
    pub(super) fn query_addresses(&mut self, dht: Dht, peer: PeerId) -> Vec<Multiaddr> {
        let (none, dialer) = (ConnectionId::new_unchecked(usize::MAX), Endpoint::Dialer);
        let known = self.used_kad(dht).map(|kad| {
            kad.handle_pending_outbound_connection(none, Some(peer), &[], dialer).unwrap_or_default()
        });
        known.unwrap_or_default()
    }

    /// Dials a peer. Names in its addresses are resolved first, since the transport dials none.
    fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if let Some(sought) = self.lookups.sought.get_mut(&peer) {
            sought.tried.extend(addresses.iter().cloned());
        }
        let (named, mut addresses): (Vec<_>, Vec<_>) = addresses.into_iter().partition(is_dns);
        addresses.sort_by_key(is_circuit);
        addresses.dedup();
        let addresses: Vec<_> =
            with_one_circuit_per_relay(addresses).into_iter().map(resolve::with_tls_name).collect();
        if !addresses.is_empty() {
            self.dial_at(peer, addresses);
        }
        for name in named.into_iter().take(MAX_NAMES_PER_PEER) {
            let (resolved, resolver) = (self.resolved.0.clone(), self.peers.resolver().clone());
            tokio::spawn(async move {
                if let Ok(addresses) = resolver.resolve(&name).await {
                    let _ = resolved.send((peer, addresses));
                }
            });
        }
    }

    /// Dials a peer at the addresses that its names stand for.
    pub(super) fn on_resolved(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>) {
        // A name of a stranger must not lead into a private network either.
        addresses.retain(|address| ips(address).next().is_some() && !(self.public && is_local(address)));
        if !addresses.is_empty() {
            self.dial_at(peer, addresses);
        }
    }

    /// Dials a peer at these addresses and those that the tables know, even if it is being dialled at others.
    fn dial_at(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>) {
        if self.peers.is_connected(&peer) {
            return;
        }
        self.peers.want(peer);
        // Private addresses that may be dialled come from the table of the private network.
        addresses.retain(|address| !(self.public && is_local(address)));
        let opts = DialOpts::peer_id(peer).condition(PeerCondition::Disconnected);
        let opts = match addresses.is_empty() {
            true => opts.build(),
            false => opts.addresses(addresses).extend_addresses_through_behaviour().build(),
        };
        self.queue.push_back(ToSwarm::Dial { opts });
    }

    /// Looks up the addresses of a peer, unless that was done a moment ago.
    fn look_up(&mut self, peer: PeerId) {
        let now = Instant::now();
        if self.lookups.is_known(&peer, now) {
            return;
        }
        let tables = self.peopled();
        if tables.is_empty() || !self.lookups.begin(peer, now) {
            return;
        }
        let queries = tables.into_iter().map(|dht| (dht, self.kad(dht).get_closest_peers(peer))).collect();
        self.lookups.running.insert(peer, queries);
    }

    /// Looks up providers that do not answer, and dials those whose addresses have been found meanwhile.
    pub(super) fn advance_lookups(&mut self) {
        let now = Instant::now();
        let Self { lookups, peers, .. } = self;
        lookups.sought.retain(|peer, sought| {
            !peers.is_connected(peer) && now.saturating_duration_since(sought.since) < REACH_TIMEOUT
        });
        let connected = lookups.running.keys().filter(|peer| peers.is_connected(peer));
        for peer in connected.copied().collect::<Vec<_>>() {
            self.end_lookup(&peer);
        }
        let sought = self.lookups.sought.iter();
        let sought: Vec<_> = sought.map(|(peer, sought)| (*peer, sought.since)).collect();
        for (peer, since) in sought {
            if now.saturating_duration_since(since) >= DIAL_PATIENCE {
                self.look_up(peer);
            }
            let known = self.known_addresses(peer);
            self.dial_new(peer, known);
        }
    }

    /// Dials a provider at addresses that were not tried.
    fn dial_new(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>) {
        let Some(sought) = self.lookups.sought.get(&peer) else { return };
        addresses.retain(|address| !sought.tried.contains(address));
        if !addresses.is_empty() && !self.peers.is_connected(&peer) {
            self.dial(peer, addresses);
        }
    }

    fn end_lookup(&mut self, peer: &PeerId) {
        for (dht, query) in self.lookups.running.remove(peer).unwrap_or_default() {
            if let Some(mut query) = self.kad(dht).query_mut(&query) {
                query.finish();
            }
        }
    }

    /// Handles the end of a lookup.
    pub(super) fn on_closest(
        &mut self,
        query: Query,
        peers: impl IntoIterator<Item = (PeerId, Vec<Multiaddr>)>,
    ) {
        let lookup = self.lookups.running.iter().find(|(_, queries)| queries.contains(&query));
        let Some((&peer, _)) = lookup else { return };
        if let Some(queries) = self.lookups.running.get_mut(&peer) {
            queries.retain(|other| *other != query);
            if queries.is_empty() {
                self.lookups.running.remove(&peer);
            }
        }
        let found = peers.into_iter().find(|(found, _)| *found == peer);
        let mut addresses = found.map(|(_, addresses)| addresses).unwrap_or_default();
        addresses.retain(|address| self.is_dialled_from(query.0, address));
        self.dial_new(peer, addresses);
    }

    /// Looks up a provider that was found without an address, or answered at none.
    pub(super) fn on_unreachable(&mut self, peer: PeerId) {
        if self.lookups.sought.contains_key(&peer) {
            self.look_up(peer);
        }
    }
}
