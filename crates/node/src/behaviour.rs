//! The network behaviour of the node: identify, Kademlia, Bitswap, fetch and pubsub in one. Their events are handled
//! here, so that rust-ipfs only polls it.

mod http;
mod kademlia;
mod limits;
mod received_records;
mod record_queue;

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, identify,
    identity::Keypair,
    kad::{self, InboundRequest, QueryId},
    request_response::OutboundRequestId,
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Limits, StartError, address, bitswap,
    command::{ReceivedRecord, SwarmCommand},
    handshakes::Handshakes,
    http_providers::{HttpProviders, is_http},
    ipns::{fetch, pubsub},
    peers::Peers,
    routing,
};
use kademlia::ProviderQuery;
use limits::{Connections, NewConnection};
use received_records::FetchPurpose;
use record_queue::RecordQueue;

/// Listen addresses accepted from one peer.
const MAX_ADDRESSES_PER_PEER: usize = 16;

/// The settings that depend on the network.
pub(crate) struct BehaviourSettings {
    pub announce: Vec<Multiaddr>,
    pub trust_listen_addresses: bool,
    /// Records failed handshakes in a private swarm.
    pub handshakes: Option<Handshakes>,
    /// Whether this is the public network, whose peers are not trusted.
    pub public: bool,
    pub limits: Limits,
    /// Asked for blocks if provider records name them; `None` in a private swarm, which nothing leaves.
    pub http: Option<HttpProviders>,
}

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(crate) struct Behaviours {
    identify: identify::Behaviour,
    kad: kad::Behaviour<routing::Store>,
    bitswap: bitswap::Behaviour,
    fetch: fetch::Behaviour,
    pubsub: pubsub::Behaviour,
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
    provides: HashMap<QueryId, oneshot::Sender<bool>>,
    provider_queries: HashMap<QueryId, ProviderQuery>,
    puts: HashMap<QueryId, oneshot::Sender<bool>>,
    values: HashMap<QueryId, mpsc::UnboundedSender<Vec<u8>>>,
    fetches: HashMap<OutboundRequestId, FetchPurpose>,
    record_queue: RecordQueue,
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
        let id = key.public().to_peer_id();
        let identify = identify::Config::new("ipfs/0.1.0".into(), key.public())
            .with_agent_version(concat!("ocipfs/", env!("CARGO_PKG_VERSION")).into())
            .with_push_listen_addr_updates(true)
            // Configured addresses replace the listen addresses.
            .with_hide_listen_addrs(!settings.announce.is_empty());
        let confirm = |address| ToSwarm::ExternalAddrConfirmed(address);
        Ok(Self {
            me: id,
            behaviours: Behaviours {
                identify: identify::Behaviour::new(identify),
                kad: kademlia::behaviour(id, store, !settings.public),
                bitswap,
                fetch: fetch::behaviour(),
                pubsub: pubsub::behaviour()?,
            },
            commands,
            peers,
            handshakes: settings.handshakes,
            trust_listen_addresses: settings.trust_listen_addresses,
            public: settings.public,
            http: settings.http,
            connections: Connections::new(settings.limits),
            provides: HashMap::new(),
            provider_queries: HashMap::new(),
            puts: HashMap::new(),
            values: HashMap::new(),
            fetches: HashMap::new(),
            record_queue: RecordQueue::new(received),
            queue: settings.announce.into_iter().map(confirm).collect(),
        })
    }

    fn on_command(&mut self, command: SwarmCommand) {
        match command {
            SwarmCommand::Provide(cid, reply) => self.provide(&cid, reply),
            SwarmCommand::Withdraw(cid) => self.withdraw(&cid),
            SwarmCommand::FindProviders(cid, found) => self.find_providers(&cid, found),
            SwarmCommand::PutValue(record, reply) => self.put_value(record, reply),
            SwarmCommand::FetchValues(key, found) => self.fetch_values(&key, &found),
            SwarmCommand::FindValues(key, found) => self.find_values(key, found),
            SwarmCommand::Subscribe(key) => self.subscribe(&key),
            SwarmCommand::Unsubscribe(key) => self.unsubscribe(&key),
            SwarmCommand::Publish(record) => self.publish(record),
            SwarmCommand::Store(record) => self.store(record),
            SwarmCommand::ReportValidation(from, message, verdict) => {
                self.report_validation(&from, message.as_ref(), verdict)
            }
        }
    }

    fn on_event(&mut self, event: BehavioursEvent) {
        match event {
            BehavioursEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identify(peer_id, info)
            }
            BehavioursEvent::Identify(_) => {}
            BehavioursEvent::Kad(kad::Event::OutboundQueryProgressed { id, result, step, .. }) => {
                self.on_query(id, result, step.last);
            }
            BehavioursEvent::Kad(kad::Event::InboundRequest {
                request: InboundRequest::AddProvider { record: Some(record) },
            }) => {
                // A record without an address is useless.
                if !record.addresses.is_empty() {
                    let peers = &self.peers;
                    let network = self.connections.network_of(&record.provider);
                    let sender =
                        routing::SenderInfo { network, is_preferred: |peer: &PeerId| peers.is_wanted(peer) };
                    if let Err(error) = self.behaviours.kad.store_mut().add_provider_from(record, sender) {
                        tracing::debug!(%error, "cannot store provider record");
                    }
                }
            }
            BehavioursEvent::Kad(kad::Event::InboundRequest {
                request: InboundRequest::PutRecord { source, record: Some(record), .. },
            }) => {
                let (key, value) = (record.key.clone(), record.value.clone());
                match self.behaviours.kad.store_mut().offer(source, record) {
                    Ok(()) => self.on_stored_record(source, &key, value),
                    Err(error) => tracing::debug!(peer = %source, %error, "cannot store value"),
                }
            }
            BehavioursEvent::Kad(_) => {}
            BehavioursEvent::Bitswap(event) => match event {},
            BehavioursEvent::Fetch(event) => self.on_fetch(event),
            BehavioursEvent::Pubsub(event) => self.on_pubsub(event),
        }
    }

    fn on_identify(&mut self, peer: PeerId, info: identify::Info) {
        let new = self.peers.identified(&peer, info.agent_version);
        if info.protocols.contains(&kademlia::PROTOCOL) {
            self.peers.serves_dht(&peer);
            for address in info.listen_addrs.into_iter().take(MAX_ADDRESSES_PER_PEER) {
                self.behaviours.kad.add_address(&peer, address);
            }
            // Not Kademlia's own event: a restarted peer is still in the table, but has lost its records.
            if new {
                self.peers.joined(self.behaviours.kad.kbuckets().map(|bucket| bucket.num_entries()).sum());
            }
        }
    }

    /// Admits a connection, closing another one if necessary.
    fn admit(&mut self, peer: PeerId, address: &Multiaddr, inbound: bool) -> Result<(), ConnectionDenied> {
        let Self { connections, behaviours, peers, queue, .. } = self;
        let new = NewConnection { address, inbound, wanted: peers.is_wanted(&peer) };
        let gone =
            connections.admit(&new, |peer| peers.is_wanted(peer), |id| behaviours.bitswap.last_activity(id));
        if let Some((peer_id, id)) =
            gone.inspect_err(|error| tracing::debug!(%peer, %error, "peer refused"))?
        {
            tracing::debug!(peer = %peer_id, "closed an idle connection for a new one");
            queue.push_back(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(id) });
        }
        Ok(())
    }

    /// Returns whether an address received from a peer may be dialled. In a small swarm only this node's settings may
    /// cause DNS lookups, and peers of the public network must not direct dials into private networks.
    fn is_dialled(&self, address: &Multiaddr) -> bool {
        match self.public {
            true => !address::ip(address).is_some_and(address::is_private),
            false => !address::is_dns(address),
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = <Behaviours as NetworkBehaviour>::ConnectionHandler;
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
        // A refused peer must not take the place of another.
        let handler = self.behaviours.handle_established_inbound_connection(id, peer, local, remote)?;
        self.admit(peer, remote, true)?;
        Ok(handler)
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
                .check_dial(|peer| peers.is_wanted(peer), |id| behaviours.bitswap.last_activity(id))?;
        }
        let mut known = self.behaviours.handle_pending_outbound_connection(id, peer, addresses, role)?;
        known.retain(|address| !is_http(address));
        if !peer.is_some_and(|peer| self.peers.is_configured(&peer)) {
            known.retain(|address| self.is_dialled(address));
        }
        Ok(known)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: libp2p::core::Endpoint,
        port: libp2p::core::transport::PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let handler =
            self.behaviours.handle_established_outbound_connection(id, peer, address, role, port)?;
        self.admit(peer, address, false)?;
        Ok(handler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        if let Some(handshakes) = &self.handshakes {
            handshakes.on_swarm_event(&event);
        }
        match &event {
            FromSwarm::ConnectionEstablished(e) => {
                let address = e.endpoint.get_remote_address();
                self.connections.opened(e.connection_id, e.peer_id, address, e.endpoint.is_listener());
                self.peers.connected(e.peer_id, e.endpoint);
            }
            FromSwarm::ConnectionClosed(e) => {
                self.connections.closed(&e.connection_id);
                if e.remaining_established == 0 {
                    self.peers.disconnected(&e.peer_id);
                }
            }
            FromSwarm::ListenFailure(e) => self.connections.end(&e.connection_id),
            FromSwarm::DialFailure(e) => {
                if let Some(peer) = e.peer_id.filter(|peer| !self.peers.is_connected(peer)) {
                    self.peers.unwant(&peer);
                }
            }
            FromSwarm::NewListenAddr(e) if self.trust_listen_addresses && !address::is_link_local(e.addr) => {
                self.queue.push_back(ToSwarm::ExternalAddrConfirmed(e.addr.clone()));
            }
            FromSwarm::ExpiredListenAddr(e) if self.trust_listen_addresses => {
                self.queue.push_back(ToSwarm::ExternalAddrExpired(e.addr.clone()));
            }
            _ => {}
        }
        self.behaviours.on_swarm_event(event);
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
