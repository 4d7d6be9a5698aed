//! How much of something is fetched, counted while it is fetched.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Counts what is fetched, of what is known to be due. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct FetchCount(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    due: AtomicU64,
    done: AtomicU64,
}

impl FetchCount {
    /// Adds what was found to be due.
    pub fn expect(&self, more: u64) {
        self.0.due.fetch_add(more, Ordering::Relaxed);
    }

    /// Adds what is done.
    pub fn add(&self, more: u64) {
        self.0.done.fetch_add(more, Ordering::Relaxed);
    }

    /// Returns how much was found to be due so far.
    pub fn due(&self) -> u64 {
        self.0.due.load(Ordering::Relaxed)
    }

    /// Returns how much is done.
    pub fn done(&self) -> u64 {
        self.0.done.load(Ordering::Relaxed)
    }

    /// Returns how much is due and not done.
    pub fn left(&self) -> u64 {
        self.due().saturating_sub(self.done())
    }
}
