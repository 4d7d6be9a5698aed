//! A provider that is reached without Bitswap: the caller takes the wants that sessions have of it, and passes on its
//! answers. To sessions it is a peer like any other, with a window, a latency and deadlines on progress.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use libp2p::{PeerId, swarm::ConnectionId};
use ocipfs_block::is_block;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    Block, Cid,
    budget::{Budget, MemoryLease, READ_STEP, Reservation, Share},
    buffer_pool::Buffer,
    ledger::URGENT,
    link::{Activity, Event, PeerConnection},
    stream::max_duration,
    verify::Verified,
    wire::{MAX_BLOCK, Message, Version, WantlistEntry},
};

/// Want messages queued for a link that does not take them; then it is not asked any more.
const MAX_QUEUED_WANTS: usize = 4096;
/// A body without a byte for this long is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// What links need of the client task.
pub(crate) struct Links {
    events: mpsc::UnboundedSender<Event>,
    verified: mpsc::Sender<Verified>,
    budget: Arc<Budget>,
    /// The number of links so far.
    opened: AtomicUsize,
}

/// The wants that sessions have of a provider. Dropping it removes the provider from all sessions.
pub struct ProviderWants {
    peer: PeerId,
    connection: ConnectionId,
    events: mpsc::UnboundedSender<Event>,
    messages: mpsc::Receiver<Message>,
    entries: VecDeque<WantlistEntry>,
}

/// The way for a provider's answers.
#[derive(Clone)]
pub struct ProviderAnswers {
    peer: PeerId,
    verified: mpsc::Sender<Verified>,
    share: Arc<Share>,
    activity: Arc<Activity>,
}

/// Why a block was not received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError<E> {
    /// The provider sent other bytes than the block.
    #[error("wrong bytes for block {0}")]
    Wrong(Cid),
    /// No block is as long.
    #[error("body longer than a block: the limit is {MAX_BLOCK} bytes")]
    TooLong,
    /// The body has another length than announced.
    #[error("body of {received} bytes, {announced} were announced")]
    Length {
        /// The announced length.
        announced: usize,
        /// The length of the body.
        received: usize,
    },
    /// No byte arrived for some time.
    #[error("no byte arrived for {} s", STALL_TIMEOUT.as_secs())]
    Stalled,
    /// The body arrived too slowly.
    #[error("body arrived too slowly")]
    Slow,
    /// Other peers need the memory.
    #[error("memory needed by other peers")]
    NoMemory,
    /// The body broke off.
    #[error(transparent)]
    Body(E),
    /// The node is stopping.
    #[error("node is stopping")]
    Stopped,
}

impl WantlistEntry {
    /// Returns whether a reader waits for the block.
    pub fn is_urgent(&self) -> bool {
        self.priority == URGENT
    }
}

impl Links {
    pub fn new(
        events: mpsc::UnboundedSender<Event>,
        verified: mpsc::Sender<Verified>,
        budget: Arc<Budget>,
    ) -> Arc<Self> {
        Arc::new(Self { events, verified, budget, opened: AtomicUsize::new(0) })
    }

    /// Adds a provider to all sessions, under an id that no peer has.
    pub fn open(&self, peer: PeerId) -> (ProviderWants, ProviderAnswers) {
        let (wants, messages) = mpsc::channel(MAX_QUEUED_WANTS);
        let connection = ConnectionId::new_unchecked(self.opened.fetch_add(1, Ordering::Relaxed));
        let (share, activity) = (self.budget.share(peer), Arc::new(Activity::new()));
        let opened = PeerConnection {
            peer,
            connection,
            wants,
            version: Version::V1_2,
            activity: activity.clone(),
            share: share.clone(),
        };
        let events = self.events.clone();
        let _ = events.send(Event::Opened(opened));
        let wants = ProviderWants { peer, connection, events, messages, entries: VecDeque::new() };
        (wants, ProviderAnswers { peer, verified: self.verified.clone(), share, activity })
    }
}

impl ProviderWants {
    /// Waits for the next want or cancel; `None` if the provider is no longer asked. Cancel safe.
    pub async fn next(&mut self) -> Option<WantlistEntry> {
        loop {
            if let Some(entry) = self.entries.pop_front() {
                return Some(entry);
            }
            self.entries.extend(self.messages.recv().await?.wants);
        }
    }
}

impl Drop for ProviderWants {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Closed(self.peer, self.connection));
    }
}

impl ProviderAnswers {
    /// Records that the provider sent something.
    pub fn record_progress(&self) {
        self.activity.record_received();
    }

    /// Passes on whether the provider has a block.
    pub async fn presence(&self, cid: Cid, have: bool) {
        self.record_progress();
        let _ = self.send(vec![(cid, have)], Vec::new(), 0, Arc::default()).await;
    }

    /// Receives and verifies a block, whose length is announced or not. A provider that sends a wrong block is dropped from
    /// all sessions.
    pub async fn block<E>(
        &self,
        cid: Cid,
        announced: Option<u64>,
        body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<(), ReceiveError<E>> {
        let length = match announced.map(usize::try_from) {
            None => None,
            Some(Ok(length)) if length <= MAX_BLOCK => Some(length),
            Some(_) => return Err(ReceiveError::TooLong),
        };
        let mut memory =
            self.share.reserve(length.unwrap_or(MAX_BLOCK)).await.map_err(|_| ReceiveError::NoMemory)?;
        let evicted = memory.evicted();
        let read = self.read(length, body, &mut memory);
        let data = evicted.run_until_cancelled(read).await.unwrap_or(Err(ReceiveError::NoMemory))?;
        let (block, memory) = (Block { cid, data }, memory.finish());
        let hashed = tokio::task::spawn_blocking(move || is_block(&block.cid, &block.data).then_some(block));
        let Some(block) = hashed.await.map_err(|_| ReceiveError::Stopped)? else {
            let _ = self.send(Vec::new(), Vec::new(), 1, Arc::default()).await;
            return Err(ReceiveError::Wrong(cid));
        };
        self.send(Vec::new(), vec![block], 0, memory).await.map_err(|_| ReceiveError::Stopped)
    }

    async fn read<E>(
        &self,
        length: Option<usize>,
        mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
        memory: &mut Reservation,
    ) -> Result<Bytes, ReceiveError<E>> {
        let most = length.unwrap_or(MAX_BLOCK);
        let deadline = Instant::now() + max_duration(most);
        let (mut bytes, mut filled, mut counted) = (Buffer::reusable(most), 0, 0);
        loop {
            let next = timeout(STALL_TIMEOUT, body.next());
            let next = timeout_at(deadline, next).await.map_err(|_| ReceiveError::Slow)?;
            let Some(chunk) = next.map_err(|_| ReceiveError::Stalled)? else { break };
            let chunk = chunk.map_err(ReceiveError::Body)?;
            self.record_progress();
            let end = filled + chunk.len();
            if end > most {
                return Err(length.map_or(ReceiveError::TooLong, |announced| ReceiveError::Length {
                    announced,
                    received: end,
                }));
            }
            if end > counted {
                let next = (2 * counted).max(READ_STEP).max(end).min(most);
                memory.grow(next - counted).await.map_err(|_| ReceiveError::NoMemory)?;
                counted = next;
            }
            if bytes.len() < end {
                bytes.resize(counted, 0);
            }
            bytes[filled..end].copy_from_slice(&chunk);
            filled = end;
        }
        match length {
            Some(announced) if announced != filled => {
                Err(ReceiveError::Length { announced, received: filled })
            }
            _ => Ok(Buffer::of(bytes, filled).freeze()),
        }
    }

    async fn send(
        &self,
        presences: Vec<(Cid, bool)>,
        blocks: Vec<Block>,
        unusable: usize,
        memory: Arc<MemoryLease>,
    ) -> Result<(), mpsc::error::SendError<Verified>> {
        let verified = Verified { peer: self.peer, presences, blocks, unusable, memory };
        self.verified.send(verified).await
    }
}

#[cfg(test)]
mod tests;
