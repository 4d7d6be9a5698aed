//! Counters of the blocks sent and received.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use libp2p::PeerId;

use super::locked;

/// Peers that are counted one by one. More than that have not been connected for long, so the table then begins again.
const MAX_COUNTED_PEERS: usize = 4_096;

/// Blocks sent and received over Bitswap since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of blocks sent.
    pub sent_bytes: u64,
    /// Blocks sent.
    pub sent_blocks: u64,
    /// Bytes of blocks received and verified.
    pub received_bytes: u64,
    /// Blocks received and verified.
    pub received_blocks: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    sent_bytes: AtomicU64,
    sent_blocks: AtomicU64,
    received_bytes: AtomicU64,
    received_blocks: AtomicU64,
    peers: Mutex<HashMap<PeerId, Traffic>>,
}

impl Counters {
    /// Counts a block that is sent to a peer.
    pub fn sent(&self, to: &PeerId, bytes: usize) {
        self.sent_blocks.fetch_add(1, Ordering::Relaxed);
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.count(to, |traffic| {
            traffic.sent_blocks += 1;
            traffic.sent_bytes += bytes as u64;
        });
    }

    /// Counts a block. The sender of an unsolicited block is not known any more when a session takes the block.
    pub fn received(&self, from: Option<&PeerId>, bytes: usize) {
        self.received_blocks.fetch_add(1, Ordering::Relaxed);
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let Some(from) = from else { return };
        self.count(from, |traffic| {
            traffic.received_blocks += 1;
            traffic.received_bytes += bytes as u64;
        });
    }

    fn count(&self, peer: &PeerId, add: impl FnOnce(&mut Traffic)) {
        let mut peers = locked(&self.peers);
        if peers.len() >= MAX_COUNTED_PEERS && !peers.contains_key(peer) {
            peers.clear();
        }
        add(peers.entry(*peer).or_default());
    }

    pub fn traffic(&self) -> Traffic {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            sent_bytes: read(&self.sent_bytes),
            sent_blocks: read(&self.sent_blocks),
            received_bytes: read(&self.received_bytes),
            received_blocks: read(&self.received_blocks),
        }
    }

    /// Returns what was counted for each of these peers.
    pub fn traffic_with(&self, peers: &[PeerId]) -> Vec<Traffic> {
        let counted = locked(&self.peers);
        peers.iter().map(|peer| counted.get(peer).copied().unwrap_or_default()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_in_all_and_by_peer_in_a_bounded_table() {
        let (counters, one, other) = (Counters::default(), PeerId::random(), PeerId::random());
        counters.sent(&one, 5);
        counters.received(Some(&one), 3);
        counters.received(None, 2);
        let all = Traffic { sent_bytes: 5, sent_blocks: 1, received_bytes: 5, received_blocks: 2 };
        assert_eq!(counters.traffic(), all);
        let of_one = Traffic { received_bytes: 3, received_blocks: 1, ..all };
        assert_eq!(counters.traffic_with(&[one, other]), [of_one, Traffic::default()]);
        (0..2 * MAX_COUNTED_PEERS).for_each(|_| counters.sent(&PeerId::random(), 1));
        assert!(locked(&counters.peers).len() <= MAX_COUNTED_PEERS);
    }
}
