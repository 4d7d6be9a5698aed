//! What this node says to the swarm: identify, Kademlia, Bitswap and pubsub in one behaviour, their events handled
//! here, so that rust-ipfs only has to poll it.

mod inbox;
mod limits;
mod naming;

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId, StreamProtocol,
    gossipsub::MessageId,
    identify,
    identity::Keypair,
    kad::{self, InboundRequest, QueryId, QueryResult, RecordKey},
    request_response::OutboundRequestId,
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm, dial_opts::DialOpts,
    },
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Cid, Error, Limits, address, bitswap,
    handshakes::Handshakes,
    names::{
        fetch,
        pubsub::{self, Heard, Verdict},
    },
    peers::Peers,
    routing,
};
use inbox::Inbox;
use limits::{Connections, Newcomer};
use naming::Asker;

const KADEMLIA: StreamProtocol = StreamProtocol::new("/ipfs/kad/1.0.0");
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);
/// Providers dialled for one search; boxo stops at ten too.
const PROVIDERS_DIALLED: usize = 10;
/// Listen addresses believed of one peer.
const ADDRESSES_OF_A_PEER: usize = 16;

/// What the rest of the node asks of the routing system.
#[derive(Debug)]
pub(crate) enum Command {
    /// Announce `key`; answers whether at least one other peer could be told.
    Provide(Cid, oneshot::Sender<bool>),
    /// Stop announcing.
    Withdraw(Cid),
    /// Search providers and dial them; the channel closes when the search has ended.
    Find(Cid, mpsc::UnboundedSender<PeerId>),
    /// Tell others a value; answers whether at least one could be told.
    PutValue(kad::Record, oneshot::Sender<bool>),
    /// Ask connected peers for the values of a key; the channel closes when all have answered.
    Fetch(RecordKey, mpsc::UnboundedSender<Vec<u8>>),
    /// Ask the routing system for the values of a key; the channel closes when the query has ended.
    Values(RecordKey, mpsc::UnboundedSender<Vec<u8>>),
    /// Hear of what a name means.
    Listen(RecordKey),
    /// Hear no more of it.
    ListenNoMore(RecordKey),
    /// Have a name's record here for who asks, and tell whoever listens for the name.
    Tell(kad::Record),
    /// Have it here alone.
    Keep(kad::Record),
    /// What became of a record that this peer told, and of the message that it came in.
    Judge(PeerId, Option<MessageId>, Verdict),
}

/// How the behaviour differs from one network to another.
pub(crate) struct Settings {
    pub announce: Vec<Multiaddr>,
    pub trust_listen_addresses: bool,
    /// Where there is a swarm key: takes note of handshakes that fail.
    pub handshakes: Option<Handshakes>,
    /// Whether this is the public network, whose peers are strangers.
    pub public: bool,
    pub limits: Limits,
}

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(crate) struct Parts {
    identify: identify::Behaviour,
    kad: kad::Behaviour<routing::Store>,
    bitswap: bitswap::Behaviour,
    fetch: fetch::Behaviour,
    pubsub: pubsub::Behaviour,
}

struct Search {
    found: mpsc::UnboundedSender<PeerId>,
    dialled: usize,
}

/// One wrapper with nothing to tell the outer swarm: it answers commands through their channels.
pub(crate) struct Behaviour {
    parts: Parts,
    commands: mpsc::Receiver<Command>,
    peers: Peers,
    handshakes: Option<Handshakes>,
    trust_listen_addresses: bool,
    public: bool,
    connections: Connections,
    provides: HashMap<QueryId, oneshot::Sender<bool>>,
    searches: HashMap<QueryId, Search>,
    puts: HashMap<QueryId, oneshot::Sender<bool>>,
    values: HashMap<QueryId, mpsc::UnboundedSender<Vec<u8>>>,
    fetches: HashMap<OutboundRequestId, Asker>,
    inbox: Inbox,
    queue: VecDeque<ToSwarm<Infallible, THandlerInEvent<Parts>>>,
}

impl Behaviour {
    pub(crate) fn new(
        key: &Keypair,
        settings: Settings,
        bitswap: bitswap::Behaviour,
        (commands, heard): (mpsc::Receiver<Command>, mpsc::Sender<Heard>),
        peers: Peers,
        store: routing::Store,
    ) -> Result<Self, Error> {
        let id = key.public().to_peer_id();
        let identify = identify::Config::new("ipfs/0.1.0".into(), key.public())
            .with_agent_version(concat!("ocipfs/", env!("CARGO_PKG_VERSION")).into())
            .with_push_listen_addr_updates(true)
            // What is announced by hand stands instead of what is listened on.
            .with_hide_listen_addrs(!settings.announce.is_empty());
        let confirm = |address| ToSwarm::ExternalAddrConfirmed(address);
        Ok(Self {
            parts: Parts {
                identify: identify::Behaviour::new(identify),
                kad: kademlia(id, store, !settings.public),
                bitswap,
                fetch: fetch::behaviour(),
                pubsub: pubsub::behaviour()?,
            },
            commands,
            peers,
            handshakes: settings.handshakes,
            trust_listen_addresses: settings.trust_listen_addresses,
            public: settings.public,
            connections: Connections::new(settings.limits),
            provides: HashMap::new(),
            searches: HashMap::new(),
            puts: HashMap::new(),
            values: HashMap::new(),
            fetches: HashMap::new(),
            inbox: Inbox::new(heard),
            queue: settings.announce.into_iter().map(confirm).collect(),
        })
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Provide(cid, reply) => {
                // With nobody to tell, the query would end well and the record be nowhere.
                let alone = self.parts.kad.kbuckets().all(|bucket| bucket.is_empty());
                match self.parts.kad.start_providing(key_of(&cid)) {
                    Ok(query) if !alone => {
                        self.provides.insert(query, reply);
                    }
                    Ok(_) => {
                        let _ = reply.send(false);
                    }
                    Err(error) => {
                        tracing::warn!(%cid, %error, "cannot announce");
                        let _ = reply.send(false);
                    }
                }
            }
            Command::Withdraw(cid) => self.parts.kad.stop_providing(&key_of(&cid)),
            Command::Find(cid, found) => {
                let query = self.parts.kad.get_providers(key_of(&cid));
                self.searches.insert(query, Search { found, dialled: 0 });
            }
            Command::PutValue(record, reply) => self.put_value(record, reply),
            Command::Fetch(key, found) => self.fetch_values(&key, &found),
            Command::Values(key, found) => self.find_values(key, found),
            Command::Listen(key) => self.listen(&key),
            Command::ListenNoMore(key) => self.listen_no_more(&key),
            Command::Tell(record) => self.tell(record),
            Command::Keep(record) => self.keep(record),
            Command::Judge(from, message, verdict) => self.judge(&from, message.as_ref(), verdict),
        }
    }

    fn on_event(&mut self, event: PartsEvent) {
        match event {
            PartsEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identify(peer_id, info)
            }
            PartsEvent::Identify(_) => {}
            PartsEvent::Kad(kad::Event::OutboundQueryProgressed { id, result, step, .. }) => {
                self.on_query(id, result, step.last);
            }
            PartsEvent::Kad(kad::Event::InboundRequest {
                request: InboundRequest::AddProvider { record: Some(record) },
            }) => {
                // A record without an address leads nobody anywhere.
                if !record.addresses.is_empty() {
                    let peers = &self.peers;
                    let network = self.connections.network_of(&record.provider);
                    let sender =
                        routing::Sender { network, is_preferred: |peer: &PeerId| peers.is_wanted(peer) };
                    if let Err(error) = self.parts.kad.store_mut().add_provider_from(record, sender) {
                        tracing::debug!(%error, "provider record not kept");
                    }
                }
            }
            PartsEvent::Kad(kad::Event::InboundRequest {
                request: InboundRequest::PutRecord { source, record: Some(record), .. },
            }) => {
                let (key, value) = (record.key.clone(), record.value.clone());
                match self.parts.kad.store_mut().offer(source, record) {
                    Ok(()) => self.hear(source, &key, value),
                    Err(error) => tracing::debug!(peer = %source, %error, "value not kept"),
                }
            }
            PartsEvent::Kad(_) => {}
            PartsEvent::Bitswap(event) => match event {},
            PartsEvent::Fetch(event) => self.on_fetch(event),
            PartsEvent::Pubsub(event) => self.on_pubsub(event),
        }
    }

    fn on_identify(&mut self, peer: PeerId, info: identify::Info) {
        let new = self.peers.identified(&peer, info.agent_version);
        if info.protocols.contains(&KADEMLIA) {
            for address in info.listen_addrs.into_iter().take(ADDRESSES_OF_A_PEER) {
                self.parts.kad.add_address(&peer, address);
            }
            // Not Kademlia's own event: one that restarted is in the table still, and has forgotten all.
            if new {
                self.peers.joined(self.parts.kad.kbuckets().map(|bucket| bucket.num_entries()).sum());
            }
        }
    }

    fn on_query(&mut self, id: QueryId, result: QueryResult, last: bool) {
        match result {
            QueryResult::StartProviding(result) => {
                if let Some(reply) = self.provides.remove(&id) {
                    let _ = reply.send(result.is_ok());
                }
            }
            QueryResult::GetProviders(Ok(kad::GetProvidersOk::FoundProviders { providers, .. })) => {
                self.on_providers(id, providers);
            }
            QueryResult::PutRecord(result) => {
                if let Some(reply) = self.puts.remove(&id) {
                    let _ = reply.send(result.is_ok());
                }
            }
            QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(found))) => {
                if let Some(values) = self.values.get(&id) {
                    let _ = values.send(found.record.value);
                }
            }
            _ => {}
        }
        if last {
            self.searches.remove(&id);
            self.values.remove(&id);
        }
    }

    /// Admits a connection, which another may have to give way to.
    fn admit(&mut self, peer: PeerId, address: &Multiaddr, inbound: bool) -> Result<(), ConnectionDenied> {
        let Self { connections, parts, peers, queue, .. } = self;
        let new = Newcomer { address, inbound, wanted: peers.is_wanted(&peer) };
        let gone =
            connections.admit(&new, |peer| peers.is_wanted(peer), |id| parts.bitswap.last_activity(id));
        if let Some((peer_id, id)) =
            gone.inspect_err(|refused| tracing::debug!(%peer, %refused, "peer refused"))?
        {
            tracing::debug!(peer = %peer_id, "idle connection closed for another one");
            queue.push_back(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(id) });
        }
        Ok(())
    }

    /// Whether an address that a peer told is dialled. Only this node's own settings may cause look-ups in DNS of a small
    /// swarm, and strangers of the public network have no say in what is dialled in this one.
    fn is_dialled(&self, address: &Multiaddr) -> bool {
        match self.public {
            true => !address::ip(address).is_some_and(address::is_private),
            false => !address::is_dns(address),
        }
    }

    /// Dials while the query still lives: only then does Kademlia know the providers' addresses.
    fn on_providers(&mut self, id: QueryId, providers: impl IntoIterator<Item = PeerId>) {
        let Some(search) = self.searches.get_mut(&id) else { return };
        for peer in providers {
            let _ = search.found.send(peer);
            if !self.peers.is_connected(&peer) && search.dialled < PROVIDERS_DIALLED {
                search.dialled += 1;
                self.peers.want(peer);
                self.queue.push_back(ToSwarm::Dial { opts: DialOpts::peer_id(peer).build() });
            }
        }
    }
}

fn key_of(cid: &Cid) -> RecordKey {
    RecordKey::from(cid.hash().to_bytes())
}

fn kademlia(id: PeerId, store: routing::Store, always_serve: bool) -> kad::Behaviour<routing::Store> {
    let mut config = kad::Config::new(KADEMLIA);
    config
        .set_query_timeout(QUERY_TIMEOUT)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        // The announcer repeats what is announced, and can say how far it is.
        .set_provider_publication_interval(None);
    let mut kad = kad::Behaviour::with_config(id, store, config);
    if always_serve {
        kad.set_mode(Some(kad::Mode::Server));
    }
    kad
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = <Parts as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.connections.begin(id, remote)?;
        self.parts.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.connections.end(&id);
        // A peer that is refused must not take the place of another.
        let handler = self.parts.handle_established_inbound_connection(id, peer, local, remote)?;
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
            let Self { connections, parts, peers, .. } = &*self;
            // Before the handshake, which costs both sides more than the rest.
            connections.check_dial(|peer| peers.is_wanted(peer), |id| parts.bitswap.last_activity(id))?;
        }
        let mut known = self.parts.handle_pending_outbound_connection(id, peer, addresses, role)?;
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
        let handler = self.parts.handle_established_outbound_connection(id, peer, address, role, port)?;
        self.admit(peer, address, false)?;
        Ok(handler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        if let Some(handshakes) = &self.handshakes {
            handshakes.note(&event);
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
                    self.peers.want_no_more(&peer);
                }
            }
            FromSwarm::NewListenAddr(e) if self.trust_listen_addresses => {
                self.queue.push_back(ToSwarm::ExternalAddrConfirmed(e.addr.clone()));
            }
            FromSwarm::ExpiredListenAddr(e) if self.trust_listen_addresses => {
                self.queue.push_back(ToSwarm::ExternalAddrExpired(e.addr.clone()));
            }
            _ => {}
        }
        self.parts.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.parts.on_connection_handler_event(peer, id, event);
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
            match self.parts.poll(cx) {
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
