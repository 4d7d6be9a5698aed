//! The connected peers, and redialling of those that should be.

pub(crate) mod clocks;
mod dial;
mod redial;
mod remembered;
pub(crate) mod resolve;
mod seeds;
mod table;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, core::ConnectedPoint, swarm::ConnectionId};
use rust_ipfs::Ipfs;
use tokio::sync::watch;

use crate::{ConnectError, Options, Route, address, locked};
use clocks::Clocks;
use redial::{DialOutcome, RedialPause};
use remembered::RememberedPeers;
use resolve::AddressResolver;
use table::Table;

pub use clocks::ClockDifference;
pub(crate) use dial::{one_of_each, peer_id};
pub(crate) use remembered::{FILE as REMEMBERED_FILE, seconds};
pub use seeds::Seeds;
pub(crate) use seeds::of_earlier_runs;

/// How long the first dials may delay the answer that no peer is connected.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connected peer.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its identity.
    pub id: PeerId,
    /// Its address, as dialled or as the remote end.
    pub address: Multiaddr,
    /// Whether this node dialled it.
    pub dialled: bool,
    /// The way that the connection takes.
    pub route: Route,
    /// The agent version it sent.
    pub agent: Option<String>,
    /// When the connection was opened.
    pub since: Instant,
}

/// The table of connected peers, shared by the swarm and the rest of the node.
#[derive(Clone)]
pub(crate) struct Peers(Arc<PeerTable>);

struct PeerTable {
    table: Mutex<Table>,
    clocks: Clocks,
    /// Counts changes of the table.
    changes: watch::Sender<u64>,
    /// The size of the routing table, sent whenever a peer joins it.
    joins: watch::Sender<usize>,
    /// Peers to stay connected to, beyond the limits, and their addresses.
    configured: HashMap<PeerId, Vec<Multiaddr>>,
    /// Peers of lists that the user named.
    listed: HashSet<PeerId>,
    /// Counts new addresses of this node, in place of those that its records have.
    moves: watch::Sender<u64>,
    /// Peers that this node dialled, until they disconnect.
    wanted: Mutex<HashSet<PeerId>>,
    /// Those among them whose address the user gave.
    called: Mutex<HashSet<PeerId>>,
    /// Configured peers that identified themselves since they were last dialled.
    identified: Mutex<HashSet<PeerId>>,
    /// First dials in progress.
    dialling: watch::Sender<usize>,
    started: Instant,
    /// Bootstrap peers whose last dial failed.
    unreachable: Mutex<HashSet<Multiaddr>>,
    /// The bootstrap peers.
    seeds: Vec<Multiaddr>,
    /// Peers of earlier runs and of lists that the node started with.
    started_with: usize,
    remembered: Mutex<RememberedPeers>,
    /// Whether this table resolves names, since the transport does not.
    resolves_names: bool,
    resolver: AddressResolver,
}

impl Peers {
    /// Creates a table that is settled when the first dials of all `configured` peers have ended, and of those that the node
    /// remembers. It resolves the names in addresses if the options say so.
    pub(crate) fn open(options: &Options, configured: &[Multiaddr]) -> Self {
        let (remembers, seeds) = (options.remembers_peers(), options.bootstrap.addresses());
        let known = if remembers { seeds::load(options) } else { RememberedPeers::default() };
        let started_with = known.len() + options.listed_peers.len();
        let remembered = Mutex::new(known);
        Self(Arc::new(PeerTable {
            seeds,
            started_with,
            remembered,
            table: Mutex::default(),
            clocks: Clocks::default(),
            changes: watch::Sender::new(0),
            joins: watch::Sender::new(0),
            configured: by_peer(configured),
            listed: options.listed_peers.iter().filter_map(|address| peer_id(address).ok()).collect(),
            moves: watch::Sender::new(0),
            wanted: Mutex::default(),
            called: Mutex::default(),
            identified: Mutex::default(),
            dialling: watch::Sender::new(one_of_each(configured).len() + usize::from(remembers)),
            started: Instant::now(),
            unreachable: Mutex::default(),
            resolves_names: options.resolves_peers(),
            resolver: AddressResolver(options.dns.clone()),
        }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        locked(&self.0.table)
    }

    pub(crate) fn connected(
        &self,
        id: PeerId,
        connection: ConnectionId,
        endpoint: &ConnectedPoint,
        route: Route,
    ) {
        let peer = Peer {
            id,
            address: endpoint.get_remote_address().clone(),
            dialled: endpoint.is_dialer(),
            route,
            agent: None,
            since: Instant::now(),
        };
        if peer.dialled {
            self.remember(id, &peer.address);
        }
        self.table().add(connection, peer);
        self.0.changes.send_modify(|n| *n += 1);
    }

    pub(crate) fn disconnected(&self, id: &PeerId, connection: ConnectionId) {
        if self.table().remove(id, connection) {
            self.unwant(id);
            self.0.clocks.forget(id);
        }
        self.0.changes.send_modify(|n| *n += 1);
    }

    /// Records that the user gave the address of a peer that is dialled.
    fn call(&self, id: PeerId) {
        locked(&self.0.called).insert(id);
    }

    /// Forgets that, where the address leads nowhere.
    fn uncall(&self, id: &PeerId) {
        locked(&self.0.called).remove(id);
    }

    /// Returns whether the user gave the address of a peer, so that it may be a private one on the public network.
    pub(crate) fn is_named(&self, id: &PeerId) -> bool {
        self.is_configured(id) || self.0.listed.contains(id) || locked(&self.0.called).contains(id)
    }

    /// Admits the next connection to a peer beyond the limits.
    pub(crate) fn want(&self, id: PeerId) {
        locked(&self.0.wanted).insert(id);
    }

    pub(crate) fn unwant(&self, id: &PeerId) {
        locked(&self.0.wanted).remove(id);
        locked(&self.0.called).remove(id);
    }

    pub(crate) fn is_wanted(&self, id: &PeerId) -> bool {
        self.is_configured(id) || locked(&self.0.wanted).contains(id)
    }

    pub(crate) fn is_configured(&self, id: &PeerId) -> bool {
        self.0.configured.contains_key(id)
    }

    /// Returns the addresses that are configured for a peer.
    fn configured_addresses(&self, id: &PeerId) -> Vec<Multiaddr> {
        self.0.configured.get(id).cloned().unwrap_or_default()
    }

    /// Returns whether a configured peer has identified itself since the last call: then it did not refuse the
    /// connection.
    fn was_identified(&self, id: &PeerId) -> bool {
        locked(&self.0.identified).remove(id)
    }

    /// Records a peer's agent version. Returns whether it is the first since it connected.
    pub(crate) fn identified(&self, id: &PeerId, agent: String) -> bool {
        if self.is_configured(id) {
            locked(&self.0.identified).insert(*id);
        }
        // The peer chooses this text, so it is bounded and made printable.
        let agent: String = agent.chars().filter(|c| !c.is_control()).take(64).collect();
        self.table().identified(id, &agent)
    }

    /// Records that a peer joined the routing table, which has `size` peers now.
    pub(crate) fn joined(&self, size: usize) {
        self.0.joins.send_replace(size);
    }

    /// Returns a channel that changes when a peer joins the routing table.
    pub(crate) fn joins(&self) -> watch::Receiver<usize> {
        self.0.joins.subscribe()
    }

    /// Records that the addresses at which others reached this node are gone, and that it has new ones.
    pub(crate) fn moved(&self) {
        self.0.moves.send_modify(|moves| *moves += 1);
    }

    /// Returns a channel that changes when records need new addresses.
    pub(crate) fn moves(&self) -> watch::Receiver<u64> {
        self.0.moves.subscribe()
    }

    pub(crate) fn is_connected(&self, id: &PeerId) -> bool {
        self.table().route(id).is_some()
    }

    /// Returns whether a peer is connected, and only through a relay that limits bytes.
    pub(crate) fn is_limited(&self, id: &PeerId) -> bool {
        self.table().route(id) == Some(Route::LimitedRelay)
    }

    /// Returns the address of a peer that is connected without a relay.
    pub(crate) fn direct_address(&self, id: &PeerId) -> Option<Multiaddr> {
        self.table().best(id).filter(|peer| peer.route == Route::Direct).map(|peer| peer.address.clone())
    }

    /// Returns whether a peer is connected from an address of a private network.
    pub(crate) fn is_near(&self, id: &PeerId) -> bool {
        self.table().has(id, |peer| peer.route == Route::Direct && address::is_local(&peer.address))
    }

    /// Returns how many connected peers can be asked for blocks.
    pub(crate) fn count(&self) -> usize {
        self.table().count(|peer| peer.route != Route::LimitedRelay)
    }

    pub(crate) fn list(&self) -> Vec<Peer> {
        let mut all = self.table().list();
        all.sort_by_key(|peer| peer.since);
        all
    }

    fn first_dial_ended(&self) {
        self.0.dialling.send_modify(|left| *left = left.saturating_sub(1));
    }

    /// Returns what looks up the names in addresses.
    pub(crate) fn resolver(&self) -> &AddressResolver {
        &self.0.resolver
    }

    /// Returns whether the first dials have succeeded, failed or timed out.
    pub(crate) fn is_settled(&self) -> bool {
        *self.0.dialling.borrow() == 0 || self.0.started.elapsed() >= SETTLE_TIMEOUT
    }

    /// Waits until a peer is connected, and no longer than until the first dials have ended.
    pub(crate) async fn connected_or_settled(&self) {
        tokio::select! {
            () = self.settled() => {}
            () = self.wait_while(|peers| peers.count() == 0) => {}
        }
    }

    /// Waits until the first dials have succeeded, failed or timed out.
    pub(crate) async fn settled(&self) {
        let left = SETTLE_TIMEOUT.saturating_sub(self.0.started.elapsed());
        let mut dialling = self.0.dialling.subscribe();
        let _ = tokio::time::timeout(left, dialling.wait_for(|left| *left == 0)).await;
    }

    /// Waits while a condition holds.
    async fn wait_while(&self, condition: impl Fn(&Self) -> bool) {
        let mut changes = self.0.changes.subscribe();
        while condition(self) && changes.changed().await.is_ok() {}
    }

    /// Dials `address` whenever there are not `enough` peers. The pause grows each time the peer was unreachable or
    /// full.
    pub(crate) async fn keep_connected(self, ipfs: Ipfs, address: Multiaddr, enough: impl Fn(&Self) -> bool) {
        let mut pause = RedialPause::default();
        let mut first = true;
        loop {
            let reached = self.dial(&ipfs, &address).await;
            self.dialled_seed(&address, reached.is_ok());
            let dialled = Instant::now();
            if std::mem::take(&mut first) {
                self.first_dial_ended();
            }
            if let Err(error @ ConnectError::Own(_)) = &reached {
                tracing::warn!(%error, "configured peer is not dialed");
                return;
            }
            self.wait_while(&enough).await;
            let was_identified = peer_id(&address).is_ok_and(|id| self.was_identified(&id));
            let pause = pause.next(DialOutcome::new(
                reached.is_ok(),
                was_identified,
                dialled.elapsed(),
                self.count(),
            ));
            let pause = pause.mul_f64(rand::random_range(0.8..1.2));
            if let Err(error) = &reached {
                tracing::info!(%error, retry_seconds = pause.as_secs_f32().ceil(), "configured peer not connected");
            }
            tokio::time::sleep(pause).await;
        }
    }
}

fn by_peer(addresses: &[Multiaddr]) -> HashMap<PeerId, Vec<Multiaddr>> {
    let mut peers = HashMap::<_, Vec<_>>::new();
    for address in addresses {
        if let Ok(id) = peer_id(address) {
            peers.entry(id).or_default().push(address.clone());
        }
    }
    peers
}
