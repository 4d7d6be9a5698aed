//! Bitswap, the block exchange of IPFS, as a libp2p behaviour over a block store behind a trait.
//!
//! ```text
//!             in: message ──► verify (hashes, off the swarm's task) ──► client (sessions) ──► the session that wants it
//!   handler ◄──┤   └─ wants ──► server (ledgers) ──► store ──► out: blocks, presences
//!   (streams)  └── out: wants ◄── client
//! ```
//!
//! - `wire` (messages), `ledger` (what one peer wants) and `session` (what one DAG wants of all peers) are pure.
//! - `link` is the contract between a connection and the two halves; the `client` and the `server` do not know each other.
//! - `budget` bounds received bytes that are not stored yet; `slots` bounds the large blocks that are sent at a time; `rates`
//!   bounds the bytes per second of both directions, where that is asked for.
//! - `provider_link` is the same for a provider that is reached otherwise, such as over HTTP.
//! - The swarm's task only creates the handlers; each is polled by the task of its connection.
//! - `simulation` (tests) runs a swarm of clients and servers on modelled links under a virtual clock.
//!
//! It speaks Bitswap 1.0 to 1.2, and between two peers of this crate also `/ocipfs/bitswap-stripes/1.0.0` (`striping`).
//! [`start`] returns the behaviour and the handles; README.md has an example.

#![warn(missing_docs)]

mod blocks;
mod budget;
mod buffer_pool;
mod client;
mod handler;
mod ledger;
mod link;
mod provider_link;
mod rates;
mod recent_wants;
mod server;
mod session;
#[cfg(test)]
mod simulation;
mod slots;
mod stream;
mod striping;
mod traffic;
mod unsolicited;
mod verify;
pub mod wire;

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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

pub use blocks::Blocks;
pub use budget::BlockMemory;
use budget::Budget;
use client::Client;
pub use client::ClientHandle;
use handler::{Handler, HandlerShared};
use link::Activity;
pub use link::FetchedBlock;
use ocipfs_block::as_v1;
pub use ocipfs_block::{Block, Cid, is_trusted};
use provider_link::Links;
pub use provider_link::{ProviderAnswers, ProviderWants, ReceiveError};
pub use rates::Rates;
pub use server::Server;
pub use session::Inquiry;
use traffic::Counters;
pub use traffic::Traffic;

/// Messages between the connections and the hashing task, for all peers together.
const MAX_UNVERIFIED: usize = 64;
/// How long a peer is banned after it sent too many unrequested bytes.
const BAN_DURATION: Duration = Duration::from_secs(300);
const MAX_BANNED: usize = 4096;

/// The Bitswap part of the node's behaviour: creates a handler for each connection, and bans peers that sent too many
/// unrequested bytes.
pub struct Behaviour {
    shared: HandlerShared,
    offenders: mpsc::UnboundedReceiver<PeerId>,
    banned: HashMap<PeerId, Instant>,
    activity: HashMap<ConnectionId, Arc<Activity>>,
}

#[derive(Debug, thiserror::Error)]
#[error("peer is banned: it sent too many unrequested bytes")]
struct Banned;

impl Behaviour {
    /// Returns when a connection last sent or received bytes.
    pub fn last_activity(&self, id: &ConnectionId) -> Option<Instant> {
        self.activity.get(id).map(|activity| activity.last().into_std())
    }

    fn check(&self, peer: &PeerId) -> Result<(), ConnectionDenied> {
        match self.banned.get(peer) {
            Some(since) if since.elapsed() < BAN_DURATION => Err(ConnectionDenied::new(Banned)),
            _ => Ok(()),
        }
    }

    fn handler(&mut self, peer: PeerId, id: ConnectionId) -> Result<Handler, ConnectionDenied> {
        self.check(&peer)?;
        let handler = Handler::new(peer, id, self.shared.clone());
        self.activity.insert(id, handler.activity());
        Ok(handler)
    }

    fn ban(&mut self, peer: PeerId) {
        tracing::warn!(%peer, "peer sent too many unrequested bytes and is disconnected for {} s", BAN_DURATION.as_secs());
        if self.banned.len() >= MAX_BANNED {
            self.banned.retain(|_, since| since.elapsed() < BAN_DURATION);
        }
        self.banned.insert(peer, Instant::now());
    }
}

/// Starts the Bitswap tasks, which end with `stop`.
pub fn start(
    blocks: Arc<dyn Blocks>,
    memory: BlockMemory,
    rates: Rates,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> (Behaviour, ClientHandle, Arc<Server>) {
    let counters = Arc::new(Counters::default());
    let read_ahead = budget::semaphore(memory.sent);
    let server = Arc::new(Server::new(blocks, read_ahead, counters.clone(), tasks.clone(), stop.clone()));
    let (events, inbox) = mpsc::unbounded_channel();
    let (unverified, received) = mpsc::channel(MAX_UNVERIFIED);
    let (verified, found) = mpsc::channel(MAX_UNVERIFIED);
    let client = Client::new(counters);
    let (budget, offenders) = Budget::with_rates(memory, rates);
    let links = Links::new(events.clone(), verified.clone(), budget.clone());
    let (hashing, fetching) = (stop.clone(), stop.clone());
    tasks.spawn(async move { hashing.run_until_cancelled(verify::run(received, verified)).await });
    tasks.spawn(async move { fetching.run_until_cancelled(client.run(inbox, found)).await });
    let shared = HandlerShared { events: events.clone(), unverified, server: server.clone(), budget };
    let behaviour = Behaviour { shared, offenders, banned: HashMap::new(), activity: HashMap::new() };
    (behaviour, ClientHandle::new(events, links), server)
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

    /// Refuses banned peers before the handshake; the routing system may still return them.
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
            FromSwarm::ConnectionClosed(closed) => drop(self.activity.remove(&closed.connection_id)),
            // Another behaviour may refuse a connection that this one accepted.
            FromSwarm::ListenFailure(failed) => drop(self.activity.remove(&failed.connection_id)),
            FromSwarm::DialFailure(failed) => drop(self.activity.remove(&failed.connection_id)),
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

/// Locks data that stays valid if a thread panics while it holds the lock.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
