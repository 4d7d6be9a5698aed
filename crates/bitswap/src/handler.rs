//! The streams of one connection: reads those that the peer opens, and writes to its own.

mod outbox;
mod protocol;

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    PeerId,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, ConnectionId, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use tokio::sync::mpsc;

use super::{
    budget::{Budget, CountGuard, Share},
    link::{Activity, Event, Outgoing, PeerConnection, QUEUED_ANSWERS, STRIPED_STREAMS},
    server::Server,
    stream::{self, Incoming},
    striping::Reassembly,
    verify::Received,
    wire::Message,
};
use outbox::{AnswerQueue, Outbox, StreamKind};
use protocol::{Negotiated, Protocols};

/// Want messages queued for a peer that does not read. A peer with a full queue is not asked for anything.
const MAX_QUEUED_WANTS: usize = 4096;
/// The least number of bytes that an unrequested block is counted as.
const MIN_UNREQUESTED_BYTES: usize = 64;
/// Consecutive failures to open a stream before Bitswap is given up on this connection.
const MAX_ATTEMPTS: usize = 3;
/// A connection without a message for this long may be closed by the connection limits.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

type MessageWritten = (Outbox, Result<(), stream::Error>);

/// State shared by all connections.
#[derive(Clone)]
pub struct HandlerShared {
    pub events: mpsc::UnboundedSender<Event>,
    pub unverified: mpsc::Sender<Received>,
    pub server: Arc<Server>,
    pub budget: Arc<Budget>,
}

/// The handler of one connection.
pub struct Handler {
    peer: PeerId,
    connection: ConnectionId,
    shared: HandlerShared,
    activity: Arc<Activity>,
    share: Arc<Share>,
    /// Whether the peer ever wanted something.
    peer_wants: Arc<AtomicBool>,
    reading: FuturesUnordered<BoxFuture<'static, Result<(), stream::Error>>>,
    writing: FuturesUnordered<BoxFuture<'static, MessageWritten>>,
    /// Queues that wait for a stream.
    waiting: Vec<Outbox>,
    streams_to_open: VecDeque<StreamKind>,
    failures: usize,
    answers: Arc<AnswerQueue>,
    /// Whether the striped streams were requested already.
    striping_started: bool,
    /// Messages received in stripes.
    reassembly: Arc<Reassembly>,
    /// The channels to this peer, given to the client and the server when the first stream is open.
    pending_senders: Option<(mpsc::Sender<Message>, mpsc::Sender<Outgoing>)>,
}

impl Handler {
    pub(super) fn new(peer: PeerId, connection: ConnectionId, shared: HandlerShared) -> Self {
        let (wants, want_queue) = mpsc::channel(MAX_QUEUED_WANTS);
        let share = shared.budget.share(peer);
        let (answers, answer_queue) = mpsc::channel(QUEUED_ANSWERS);
        let queued = AnswerQueue::new(answer_queue);
        Self {
            peer,
            connection,
            shared,
            activity: Arc::new(Activity::new()),
            share,
            peer_wants: Arc::default(),
            reading: FuturesUnordered::new(),
            writing: FuturesUnordered::new(),
            waiting: vec![
                Outbox::Wants(want_queue, None),
                Outbox::Answers(StreamKind::Answers, queued.clone(), None),
            ],
            // Opened before they are needed, since opening costs a round trip.
            streams_to_open: [StreamKind::Wants, StreamKind::Answers].into(),
            failures: 0,
            answers: queued,
            striping_started: false,
            reassembly: Arc::default(),
            pending_senders: Some((wants, answers)),
        }
    }

    /// Returns the connection's activity clock.
    pub(super) fn activity(&self) -> Arc<Activity> {
        self.activity.clone()
    }

    fn opened(&mut self, mut negotiated: Negotiated, kind: StreamKind) {
        let version = negotiated.version;
        negotiated.stream.ignore_for_keep_alive();
        if negotiated.striped {
            self.answers.set_striped();
            self.shared.server.mark_striping(self.peer);
        }
        self.failures = 0;
        if let Some((wants, answers)) = self.pending_senders.take() {
            let (peer, connection, activity) = (self.peer, self.connection, self.activity.clone());
            self.shared.server.opened(peer, connection, answers);
            let share = self.share.clone();
            let opened = PeerConnection { peer, connection, wants, version, activity, share };
            let _ = self.shared.events.send(Event::Opened(opened));
        }
        let Some(index) = self.waiting.iter().position(|outbox| outbox.kind() == kind) else { return };
        let outbox = self.waiting.swap_remove(index);
        let budget = self.shared.budget.clone();
        self.writing.push(write_all(negotiated, outbox, budget, self.activity.clone()).boxed());
    }

    fn accepted(&mut self, mut negotiated: Negotiated) {
        negotiated.stream.ignore_for_keep_alive();
        if let Some(stream) = self.share.stream() {
            let reader = StreamReader {
                peer: self.peer,
                connection: self.connection,
                shared: self.shared.clone(),
                activity: self.activity.clone(),
                share: self.share.clone(),
                reassembly: self.reassembly.clone(),
                peer_wants: self.peer_wants.clone(),
                _stream: stream,
            };
            self.reading.push(reader.read_all(negotiated).boxed());
        }
    }

    /// Opens the striped streams when they are needed for the first time.
    fn open_striped_streams(&mut self) {
        if self.peer_wants.load(Ordering::Relaxed) && !std::mem::replace(&mut self.striping_started, true) {
            for _ in 0..STRIPED_STREAMS {
                self.waiting.push(Outbox::Answers(StreamKind::Striped, self.answers.clone(), None));
                self.streams_to_open.push_back(StreamKind::Striped);
            }
        }
    }

    fn failed(&mut self, kind: StreamKind) {
        self.failures += 1;
        if self.failures < MAX_ATTEMPTS {
            self.streams_to_open.push_back(kind);
        } else {
            self.close();
        }
    }

    /// Reports that the peer does not speak Bitswap on this connection, or no longer does.
    fn close(&mut self) {
        self.striping_started = true;
        self.waiting.clear();
        self.streams_to_open.clear();
        // The peer may have sent wants before a stream for answers was open.
        self.shared.server.closed(&self.peer, self.connection);
        if self.pending_senders.take().is_none() {
            let _ = self.shared.events.send(Event::Closed(self.peer, self.connection));
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.close();
    }
}

/// Reads the messages of one inbound stream.
struct StreamReader {
    peer: PeerId,
    connection: ConnectionId,
    shared: HandlerShared,
    activity: Arc<Activity>,
    share: Arc<Share>,
    reassembly: Arc<Reassembly>,
    peer_wants: Arc<AtomicBool>,
    _stream: CountGuard,
}

impl StreamReader {
    async fn next(&self, from: &mut Negotiated) -> Result<Option<Incoming>, stream::Error> {
        let activity = || self.activity.record_received();
        match from.striped {
            true => self.reassembly.read(&mut from.stream, &self.share, activity).await,
            false => stream::read(&mut from.stream, &self.share, activity).await,
        }
    }

    async fn read_all(self, mut from: Negotiated) -> Result<(), stream::Error> {
        while let Some(incoming) = self.next(&mut from).await? {
            let Message { wants, full, blocks, presences, .. } = incoming.message;
            if full || !wants.is_empty() {
                self.peer_wants.store(true, Ordering::Relaxed);
                self.shared.server.wanted(self.peer, self.connection, full, wants);
            }
            if !self.share.has_open_requests() {
                self.share.unrequested(
                    blocks.iter().map(|block| block.data.len().max(MIN_UNREQUESTED_BYTES)).sum(),
                );
            } else if !blocks.is_empty() || !presences.is_empty() {
                let received = Received { peer: self.peer, presences, blocks, memory: incoming.memory };
                if self.shared.unverified.send(received).await.is_err() {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Writes messages until the stream breaks. Returns the queue with the unwritten message.
async fn write_all(
    mut to: Negotiated,
    mut outbox: Outbox,
    budget: Arc<Budget>,
    activity: Arc<Activity>,
) -> MessageWritten {
    while outbox.fill(to.striped).await {
        if let Err(error) = outbox.write(&mut to, &budget.upload, &activity).await {
            return (outbox, Err(error));
        }
        outbox.clear();
    }
    (outbox, Ok(()))
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Protocols;
    type OutboundProtocol = Protocols;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = StreamKind;

    fn listen_protocol(&self) -> SubstreamProtocol<Protocols> {
        SubstreamProtocol::new(Protocols { striped: true }, ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.activity.last().elapsed() < IDLE_TIMEOUT
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Protocols, Protocols, (), StreamKind>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.accepted(protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                self.opened(protocol, info)
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, .. }) => self.failed(info),
            _ => {}
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Protocols, StreamKind, Infallible>> {
        while let Poll::Ready(Some(read)) = self.reading.poll_next_unpin(cx) {
            if let Err(error) = read {
                tracing::debug!(peer = %self.peer, %error, "stream closed");
            }
        }
        self.open_striped_streams();
        while let Poll::Ready(Some((outbox, written))) = self.writing.poll_next_unpin(cx) {
            if let Err(error) = written {
                tracing::debug!(peer = %self.peer, %error, "stream failed; opening another one");
                self.streams_to_open.push_back(outbox.kind());
                self.waiting.push(outbox);
            }
        }
        match self.streams_to_open.pop_front() {
            Some(kind) => Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(Protocols { striped: kind == StreamKind::Striped }, kind),
            }),
            None => Poll::Pending,
        }
    }
}
