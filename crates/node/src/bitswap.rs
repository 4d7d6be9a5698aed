//! Bitswap over a store that the node does not know: `wire`, `ledger` and `session` are pure, the rest joins them.
//!
//! ```text
//!            in: message ──► verify (hashes, off the swarm's task) ──► engine (sessions) ──► who wanted the block
//! handler ◄──┤   └─ wants ──► server (ledgers) ──► store ──► out: blocks, presences
//! (streams)  └── out: wants ◄── engine
//! ```
//!
//! What peers sent and is not stored yet is bounded by the `budget`.
//! The swarm's own task sees none of it but the handlers, each polled by its connection's task.

mod budget;
mod engine;
mod handler;
mod ledger;
mod memory;
mod parts;
mod recent;
mod server;
mod session;
mod stream;
mod verify;
pub mod wire;

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
    },
};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::Blocks;
pub use budget::BlockMemory;
use budget::Budget;
pub(crate) use engine::Commands;
pub use engine::Fetched;
use engine::{Engine, Event};
use handler::{Handler, Heard};
pub(crate) use server::Server;
pub(crate) use session::Inquiry;

/// Messages between the connections and the hashing, all peers together.
const UNVERIFIED: usize = 64;
/// How long a peer is banned that sent too many unrequested bytes.
const BAN: Duration = Duration::from_secs(300);
const MAX_BANNED: usize = 4096;

/// What went over Bitswap since the start, blocks alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of blocks sent.
    pub sent_bytes: u64,
    /// Blocks sent.
    pub sent_blocks: u64,
    /// Bytes of blocks received and found right.
    pub received_bytes: u64,
    /// Blocks received and found right.
    pub received_blocks: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    sent_bytes: AtomicU64,
    sent_blocks: AtomicU64,
    received_bytes: AtomicU64,
    received_blocks: AtomicU64,
}

impl Counters {
    fn sent(&self, bytes: usize) {
        self.sent_blocks.fetch_add(1, Ordering::Relaxed);
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn received(&self, bytes: usize) {
        self.received_blocks.fetch_add(1, Ordering::Relaxed);
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn traffic(&self) -> Traffic {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            sent_bytes: read(&self.sent_bytes),
            sent_blocks: read(&self.sent_blocks),
            received_bytes: read(&self.received_bytes),
            received_blocks: read(&self.received_blocks),
        }
    }
}

/// What every connection shares.
#[derive(Clone)]
struct Shared {
    events: mpsc::UnboundedSender<Event>,
    unverified: mpsc::Sender<verify::Received>,
    server: Arc<Server>,
    budget: Arc<Budget>,
}

/// Bitswap as a part of the node's behaviour: it gives each connection its handler, and bans peers for a while that
/// sent too many unrequested bytes.
pub(crate) struct Behaviour {
    shared: Shared,
    offenders: mpsc::UnboundedReceiver<PeerId>,
    banned: HashMap<PeerId, Instant>,
    heard: HashMap<ConnectionId, Arc<Heard>>,
}

#[derive(Debug, thiserror::Error)]
#[error("peer is banned: it sent too many unrequested bytes")]
struct Banned;

impl Behaviour {
    /// When bytes last moved on a connection.
    pub(crate) fn heard(&self, id: &ConnectionId) -> Option<Instant> {
        self.heard.get(id).map(|heard| heard.last().into_std())
    }

    fn check(&self, peer: &PeerId) -> Result<(), ConnectionDenied> {
        match self.banned.get(peer) {
            Some(since) if since.elapsed() < BAN => Err(ConnectionDenied::new(Banned)),
            _ => Ok(()),
        }
    }

    fn handler(&mut self, peer: PeerId, id: ConnectionId) -> Result<Handler, ConnectionDenied> {
        self.check(&peer)?;
        let handler = Handler::new(peer, id, self.shared.clone());
        self.heard.insert(id, handler.heard());
        Ok(handler)
    }

    fn ban(&mut self, peer: PeerId) {
        tracing::warn!(%peer, "peer sent too many unrequested bytes and is disconnected for {} s", BAN.as_secs());
        if self.banned.len() >= MAX_BANNED {
            self.banned.retain(|_, since| since.elapsed() < BAN);
        }
        self.banned.insert(peer, Instant::now());
    }
}

/// Starts the tasks behind the behaviour; they end with `stop`.
pub(crate) fn start(
    blocks: Arc<dyn Blocks>,
    memory: BlockMemory,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> (Behaviour, Commands, Arc<Server>) {
    let counters = Arc::new(Counters::default());
    let ahead = budget::semaphore(memory.sent);
    let server = Arc::new(Server::new(blocks, ahead, counters.clone(), tasks.clone(), stop.clone()));
    let (events, inbox) = mpsc::unbounded_channel();
    let (unverified, received) = mpsc::channel(UNVERIFIED);
    let (verified, found) = mpsc::channel(UNVERIFIED);
    let engine = Engine::new(counters);
    let (hashing, fetching) = (stop.clone(), stop.clone());
    tasks.spawn(async move { hashing.run_until_cancelled(verify::run(received, verified)).await });
    tasks.spawn(async move { fetching.run_until_cancelled(engine.run(inbox, found)).await });
    let (budget, offenders) = Budget::new(memory);
    let shared = Shared { events: events.clone(), unverified, server: server.clone(), budget };
    let behaviour = Behaviour { shared, offenders, banned: HashMap::new(), heard: HashMap::new() };
    (behaviour, Commands::new(events), server)
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _local: &Multiaddr,
        _remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.handler(peer, id)
    }

    /// Refuses banned peers before the handshake: the routing system still names them.
    fn handle_pending_outbound_connection(
        &mut self,
        _id: ConnectionId,
        peer: Option<PeerId>,
        _addresses: &[Multiaddr],
        _role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        peer.map_or(Ok(()), |peer| self.check(&peer)).map(|()| Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _address: &Multiaddr,
        _role: Endpoint,
        _port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.handler(peer, id)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionClosed(closed) => drop(self.heard.remove(&closed.connection_id)),
            // Another part of the behaviour may refuse what this one took.
            FromSwarm::ListenFailure(failed) => drop(self.heard.remove(&failed.connection_id)),
            FromSwarm::DialFailure(failed) => drop(self.heard.remove(&failed.connection_id)),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        match self.offenders.poll_recv(cx) {
            Poll::Ready(Some(peer_id)) => {
                self.ban(peer_id);
                Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::All })
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
