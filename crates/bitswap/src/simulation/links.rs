//! The uplink of a node, which its connections share, and its downlink.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::{CHUNK_BYTES, Link, WINDOW_BYTES};
use crate::link::Outgoing;

/// A message on its way, and its unsent bytes.
struct Sending {
    outgoing: Outgoing,
    left: usize,
}

/// A message that was sent as a whole.
pub struct Sent {
    pub to: usize,
    pub outgoing: Outgoing,
}

/// Sends chunks of all connections in turns, and on each connection of all messages in turns. Bytes that
/// a receiver has not received yet are limited.
pub struct Uplink {
    link: Link,
    /// Bytes on the way to each receiver.
    in_transit: BTreeMap<usize, usize>,
    connections: BTreeMap<usize, VecDeque<Sending>>,
    last: usize,
    pub sent_bytes: u64,
}

impl Uplink {
    pub fn new(link: Link) -> Self {
        Self { link, in_transit: BTreeMap::new(), connections: BTreeMap::new(), last: 0, sent_bytes: 0 }
    }

    pub fn push(&mut self, to: usize, outgoing: Outgoing) {
        let left: usize = outgoing.message.blocks.iter().map(|block| block.data.len()).sum();
        self.connections.entry(to).or_default().push_back(Sending { outgoing, left: left + 64 });
    }

    /// Records that a chunk was received.
    pub fn received(&mut self, to: usize, bytes: usize) {
        if let Some(in_transit) = self.in_transit.get_mut(&to) {
            *in_transit = in_transit.saturating_sub(bytes);
        }
    }

    fn has_window(&self, to: &usize) -> bool {
        self.in_transit.get(to).is_none_or(|bytes| *bytes < WINDOW_BYTES)
    }

    /// Drops the messages of a closed connection.
    pub fn close(&mut self, to: usize) {
        self.connections.remove(&to);
        self.in_transit.remove(&to);
    }

    /// Sends the next chunk. Returns when the link is free again, the receiver and length of the chunk, and the message
    /// if this was its last chunk.
    pub fn send_chunk(&mut self, now: Instant) -> Option<(Instant, usize, usize, Option<Sent>)> {
        let later = self.connections.range(self.last + 1..).chain(self.connections.range(..=self.last));
        let to = later.map(|(to, _)| *to).find(|to| self.has_window(to))?;
        self.last = to;
        let queue = self.connections.get_mut(&to)?;
        let mut sending = queue.pop_front()?;
        let chunk = sending.left.min(CHUNK_BYTES);
        sending.left -= chunk;
        self.sent_bytes += chunk as u64;
        *self.in_transit.entry(to).or_default() += chunk;
        let at = now + transfer_time(chunk, self.link.rate);
        let sent = match sending.left {
            0 => Some(Sent { to, outgoing: sending.outgoing }),
            _ => {
                queue.push_back(sending);
                None
            }
        };
        if self.connections.get(&to).is_some_and(VecDeque::is_empty) {
            self.connections.remove(&to);
        }
        Some((at, to, chunk, sent))
    }
}

/// Receives chunks one after the other.
pub struct Downlink {
    link: Link,
    free_at: Instant,
}

impl Downlink {
    pub fn new(link: Link, now: Instant) -> Self {
        Self { link, free_at: now }
    }

    /// Returns when a chunk that arrives at `at` is received.
    pub fn receive(&mut self, at: Instant, bytes: usize) -> Instant {
        self.free_at = self.free_at.max(at) + transfer_time(bytes, self.link.rate);
        self.free_at
    }
}

fn transfer_time(bytes: usize, rate: u64) -> Duration {
    Duration::from_nanos(bytes as u64 * 1_000_000_000 / rate.max(1))
}
