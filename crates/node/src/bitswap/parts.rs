//! Messages in parts, which go over several streams at once, between nodes that both know how.
//!
//! A stream's window begins at 256 KiB and doubles with each round trip, so a block of 1 MiB that goes over one stream
//! takes four of them; over eight streams it takes one. When the windows have grown, messages go whole again.
//!
//! ```text
//! whole:   varint length, varint 0, the message
//! a part:  varint length of the message, varint its number (not 0), varint index of the part, the part
//! ```
//!
//! All parts but the last have [`PART`] bytes. What is in parts and not yet whole has [`MOST_OPEN`] bytes at most.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, VecDeque, hash_map::Entry},
    future,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::{Bytes, BytesMut};
use futures::{AsyncRead, AsyncWrite};
use libp2p::StreamProtocol;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{self, Instant},
};

use super::{
    budget::{Reservation, Share},
    memory::Buffer,
    server::Outgoing,
    stream::{self, Error, Incoming},
    wire::{MAX_MESSAGE, Malformed, Message, Version, fields::put_varint},
};
use crate::locked;

/// What a stream of parts speaks; its messages are those of Bitswap 1.2.
pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/ocipfs/bitswap-parts/1.0.0");
/// Bytes of a part.
pub const PART: usize = 128 << 10;
/// Bytes of all messages of one connection that are sent in parts: by then the windows are wide. Since no more can be
/// open at the receiver, parts never wait there for room that other parts have taken.
pub const MOST_OPEN: usize = 8 << 20;

/// A message, or a part of one, for one stream.
pub struct Part {
    whole: Arc<Whole>,
    /// Not there where it is all of the message.
    index: Option<usize>,
}

struct Whole {
    number: u64,
    pieces: Vec<Bytes>,
    length: usize,
    /// Its room and its flight end when the last part is written.
    _outgoing: Outgoing,
}

impl Part {
    fn pieces(&self) -> Vec<Bytes> {
        let Whole { number, length, pieces, .. } = &*self.whole;
        let mut head = BytesMut::with_capacity(16);
        put_varint(&mut head, *length as u64);
        let Some(index) = self.index else {
            put_varint(&mut head, 0);
            return std::iter::once(head.freeze()).chain(pieces.iter().cloned()).collect();
        };
        put_varint(&mut head, *number);
        put_varint(&mut head, index as u64);
        let (start, mut at) = (index * PART, 0);
        let mut out = vec![head.freeze()];
        for piece in pieces {
            let (from, to) = (start.max(at), (start + PART).min(at + piece.len()));
            if from < to {
                out.push(piece.slice(from - at..to - at));
            }
            at += piece.len();
        }
        out
    }

    /// Writes it to a stream.
    pub async fn write(&self, stream: &mut (impl AsyncWrite + Unpin), heard: impl Fn()) -> Result<(), Error> {
        stream::write(stream, &self.pieces(), heard).await
    }
}

/// The answers to a peer, in the order in which they leave.
pub struct Queue {
    messages: mpsc::Receiver<Outgoing>,
    parts: VecDeque<Part>,
    /// Messages that were cut so far, and their bytes.
    cut: (u64, usize),
}

impl Queue {
    pub fn new(messages: mpsc::Receiver<Outgoing>) -> Self {
        Self { messages, parts: VecDeque::new(), cut: (0, 0) }
    }

    /// Waits for the next message.
    pub async fn whole(&mut self) -> Option<Outgoing> {
        self.messages.recv().await
    }

    /// Waits for the next part.
    pub async fn part(&mut self) -> Option<Part> {
        if self.parts.is_empty() {
            let outgoing = self.messages.recv().await?;
            self.cut(outgoing);
        }
        self.parts.pop_front()
    }

    /// Makes parts of a message, or one of it all.
    pub fn cut(&mut self, outgoing: Outgoing) {
        let pieces = outgoing.message.pieces(Version::V1_2);
        let length = pieces.iter().map(Bytes::len).sum();
        let in_parts = length > PART && self.cut.1 + length <= MOST_OPEN;
        if in_parts {
            self.cut = (self.cut.0 + 1, self.cut.1 + length);
        }
        let whole = Arc::new(Whole { number: self.cut.0, pieces, length, _outgoing: outgoing });
        match in_parts {
            false => self.parts.push_back(Part { whole, index: None }),
            true => {
                let part = |index| Part { whole: whole.clone(), index: Some(index) };
                self.parts.extend((0..length.div_ceil(PART)).map(part));
            }
        }
    }
}

/// What of one connection came in parts and is not whole yet.
pub struct Open {
    messages: Mutex<HashMap<u64, Growing>>,
    room: Arc<Semaphore>,
}

struct Growing {
    parts: BTreeMap<usize, Vec<u8>>,
    length: usize,
    /// When its last part must have come.
    deadline: Instant,
    room: Reservation,
    _claim: OwnedSemaphorePermit,
}

impl Growing {
    /// The message, whose room counts from now on among that of whole messages.
    async fn finish(mut self) -> Result<Incoming, Error> {
        self.room.claim(self.length).await?;
        let mut bytes = Buffer::spare(self.length);
        bytes.clear();
        self.parts.into_values().for_each(|part| bytes.extend(part));
        let message = Message::decode(Buffer::of(bytes, self.length).freeze())?;
        Ok(Incoming { message, room: self.room.finish() })
    }
}

impl Default for Open {
    fn default() -> Self {
        Self { messages: Mutex::default(), room: Arc::new(Semaphore::new(MOST_OPEN >> 10)) }
    }
}

impl Open {
    fn messages(&self) -> MutexGuard<'_, HashMap<u64, Growing>> {
        locked(&self.messages)
    }

    /// Takes a part; the message if it is whole now.
    fn add(
        &self,
        number: u64,
        length: usize,
        (index, part): (usize, Vec<u8>),
        room: Reservation,
    ) -> Result<Option<Growing>, Error> {
        let mut messages = self.messages();
        match messages.entry(number) {
            Entry::Vacant(new) => {
                let claim = self.room.clone().try_acquire_many_owned(length.div_ceil(1024) as u32);
                let _claim = claim.map_err(|_| Malformed("too much is sent in parts"))?;
                let deadline = Instant::now() + stream::longest(length);
                new.insert(Growing {
                    parts: BTreeMap::from([(index, part)]),
                    length,
                    deadline,
                    room,
                    _claim,
                });
            }
            Entry::Occupied(mut known) => {
                let growing = known.get_mut();
                if growing.length != length {
                    return Err(Malformed("two lengths of one message").into());
                }
                if growing.parts.insert(index, part).is_none() {
                    growing.room.merge(room);
                }
            }
        }
        let is_whole = |growing: &Growing| growing.parts.len() == length.div_ceil(PART);
        Ok(if messages.get(&number).is_some_and(is_whole) { messages.remove(&number) } else { None })
    }

    /// Waits until a message that was begun should be whole, or other peers need its memory; then all that were begun are
    /// dropped.
    async fn overdue(&self) -> Error {
        let first = {
            let messages = self.messages();
            let first = messages.values().min_by_key(|growing| growing.deadline);
            first.map(|growing| (growing.deadline, growing.room.evicted()))
        };
        let Some((deadline, evicted)) = first else { return future::pending().await };
        let waited = time::timeout_at(deadline, evicted.cancelled()).await;
        self.messages().clear();
        waited.map_or(Error::Slow, |()| Error::Evicted)
    }

    /// Reads until a message is whole; none at the end.
    pub async fn read(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        share: &Arc<Share>,
        heard: impl Fn(),
    ) -> Result<Option<Incoming>, Error> {
        loop {
            let length = tokio::select! {
                length = stream::read_length(stream) => length?,
                error = self.overdue() => return Err(error),
            };
            let Some(length) = length else { return Ok(None) };
            let number = stream::read_varint(stream).await?;
            if number == 0 {
                return stream::read_message(stream, length, share, heard).await.map(Some);
            }
            let index = stream::read_varint(stream).await? as usize;
            let start = index.checked_mul(PART).filter(|start| *start < length);
            let start = start.ok_or(Malformed("a part beyond its message"))?;
            let mut room = share.begin(length)?;
            let (mut part, size) = (Vec::new(), (length - start).min(PART));
            stream::read_bytes(stream, &mut part, size, &mut room, &heard).await?;
            if let Some(whole) = self.add(number, length, (index, part), room)? {
                return whole.finish().await.map(Some);
            }
        }
    }
}

const _: () = assert!(MAX_MESSAGE.div_ceil(PART) <= 64, "the parts of a message are bits of a number");
