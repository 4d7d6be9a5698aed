//! The streams of one connection: those that the peer opens are read, some of ours are written to.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{self, Ready},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    PeerId, Stream, StreamProtocol,
    core::{
        UpgradeInfo,
        upgrade::{InboundUpgrade, OutboundUpgrade},
    },
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, ConnectionId, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use tokio::{
    sync::{Mutex, mpsc},
    time::Instant,
};

use super::{
    Shared,
    budget::{Counted, Share},
    engine::{Event, Peer},
    parts::{self, Open, Part, Queue},
    server::Outgoing,
    stream::{self, Incoming},
    verify::Received,
    wire::{Message, Version},
};

/// Messages with wants that a peer has not read yet. One that leaves more unread is not asked for anything.
const WANTS_QUEUED: usize = 4096;
/// What a block that was not requested counts as at least.
const SHORTEST: usize = 64;
/// Messages with blocks between the reading of the disk and the stream.
pub const LANE: usize = 1;
/// Further streams for answers once the peer wants something. A stream's window begins at 256 KiB and doubles with each
/// round trip: over a long way several are wide sooner than one.
pub const MORE_LANES: usize = 8;
/// A lane that cannot be opened so often in a row is given up.
const ATTEMPTS: usize = 3;
/// A connection without a message for so long may be closed by those who count connections.
const IDLE: Duration = Duration::from_secs(30);

/// When a peer was last heard, in milliseconds since the connection began.
#[derive(Debug)]
pub struct Heard {
    since: Instant,
    millis: AtomicU64,
}

impl Heard {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), millis: AtomicU64::new(0) }
    }

    fn now(&self) {
        self.millis.store(self.since.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// When bytes last moved.
    pub fn last(&self) -> Instant {
        self.since + Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }
}

/// The names of Bitswap on a stream, with or without that of messages in parts.
#[derive(Clone, Copy, Debug)]
pub struct Protocols {
    parts: bool,
}

/// A stream and what is spoken on it.
pub struct Negotiated {
    stream: Stream,
    version: Version,
    parts: bool,
}

impl Protocols {
    fn negotiated(stream: Stream, name: &StreamProtocol) -> Ready<Result<Negotiated, Infallible>> {
        let (parts, version) = (*name == parts::PROTOCOL, Version::of(name));
        future::ready(Ok(Negotiated { stream, version, parts }))
    }
}

impl UpgradeInfo for Protocols {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        let parts = self.parts.then_some(parts::PROTOCOL).into_iter();
        let names: Vec<_> = parts.chain(Version::PROTOCOLS.map(|(name, _)| name)).collect();
        names.into_iter()
    }
}

impl InboundUpgrade<Stream> for Protocols {
    type Output = Negotiated;
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        Self::negotiated(stream, &name)
    }
}

impl OutboundUpgrade<Stream> for Protocols {
    type Output = Negotiated;
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        Self::negotiated(stream, &name)
    }
}

/// What a stream of ours carries: wants must not queue behind blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Wants,
    Answers,
    /// Answers too, in parts where the peer knows how. It is asked only then, since the question may cost a round trip.
    More,
}

/// What is written to a lane, and what was to be written when its stream broke.
enum Outbox {
    Wants(mpsc::Receiver<Message>, Option<Message>),
    Answers(Lane, Arc<Answers>, Option<Answer>),
}

enum Answer {
    Whole(Outgoing),
    Part(Part),
}

/// The answers to a peer, for whichever lane is free.
struct Answers {
    queue: Mutex<Queue>,
    /// The peer takes parts: what goes whole would only be slower.
    in_parts: AtomicBool,
}

impl Answers {
    async fn next(&self, parts: bool) -> Option<Answer> {
        let mut queue = self.queue.lock().await;
        if parts {
            return queue.part().await.map(Answer::Part);
        }
        if !self.in_parts.load(Ordering::Relaxed) {
            let whole = queue.whole().await?;
            // Lanes for parts may have been opened meanwhile.
            if !self.in_parts.load(Ordering::Relaxed) {
                return Some(Answer::Whole(whole));
            }
            queue.cut(whole);
        }
        drop(queue);
        future::pending().await
    }
}

impl Outbox {
    fn lane(&self) -> Lane {
        match self {
            Self::Wants(..) => Lane::Wants,
            Self::Answers(lane, ..) => *lane,
        }
    }

    /// Waits until there is something to say; false when there never will be.
    async fn fill(&mut self, parts: bool) -> bool {
        match self {
            Self::Wants(queue, next) => {
                if next.is_none() {
                    *next = queue.recv().await;
                }
                next.is_some()
            }
            Self::Answers(_, answers, next) => {
                if next.is_none() {
                    *next = answers.next(parts).await;
                }
                next.is_some()
            }
        }
    }

    /// Writes what there is.
    async fn write(&self, to: &mut Negotiated, heard: &Heard) -> Result<(), stream::Error> {
        let (stream, heard) = (&mut to.stream, || heard.now());
        match self {
            Self::Wants(_, Some(message))
            | Self::Answers(_, _, Some(Answer::Whole(Outgoing { message, .. }))) => {
                stream::write(stream, &message.encode(to.version), heard).await
            }
            Self::Answers(_, _, Some(Answer::Part(part))) => part.write(stream, heard).await,
            Self::Wants(_, None) | Self::Answers(_, _, None) => Ok(()),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Wants(_, next) => *next = None,
            Self::Answers(_, _, next) => *next = None,
        }
    }
}

type Written = (Outbox, Result<(), stream::Error>);

/// One connection.
pub struct Handler {
    peer: PeerId,
    connection: ConnectionId,
    shared: Shared,
    heard: Arc<Heard>,
    share: Arc<Share>,
    /// Whether the peer ever wanted something.
    asked: Arc<AtomicBool>,
    reading: FuturesUnordered<BoxFuture<'static, Result<(), stream::Error>>>,
    writing: FuturesUnordered<BoxFuture<'static, Written>>,
    /// Lanes that wait for a stream.
    waiting: Vec<Outbox>,
    /// Lanes to ask a stream for.
    requests: VecDeque<Lane>,
    failures: usize,
    answers: Arc<Answers>,
    /// Whether the further lanes for answers are asked for already.
    wide: bool,
    /// What comes in parts.
    open: Arc<Open>,
    /// How the peer is reached; told to the engine when the first lane is open.
    unannounced: Option<(mpsc::Sender<Message>, mpsc::Sender<Outgoing>)>,
}

impl Handler {
    pub(super) fn new(peer: PeerId, connection: ConnectionId, shared: Shared) -> Self {
        let (wants, want_queue) = mpsc::channel(WANTS_QUEUED);
        let share = shared.budget.share(peer);
        let (answers, answer_queue) = mpsc::channel(LANE);
        let queue = Mutex::new(Queue::new(answer_queue));
        let queued = Arc::new(Answers { queue, in_parts: AtomicBool::new(false) });
        Self {
            peer,
            connection,
            shared,
            heard: Arc::new(Heard::new()),
            share,
            asked: Arc::default(),
            reading: FuturesUnordered::new(),
            writing: FuturesUnordered::new(),
            waiting: vec![
                Outbox::Wants(want_queue, None),
                Outbox::Answers(Lane::Answers, queued.clone(), None),
            ],
            // Opened before they are needed: opening costs a round trip.
            requests: [Lane::Wants, Lane::Answers].into(),
            failures: 0,
            answers: queued,
            wide: false,
            open: Arc::default(),
            unannounced: Some((wants, answers)),
        }
    }

    /// When this connection was last heard.
    pub(super) fn heard(&self) -> Arc<Heard> {
        self.heard.clone()
    }

    fn opened(&mut self, mut negotiated: Negotiated, lane: Lane) {
        let version = negotiated.version;
        negotiated.stream.ignore_for_keep_alive();
        if negotiated.parts {
            self.answers.in_parts.store(true, Ordering::Relaxed);
            self.shared.server.is_kin(self.peer);
        }
        self.failures = 0;
        if let Some((wants, answers)) = self.unannounced.take() {
            let (peer, connection, heard) = (self.peer, self.connection, self.heard.clone());
            self.shared.server.opened(peer, connection, answers);
            let share = self.share.clone();
            let opened = Peer { peer, connection, wants, version, heard, share };
            let _ = self.shared.events.send(Event::Opened(opened));
        }
        let Some(index) = self.waiting.iter().position(|outbox| outbox.lane() == lane) else { return };
        let outbox = self.waiting.swap_remove(index);
        self.writing.push(write_all(negotiated, outbox, self.heard.clone()).boxed());
    }

    fn accepted(&mut self, mut negotiated: Negotiated) {
        negotiated.stream.ignore_for_keep_alive();
        if let Some(stream) = self.share.stream() {
            let inbox = Inbox {
                peer: self.peer,
                connection: self.connection,
                shared: self.shared.clone(),
                heard: self.heard.clone(),
                share: self.share.clone(),
                open: self.open.clone(),
                asked: self.asked.clone(),
                _stream: stream,
            };
            self.reading.push(inbox.read_all(negotiated).boxed());
        }
    }

    /// Opens the further lanes for answers, when they are needed for the first time.
    fn widen(&mut self) {
        if self.asked.load(Ordering::Relaxed) && !std::mem::replace(&mut self.wide, true) {
            for _ in 0..MORE_LANES {
                self.waiting.push(Outbox::Answers(Lane::More, self.answers.clone(), None));
                self.requests.push_back(Lane::More);
            }
        }
    }

    fn failed(&mut self, lane: Lane) {
        self.failures += 1;
        if self.failures < ATTEMPTS {
            self.requests.push_back(lane);
        } else {
            self.close();
        }
    }

    /// Tells that the peer does not speak Bitswap, or no longer does.
    fn close(&mut self) {
        self.wide = true;
        self.waiting.clear();
        self.requests.clear();
        // It may have said what it wants before it could be answered.
        self.shared.server.closed(&self.peer, self.connection);
        if self.unannounced.take().is_none() {
            let _ = self.shared.events.send(Event::Closed(self.peer, self.connection));
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.close();
    }
}

/// Where what is read goes.
struct Inbox {
    peer: PeerId,
    connection: ConnectionId,
    shared: Shared,
    heard: Arc<Heard>,
    share: Arc<Share>,
    open: Arc<Open>,
    asked: Arc<AtomicBool>,
    _stream: Counted,
}

impl Inbox {
    async fn next(&self, from: &mut Negotiated) -> Result<Option<Incoming>, stream::Error> {
        let heard = || self.heard.now();
        match from.parts {
            true => self.open.read(&mut from.stream, &self.share, heard).await,
            false => stream::read(&mut from.stream, &self.share, heard).await,
        }
    }

    async fn read_all(self, mut from: Negotiated) -> Result<(), stream::Error> {
        while let Some(incoming) = self.next(&mut from).await? {
            let Message { wants, full, blocks, presences, .. } = incoming.message;
            if full || !wants.is_empty() {
                self.asked.store(true, Ordering::Relaxed);
                self.shared.server.wanted(self.peer, self.connection, full, wants);
            }
            if !self.share.owes() {
                self.share.unrequested(blocks.iter().map(|block| block.data.len().max(SHORTEST)).sum());
            } else if !blocks.is_empty() || !presences.is_empty() {
                let received = Received { peer: self.peer, presences, blocks, room: incoming.room };
                if self.shared.unverified.send(received).await.is_err() {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Writes what comes until the stream breaks; what could not be written is given back.
async fn write_all(mut to: Negotiated, mut outbox: Outbox, heard: Arc<Heard>) -> Written {
    while outbox.fill(to.parts).await {
        if let Err(error) = outbox.write(&mut to, &heard).await {
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
    type OutboundOpenInfo = Lane;

    fn listen_protocol(&self) -> SubstreamProtocol<Protocols> {
        SubstreamProtocol::new(Protocols { parts: true }, ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.heard.last().elapsed() < IDLE
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Protocols, Protocols, (), Lane>) {
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

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Protocols, Lane, Infallible>> {
        while let Poll::Ready(Some(read)) = self.reading.poll_next_unpin(cx) {
            if let Err(error) = read {
                tracing::debug!(peer = %self.peer, %error, "a stream was given up");
            }
        }
        self.widen();
        while let Poll::Ready(Some((outbox, written))) = self.writing.poll_next_unpin(cx) {
            if let Err(error) = written {
                tracing::debug!(peer = %self.peer, %error, "a stream broke, another is opened");
                self.requests.push_back(outbox.lane());
                self.waiting.push(outbox);
            }
        }
        match self.requests.pop_front() {
            Some(lane) => Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(Protocols { parts: lane == Lane::More }, lane),
            }),
            None => Poll::Pending,
        }
    }
}
