//! Striping: messages in stripes over several streams at once, between peers that both support it.
//!
//! A stream's window starts at 256 KiB and doubles with each round trip, so a block of 1 MiB takes four round trips
//! over one stream, and one over eight. Once the windows have grown, messages are sent whole again.
//!
//! ```text
//!   whole:   varint length, varint 0, the message
//!   stripe:   varint length of the message, varint its number (not 0), varint index of the stripe, the stripe
//! ```
//!
//! All stripes but the last have [`STRIPE_SIZE`] bytes. Incomplete messages have [`MAX_STRIPED_BYTES`] bytes at most.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, VecDeque, hash_map::Entry},
    future,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::{Bytes, BytesMut};
use futures::AsyncRead;
use libp2p::StreamProtocol;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{self, Instant},
};

use super::{
    budget::{self, Reservation, Share},
    buffer_pool::Buffer,
    link::Outgoing,
    stream::{self, Error, Incoming},
    wire::{MAX_MESSAGE, Malformed, Message, Version, fields::put_varint},
};
use crate::locked;

/// The protocol of a striped stream; its messages are those of Bitswap 1.2.
pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/ocipfs/bitswap-stripes/1.0.0");
/// Bytes of a stripe.
pub const STRIPE_SIZE: usize = 128 << 10;
/// Bytes of striped messages in one connection: by then the windows are wide. The receiver's limit is the same, so
/// stripes never wait there for memory that other stripes hold.
pub const MAX_STRIPED_BYTES: usize = 8 << 20;

/// A message, or a stripe of one, for one stream.
pub struct Stripe {
    whole: Arc<StripedMessage>,
    /// `None` if it is the whole message.
    index: Option<usize>,
}

struct StripedMessage {
    number: u64,
    pieces: Vec<Bytes>,
    length: usize,
    /// Counts as in flight until the last stripe is written.
    _outgoing: Outgoing,
}

impl Stripe {
    /// Returns the stripe as it is sent.
    pub fn pieces(&self) -> Vec<Bytes> {
        let StripedMessage { number, length, pieces, .. } = &*self.whole;
        let mut head = BytesMut::with_capacity(16);
        put_varint(&mut head, *length as u64);
        let Some(index) = self.index else {
            put_varint(&mut head, 0);
            return std::iter::once(head.freeze()).chain(pieces.iter().cloned()).collect();
        };
        put_varint(&mut head, *number);
        put_varint(&mut head, index as u64);
        let (start, mut at) = (index * STRIPE_SIZE, 0);
        let mut out = vec![head.freeze()];
        for piece in pieces {
            let (from, to) = (start.max(at), (start + STRIPE_SIZE).min(at + piece.len()));
            if from < to {
                out.push(piece.slice(from - at..to - at));
            }
            at += piece.len();
        }
        out
    }
}

/// The answers to a peer, in the order in which they are sent.
pub struct SendQueue {
    messages: mpsc::Receiver<Outgoing>,
    stripes: VecDeque<Stripe>,
    /// The number of striped messages so far, and their bytes.
    cut: (u64, usize),
}

impl SendQueue {
    pub fn new(messages: mpsc::Receiver<Outgoing>) -> Self {
        Self { messages, stripes: VecDeque::new(), cut: (0, 0) }
    }

    /// Waits for the next message.
    pub async fn next_whole(&mut self) -> Option<Outgoing> {
        self.messages.recv().await
    }

    /// Waits for the next stripe.
    pub async fn next_stripe(&mut self) -> Option<Stripe> {
        if self.stripes.is_empty() {
            let outgoing = self.messages.recv().await?;
            self.cut(outgoing);
        }
        self.stripes.pop_front()
    }

    /// Cuts a message into stripes, or queues it whole if it is short or the limit is reached.
    pub fn cut(&mut self, outgoing: Outgoing) {
        let pieces = outgoing.message.pieces(Version::V1_2);
        let length = pieces.iter().map(Bytes::len).sum();
        let is_striped = length > STRIPE_SIZE && self.cut.1 + length <= MAX_STRIPED_BYTES;
        if is_striped {
            self.cut = (self.cut.0 + 1, self.cut.1 + length);
        }
        let whole = Arc::new(StripedMessage { number: self.cut.0, pieces, length, _outgoing: outgoing });
        match is_striped {
            false => self.stripes.push_back(Stripe { whole, index: None }),
            true => {
                let stripe = |index| Stripe { whole: whole.clone(), index: Some(index) };
                self.stripes.extend((0..length.div_ceil(STRIPE_SIZE)).map(stripe));
            }
        }
    }
}

/// The incomplete striped messages of one connection.
pub struct Reassembly {
    messages: Mutex<HashMap<u64, PartialMessage>>,
    memory: Arc<Semaphore>,
}

struct PartialMessage {
    stripes: BTreeMap<usize, Vec<u8>>,
    length: usize,
    /// When the last stripe must have arrived.
    deadline: Instant,
    memory: Reservation,
    _claim: OwnedSemaphorePermit,
}

impl PartialMessage {
    /// Returns the message; its memory counts as that of a whole message from now on.
    async fn finish(mut self) -> Result<Incoming, Error> {
        self.memory.claim(self.length).await?;
        let mut bytes = Buffer::reusable(self.length);
        bytes.clear();
        self.stripes.into_values().for_each(|stripe| bytes.extend(stripe));
        let message = Message::decode(Buffer::of(bytes, self.length).freeze())?;
        Ok(Incoming { message, memory: self.memory.finish() })
    }
}

impl Default for Reassembly {
    fn default() -> Self {
        Self { messages: Mutex::default(), memory: Arc::new(Semaphore::new(MAX_STRIPED_BYTES >> 10)) }
    }
}

impl Reassembly {
    fn messages(&self) -> MutexGuard<'_, HashMap<u64, PartialMessage>> {
        locked(&self.messages)
    }

    /// Adds a stripe. Returns the message if it is complete.
    fn add(
        &self,
        number: u64,
        length: usize,
        (index, stripe): (usize, Vec<u8>),
        memory: Reservation,
    ) -> Result<Option<PartialMessage>, Error> {
        let mut messages = self.messages();
        match messages.entry(number) {
            Entry::Vacant(new) => {
                let claim = self.memory.clone().try_acquire_many_owned(length.div_ceil(1024) as u32);
                let _claim = claim.map_err(|_| Malformed("too many bytes in incomplete messages"))?;
                let deadline = Instant::now() + stream::max_duration(length);
                new.insert(PartialMessage {
                    stripes: BTreeMap::from([(index, stripe)]),
                    length,
                    deadline,
                    memory,
                    _claim,
                });
            }
            Entry::Occupied(mut known) => {
                let partial = known.get_mut();
                if partial.length != length {
                    return Err(Malformed("a stripe with another message length").into());
                }
                if partial.stripes.insert(index, stripe).is_none() {
                    partial.memory.merge(memory);
                }
            }
        }
        let is_whole = |partial: &PartialMessage| partial.stripes.len() == length.div_ceil(STRIPE_SIZE);
        Ok(if messages.get(&number).is_some_and(is_whole) { messages.remove(&number) } else { None })
    }

    /// Waits until a message exceeds its deadline or other peers need its memory, then drops all incomplete messages.
    async fn expired(&self) -> Error {
        let first = {
            let messages = self.messages();
            let first = messages.values().min_by_key(|partial| partial.deadline);
            first.map(|partial| (partial.deadline, partial.memory.evicted()))
        };
        let Some((deadline, evicted)) = first else { return future::pending().await };
        let waited = time::timeout_at(deadline, evicted.cancelled()).await;
        self.messages().clear();
        waited.map_or(Error::Slow, |()| budget::Error::Evicted.into())
    }

    /// Reads until a message is complete, or returns `None` at the end.
    pub async fn read(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        share: &Arc<Share>,
        on_activity: impl Fn(),
    ) -> Result<Option<Incoming>, Error> {
        loop {
            let length = tokio::select! {
                length = stream::read_length(stream) => length?,
                error = self.expired() => return Err(error),
            };
            let Some(length) = length else { return Ok(None) };
            let number = stream::read_varint(stream).await?;
            if number == 0 {
                return stream::read_message(stream, length, share, on_activity).await.map(Some);
            }
            let index = stream::read_varint(stream).await? as usize;
            let start = index.checked_mul(STRIPE_SIZE).filter(|start| *start < length);
            let start = start.ok_or(Malformed("a stripe beyond the end of its message"))?;
            let mut memory = share.begin(length)?;
            let (mut stripe, size) = (Vec::new(), (length - start).min(STRIPE_SIZE));
            stream::read_bytes(stream, &mut stripe, size, &mut memory, &on_activity).await?;
            if let Some(whole) = self.add(number, length, (index, stripe), memory)? {
                return whole.finish().await.map(Some);
            }
        }
    }
}

const _: () =
    assert!(MAX_MESSAGE.div_ceil(STRIPE_SIZE) <= 64, "the stripes of a message are bits of a number");
