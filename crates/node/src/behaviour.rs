//! The network behaviour of the node: identify, Kademlia, Bitswap, fetch, pubsub, AutoNAT and hole punching in one. Their
//! events are handled here, so that rust-ipfs only polls it.

mod boxed_handler;
mod dht;
mod direction;
mod events;
mod fetch_purpose;
mod files;
mod gated;
mod http;
mod kademlia;
mod limits;
mod membership;
mod nat;
mod on_demand;
mod received_records;
mod record_queue;
mod relays;
mod search;
mod settings;
mod time;

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId, autonat, dcutr, identify,
    identity::Keypair,
    request_response::OutboundRequestId,
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm, behaviour::toggle::Toggle,
    },
};
use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior},
};

use crate::{
    Route, StartError, address, bitswap,
    circuits::Circuits,
    command::{ReceivedRecord, SwarmCommand},
    handshakes::Handshakes,
    http_providers::{HttpProviders, is_http},
    ipns::{fetch, pubsub},
    members,
    peers::{Peers, resolve},
    routing,
};
use boxed_handler::BoxedHandler;
use dht::Query;
use fetch_purpose::FetchPurpose;
use files::Files;
use gated::Gated;
use kademlia::{Acceptance, Table};
use limits::{Connections, NewConnection};
use membership::Membership;
use nat::Nat;
use on_demand::OnDemand;
use record_queue::RecordQueue;
use search::{Lookups, ProviderQuery};
pub(crate) use settings::BehaviourSettings;

/// How often lookups and reservations advance while there are any.
const TICK: Duration = Duration::from_millis(200);

/// Addresses that names of a peer stand for, and where they are sent.
type Resolved =
    (mpsc::UnboundedSender<(PeerId, Vec<Multiaddr>)>, mpsc::UnboundedReceiver<(PeerId, Vec<Multiaddr>)>);

/// What runs over every connection, also over a limited circuit: what it takes to get a direct one.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(crate) struct Behaviours {
    identify: identify::Behaviour,
    dcutr: dcutr::Behaviour,
    autonat: autonat::v2::client::Behaviour,
    autonat_server: autonat::v2::server::Behaviour,
    relay: Toggle<Gated<libp2p_stream::Behaviour>>,
    data: Gated<DataProtocols>,
}

/// What exchanges blocks and records.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(crate) struct DataProtocols {
    kad: OnDemand<Table>,
    lan_kad: OnDemand<Table>,
    bitswap: bitswap::Behaviour,
    fetch: fetch::Behaviour,
    pubsub: pubsub::Behaviour,
    members: Toggle<members::Behaviour>,
}

/// The behaviour given to rust-ipfs. It emits no events to the outer swarm; commands are answered through their
/// channels.
pub(crate) struct Behaviour {
    me: PeerId,
    behaviours: Behaviours,
    commands: mpsc::Receiver<SwarmCommand>,
    peers: Peers,
    handshakes: Option<Handshakes>,
    trust_listen_addresses: bool,
    public: bool,
    http: Option<HttpProviders>,
    connections: Connections,
    circuits: Circuits,
    nat: Nat,
    provides: HashMap<Query, Arc<Acceptance>>,
    provider_queries: HashMap<Query, ProviderQuery>,
    puts: HashMap<Query, Arc<Acceptance>>,
    values: HashMap<Query, mpsc::UnboundedSender<Vec<u8>>>,
    lookups: Lookups,
    resolved: Resolved,
    tick: Interval,
    fetches: HashMap<OutboundRequestId, FetchPurpose>,
    files: Files,
    /// What the tables serve from.
    records: routing::Store,
    record_queue: RecordQueue,
    membership: Membership,
    queue: VecDeque<ToSwarm<Infallible, THandlerInEvent<Behaviours>>>,
}

impl Behaviour {
    pub(crate) fn new(
        key: &Keypair,
        settings: BehaviourSettings,
        bitswap: bitswap::Behaviour,
        (commands, received): (mpsc::Receiver<SwarmCommand>, mpsc::Sender<ReceivedRecord>),
        peers: Peers,
        store: routing::Store,
    ) -> Result<Self, StartError> {
        let (id, announced) = (key.public().to_peer_id(), !settings.announce.is_empty());
        let identify = identify::Config::new("ipfs/0.1.0".into(), key.public())
            .with_agent_version(concat!("ocipfs/", env!("CARGO_PKG_VERSION")).into())
            .with_push_listen_addr_updates(true)
            // Configured addresses replace the listen addresses.
            .with_hide_listen_addrs(announced);
        let (kad, lan_kad) = kademlia::behaviours(id, &store, settings.public);
        let (fetch, pubsub) = (fetch::behaviour(), pubsub::behaviour()?);
        let members = settings.members.as_ref().map(|_| members::behaviour()).into();
        let data = DataProtocols { kad, lan_kad, bitswap, fetch, pubsub, members };
        let circuits = settings.circuits;
        let relay =
            settings.relay.map(|relay| Gated::new(relay, circuits.clone(), |way| way == Route::Direct));
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            me: id,
            behaviours: Behaviours {
                identify: identify::Behaviour::new(identify),
                dcutr: dcutr::Behaviour::new(id),
                autonat: autonat::v2::client::Behaviour::default(),
                autonat_server: autonat::v2::server::Behaviour::default(),
                relay: relay.into(),
                data: Gated::new(data, circuits.clone(), |way| way != Route::LimitedRelay),
            },
            commands,
            peers,
            handshakes: settings.handshakes,
            trust_listen_addresses: settings.trust_listen_addresses,
            public: settings.public,
            http: settings.http,
            connections: Connections::new(settings.limits),
            circuits,
            nat: Nat::new(settings.public, announced, settings.reachability, settings.addresses),
            provides: HashMap::new(),
            provider_queries: HashMap::new(),
            puts: HashMap::new(),
            values: HashMap::new(),
            lookups: Lookups::default(),
            resolved: mpsc::unbounded_channel(),
            tick,
            fetches: HashMap::new(),
            files: Files::new(settings.blocks),
            records: store,
            record_queue: RecordQueue::new(received),
            membership: Membership::new(settings.members),
            queue: settings.announce.into_iter().map(ToSwarm::ExternalAddrConfirmed).collect(),
        })
    }

    /// Admits a connection, closing another one if necessary.
    fn admit(&mut self, peer: PeerId, address: &Multiaddr, inbound: bool) -> Result<(), ConnectionDenied> {
        let Self { connections, behaviours, peers, queue, .. } = self;
        let new = NewConnection { address, inbound, wanted: peers.is_wanted(&peer) };
        let gone = connections.admit(
            &new,
            |peer| peers.is_wanted(peer),
            |id| behaviours.data.bitswap.last_activity(id),
        );
        if let Some((peer_id, id)) =
            gone.inspect_err(|error| tracing::debug!(%peer, %error, "peer refused"))?
        {
            tracing::debug!(peer = %peer_id, "closed an idle connection for a new one");
            queue.push_back(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(id) });
        }
        Ok(())
    }

    /// Advances what waits for something, if there is any.
    fn advance(&mut self, cx: &mut Context<'_>) {
        while (self.lookups.is_waiting() || self.nat.is_waiting()) && self.tick.poll_tick(cx).is_ready() {
            self.advance_lookups();
            self.advance_nat();
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = BoxedHandler<THandler<Behaviours>>;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.connections.begin(id, remote)?;
        self.behaviours.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.connections.end(&id);
        self.membership.check(&peer)?;
        // A refused peer must not take the place of another.
        let handler = self.behaviours.handle_established_inbound_connection(id, peer, local, remote)?;
        self.admit(peer, remote, true)?;
        Ok(BoxedHandler::new(handler))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: libp2p::core::Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if peer.is_some_and(|peer| !self.peers.is_wanted(&peer)) {
            let Self { connections, behaviours, peers, .. } = &*self;
            // Before the handshake, which is the expensive part for both sides.
            connections
                .check_dial(|peer| peers.is_wanted(peer), |id| behaviours.data.bitswap.last_activity(id))?;
        }
        if let Some(peer) = peer {
            self.membership.check(&peer)?;
            self.check_direction(&peer, addresses)?;
        }
        let mut known = self.behaviours.handle_pending_outbound_connection(id, peer, addresses, role)?;
        known.retain(|address| !is_http(address));
        if !peer.is_some_and(|peer| self.peers.is_configured(&peer)) {
            known.retain(|address| self.is_dialled(address));
        }
        if let Some(peer) = peer.filter(|_| self.public) {
            // Private addresses count only as those of peers in the same private network.
            let lan = &mut self.behaviours.data.lan_kad;
            let lan = lan.handle_pending_outbound_connection(id, Some(peer), &[], role)?;
            known.extend(lan.into_iter().filter(address::is_local));
        }
        known.sort_by_key(address::is_circuit);
        let known = address::with_one_circuit_per_relay(known);
        Ok(known.into_iter().map(resolve::with_tls_name).collect())
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: libp2p::core::Endpoint,
        port: libp2p::core::transport::PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.membership.check(&peer)?;
        let handler =
            self.behaviours.handle_established_outbound_connection(id, peer, address, role, port)?;
        self.admit(peer, address, false)?;
        Ok(BoxedHandler::new(handler))
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        if let Some(handshakes) = &self.handshakes {
            handshakes.on_swarm_event(&event);
        }
        match &event {
            FromSwarm::ConnectionEstablished(e) => {
                let route = self.circuits.route(&e.peer_id, e.endpoint);
                self.connections.opened(e.connection_id, e.peer_id, e.endpoint, route);
                self.peers.connected(e.peer_id, e.connection_id, e.endpoint, route);
            }
            FromSwarm::ConnectionClosed(e) => {
                self.connections.closed(&e.connection_id);
                self.peers.disconnected(&e.peer_id, e.connection_id);
                if e.remaining_established == 0 {
                    self.nat.disconnected(&e.peer_id);
                    self.membership.disconnected(&e.peer_id);
                }
            }
            FromSwarm::ListenFailure(e) => self.connections.end(&e.connection_id),
            FromSwarm::DialFailure(e) => self.on_dial_failure(e),
            _ => {}
        }
        self.on_address_event(&event);
        match event {
            FromSwarm::NewExternalAddrCandidate(e) if self.is_meaningless(e.addr) => {}
            FromSwarm::NewExternalAddrCandidate(e) if !self.is_tested(e.addr) => {
                // Hole punching needs it in any case.
                self.behaviours.dcutr.on_swarm_event(event);
            }
            event => self.behaviours.on_swarm_event(event),
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.behaviours.on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Poll::Ready(event);
            }
            if let Poll::Ready(Some(command)) = self.commands.poll_recv(cx) {
                self.on_command(command);
                continue;
            }
            if let Poll::Ready(Some((peer, addresses))) = self.resolved.1.poll_recv(cx) {
                self.on_resolved(peer, addresses);
                continue;
            }
            if let Poll::Ready(Some(answer)) = self.files.answers.poll_recv(cx) {
                self.answer_file(answer);
                continue;
            }
            self.advance(cx);
            if !self.queue.is_empty() {
                continue;
            }
            match self.behaviours.poll(cx) {
                Poll::Ready(ToSwarm::GenerateEvent(event)) => self.on_event(event),
                Poll::Ready(other) => {
                    return Poll::Ready(other.map_out(|_| unreachable!("events were taken above")));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests;
