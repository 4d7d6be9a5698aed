//! What garbage collection did since the start.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Collections and evictions, and the bytes that they freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcTotals {
    /// Collections of unreferenced content.
    pub runs: u64,
    /// Bytes that they deleted.
    pub freed_bytes: u64,
    /// Evictions of cached content.
    pub evictions: u64,
    /// Bytes that they deleted.
    pub evicted_bytes: u64,
}

/// The totals while they are counted.
#[derive(Debug, Default)]
pub struct GcCounters {
    runs: AtomicU64,
    freed: AtomicU64,
    evictions: AtomicU64,
    evicted: AtomicU64,
}

impl GcCounters {
    pub fn collected(&self, bytes: u64) {
        self.runs.fetch_add(1, Relaxed);
        self.freed.fetch_add(bytes, Relaxed);
    }

    pub fn evicted(&self, bytes: u64) {
        self.evictions.fetch_add(1, Relaxed);
        self.evicted.fetch_add(bytes, Relaxed);
    }

    pub fn totals(&self) -> GcTotals {
        GcTotals {
            runs: self.runs.load(Relaxed),
            freed_bytes: self.freed.load(Relaxed),
            evictions: self.evictions.load(Relaxed),
            evicted_bytes: self.evicted.load(Relaxed),
        }
    }
}
