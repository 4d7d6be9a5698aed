//! The contract between a connection and the two halves of Bitswap: a connection reports to the client and the server,
//! and carries their messages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use libp2p::{PeerId, swarm::ConnectionId};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, mpsc, watch},
    time::Instant,
};

use super::{
    budget::{MemoryLease, Share},
    session::{Inquiry, WantedBlock},
    slots::SendSlot,
    wire::{Message, Version},
};
use crate::{Block, Cid};

/// Answers queued between reading the disk and writing the stream.
pub const QUEUED_ANSWERS: usize = 1;
/// Further streams for answers, opened once the peer wants something. A stream's window starts at 256 KiB and doubles
/// with each round trip, so on a long path several streams reach full speed sooner than one.
pub const STRIPED_STREAMS: usize = 8;

/// A connection to a peer, which is ready for wants.
pub struct PeerConnection {
    pub peer: PeerId,
    pub connection: ConnectionId,
    /// Read by `Outbox::Wants` of `handler/outbox.rs`, which writes it to the stream.
    pub wants: mpsc::Sender<Message>,
    pub version: Version,
    pub activity: Arc<Activity>,
    pub share: Arc<Share>,
}

/// Input of the client task, from connections and from block fetchers.
pub enum Event {
    /// A connection is ready for wants.
    Opened(PeerConnection),
    /// A connection was closed.
    Closed(PeerId, ConnectionId),
    /// Starts a session; its blocks are sent to the channel.
    Begin(u64, mpsc::UnboundedSender<FetchedBlock>),
    /// Sends the progress of asking connected peers for a block to the channel.
    Inquire(u64, Cid, watch::Sender<Option<Inquiry>>),
    Want(u64, Vec<WantedBlock>),
    Prefer(u64, Cid),
    Unwant(u64, Vec<Cid>),
    End(u64),
}

/// A verified block, with its share of its connection's memory.
#[derive(Clone, Debug)]
pub struct FetchedBlock {
    /// The block.
    pub block: Block,
    pub(super) _memory: Option<Arc<MemoryLease>>,
}

/// The times of a connection's last activity, in milliseconds since it was opened.
#[derive(Debug)]
pub struct Activity {
    since: Instant,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Activity {
    pub fn new() -> Self {
        Self { since: Instant::now(), sent: AtomicU64::new(0), received: AtomicU64::new(0) }
    }

    /// Records that bytes are sent now.
    pub fn record_sent(&self) {
        self.sent.store(self.millis(), Ordering::Relaxed);
    }

    /// Records that bytes are received now.
    pub fn record_received(&self) {
        self.received.store(self.millis(), Ordering::Relaxed);
    }

    /// Returns when bytes were last sent or received.
    pub fn last(&self) -> Instant {
        self.last_received().max(self.at(&self.sent))
    }

    /// Returns when bytes were last received.
    pub fn last_received(&self) -> Instant {
        self.at(&self.received)
    }

    fn millis(&self) -> u64 {
        self.since.elapsed().as_millis() as u64
    }

    fn at(&self, millis: &AtomicU64) -> Instant {
        self.since + Duration::from_millis(millis.load(Ordering::Relaxed))
    }
}

/// A message of the server for a peer, with its share of the memory for answers.
pub struct Outgoing {
    pub message: Message,
    /// Dropped first: a peer that waits for a slot comes before the peer that this message is for.
    pub(super) _slot: Option<SendSlot>,
    pub(super) _in_flight: InFlightGuard,
    pub(super) _memory: Option<OwnedSemaphorePermit>,
}

#[cfg(test)]
impl Outgoing {
    pub fn unbound(message: Message) -> Self {
        Self { message, _memory: None, _in_flight: InFlight::new(Arc::default()).begin(), _slot: None }
    }
}

/// The number of messages to one peer that are not written yet.
pub struct InFlight {
    messages: AtomicUsize,
    /// Notified when a message was written.
    more: Arc<Notify>,
}

impl InFlight {
    pub fn new(more: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { messages: AtomicUsize::new(0), more })
    }

    /// Counts a message until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlightGuard {
        self.messages.fetch_add(1, Ordering::Relaxed);
        InFlightGuard(self.clone())
    }

    pub fn count(&self) -> usize {
        self.messages.load(Ordering::Relaxed)
    }
}

/// Counts a message as in flight until it is written or dropped.
pub struct InFlightGuard(Arc<InFlight>);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.messages.fetch_sub(1, Ordering::Relaxed);
        self.0.more.notify_one();
    }
}
