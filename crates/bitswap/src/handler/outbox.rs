//! The messages for one outbound stream.

use std::{
    future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::{Mutex, mpsc};

use super::protocol::Negotiated;
use crate::{
    link::{Activity, Outgoing},
    rates::Pacer,
    stream,
    striping::{SendQueue, Stripe},
    wire::Message,
};

/// The purpose of an outbound stream: wants must not queue behind blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    Wants,
    Answers,
    /// Answers, in stripes if the peer supports striping. Opened only when needed, since the negotiation may cost a
    /// round trip.
    Striped,
}

/// The messages for one outbound stream, and the one that was being written when the stream broke.
pub enum Outbox {
    Wants(mpsc::Receiver<Message>, Option<Message>),
    Answers(StreamKind, Arc<AnswerQueue>, Option<QueuedAnswer>),
}

pub enum QueuedAnswer {
    Whole(Outgoing),
    Stripe(Stripe),
}

/// The answers to a peer, for the next free stream.
pub struct AnswerQueue {
    queue: Mutex<SendQueue>,
    /// Whether the peer takes stripes: then whole messages would only be slower.
    striped: AtomicBool,
}

impl AnswerQueue {
    pub fn new(messages: mpsc::Receiver<Outgoing>) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::new(SendQueue::new(messages)), striped: AtomicBool::new(false) })
    }

    /// Sends stripes from now on.
    pub fn set_striped(&self) {
        self.striped.store(true, Ordering::Relaxed);
    }

    async fn next(&self, striped: bool) -> Option<QueuedAnswer> {
        let mut queue = self.queue.lock().await;
        if striped {
            return queue.next_stripe().await.map(QueuedAnswer::Stripe);
        }
        if !self.striped.load(Ordering::Relaxed) {
            let whole = queue.next_whole().await?;
            // A striped stream may have been opened meanwhile.
            if !self.striped.load(Ordering::Relaxed) {
                return Some(QueuedAnswer::Whole(whole));
            }
            queue.cut(whole);
        }
        drop(queue);
        future::pending().await
    }
}

impl Outbox {
    pub fn kind(&self) -> StreamKind {
        match self {
            Self::Wants(..) => StreamKind::Wants,
            Self::Answers(kind, ..) => *kind,
        }
    }

    /// Waits for the next message. Returns false at the end of the queue.
    pub async fn fill(&mut self, striped: bool) -> bool {
        match self {
            Self::Wants(queue, next) => {
                if next.is_none() {
                    *next = queue.recv().await;
                }
                next.is_some()
            }
            Self::Answers(_, answers, next) => {
                if next.is_none() {
                    *next = answers.next(striped).await;
                }
                next.is_some()
            }
        }
    }

    /// Writes the current message, once the maximum rate lets it pass.
    pub async fn write(
        &self,
        to: &mut Negotiated,
        upload: &Pacer,
        activity: &Activity,
    ) -> Result<(), stream::Error> {
        let pieces = match self {
            Self::Wants(_, Some(message))
            | Self::Answers(_, _, Some(QueuedAnswer::Whole(Outgoing { message, .. }))) => {
                message.encode(to.version)
            }
            Self::Answers(_, _, Some(QueuedAnswer::Stripe(stripe))) => stripe.pieces(),
            Self::Wants(_, None) | Self::Answers(_, _, None) => return Ok(()),
        };
        let bytes = pieces.iter().map(Bytes::len).sum();
        match self {
            // Without wants the other direction would stop.
            Self::Wants(..) => upload.count(bytes),
            Self::Answers(..) => upload.pass(bytes).await,
        }
        stream::write(&mut to.stream, &pieces, || activity.record_sent()).await
    }

    pub fn clear(&mut self) {
        match self {
            Self::Wants(_, next) => *next = None,
            Self::Answers(_, _, next) => *next = None,
        }
    }
}
