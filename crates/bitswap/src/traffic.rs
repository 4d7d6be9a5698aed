//! Counters of the blocks sent and received.

use std::sync::atomic::{AtomicU64, Ordering};

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
}

impl Counters {
    pub fn sent(&self, bytes: usize) {
        self.sent_blocks.fetch_add(1, Ordering::Relaxed);
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn received(&self, bytes: usize) {
        self.received_blocks.fetch_add(1, Ordering::Relaxed);
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
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
}
