//! Memory for received messages that are not stored yet: a share of the process's memory budget, divided among peers,
//! however many connections each has.
//!
//! - A peer without open requests has [`WANTLIST_BYTES`] bytes, enough for wantlists. Its longer messages are not
//!   read; their bytes are counted, and a peer that sends too many is disconnected.
//! - For a peer with open requests, memory is counted as bytes arrive. When the budget is exhausted, the peer with the
//!   most unfinished bytes loses its messages.
//! - A proven peer, which delivered a requested block, reserves whole messages, so that each started message can be
//!   finished.

mod reservation;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use libp2p::PeerId;
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    rates::{Pacer, Rates},
    wire::MAX_MESSAGE,
};
use crate::locked;

pub use reservation::{Error, MemoryLease, Reservation};

/// The limit for one peer with open requests, in bytes, and as a percentage of the budget of proven peers.
const MAX_PER_PEER: u64 = 12 << 20;
const PERCENT_PER_PEER: u64 = 40;
/// The limit for one peer without open requests, and for each of its messages, in bytes.
pub const WANTLIST_BYTES: usize = 512 << 10;
/// Memory is counted in steps of this many bytes, each at most as long as all bytes before it.
pub const READ_STEP: usize = 64 << 10;
/// Proven peers that send less than a step in this time lose their messages when memory is short.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that a peer may send without open requests: as many as may be in flight when it is banned for wrong blocks.
const MAX_UNREQUESTED: u64 = 32 << 20;
/// A block may arrive this long after its want was cancelled.
pub const LATE_BLOCK_TIMEOUT: Duration = Duration::from_secs(60);
/// Streams read from one peer. Helia and boxo open one for each message, and do not repeat a message that was not read.
const MAX_STREAMS: usize = 256;
/// Streams of a peer without open requests that may wait for memory; each holds a window of at least 256 KiB.
const MAX_WAITING_STREAMS: usize = 8;

/// Limits in bytes for blocks in memory, over all peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockMemory {
    /// Received from peers that delivered requested blocks.
    pub proven: u64,
    /// Received from all other peers.
    pub others: u64,
    /// Read ahead to be sent to peers.
    pub sent: u64,
}

impl BlockMemory {
    /// The least limit of each kind: one message.
    pub const MIN: u64 = MAX_MESSAGE as u64;

    fn per_peer(&self) -> u64 {
        MAX_PER_PEER.min(self.proven / 100 * PERCENT_PER_PEER).max(Self::MIN)
    }
}

impl Default for BlockMemory {
    fn default() -> Self {
        Self { proven: 33 << 20, others: 21 << 20, sent: 21 << 20 }
    }
}

/// Returns a semaphore with one permit per KiB.
pub(crate) fn semaphore(bytes: u64) -> Arc<Semaphore> {
    let kib = usize::try_from(bytes >> 10).unwrap_or(usize::MAX);
    Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS)))
}

/// The memory budget of Bitswap.
pub struct Budget {
    memory: BlockMemory,
    pub(super) upload: Pacer,
    download: Pacer,
    proven: Arc<Semaphore>,
    others: Arc<Semaphore>,
    shares: Mutex<HashMap<PeerId, Weak<Share>>>,
    /// When stalled peers were last evicted.
    stalled_checked: Mutex<Instant>,
    /// Peers to disconnect.
    offenders: mpsc::UnboundedSender<PeerId>,
}

impl Budget {
    /// Returns a budget, and a channel of the peers that sent too many unrequested bytes.
    #[cfg(test)]
    pub fn new(memory: BlockMemory) -> (Arc<Self>, mpsc::UnboundedReceiver<PeerId>) {
        Self::with_rates(memory, Rates::default())
    }

    /// The same, of a node whose transfers have maximum rates.
    pub fn with_rates(memory: BlockMemory, rates: Rates) -> (Arc<Self>, mpsc::UnboundedReceiver<PeerId>) {
        let (offenders, to_disconnect) = mpsc::unbounded_channel();
        let budget = Self {
            memory,
            upload: Pacer::new(rates.upload),
            download: Pacer::new(rates.download),
            proven: semaphore(memory.proven),
            others: semaphore(memory.others),
            shares: Mutex::default(),
            stalled_checked: Mutex::new(Instant::now()),
            offenders,
        };
        (Arc::new(budget), to_disconnect)
    }

    /// Returns a peer's share, which all its connections have in common.
    pub fn share(self: &Arc<Self>, peer: PeerId) -> Arc<Share> {
        let mut shares = locked(&self.shares);
        if let Some(share) = shares.get(&peer).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Share::new(self.clone(), peer));
        shares.insert(peer, Arc::downgrade(&share));
        share
    }

    fn shares(&self) -> Vec<Arc<Share>> {
        locked(&self.shares).values().filter_map(Weak::upgrade).collect()
    }

    /// Drops the unfinished messages of the unproven peer that has most of them.
    fn evict_largest(&self) {
        let unfinished = |share: &Arc<Share>| share.unfinished.load(Ordering::Relaxed);
        let shares = self.shares().into_iter().filter(|share| !share.is_proven() && unfinished(share) > 0);
        if let Some(share) = shares.max_by_key(unfinished) {
            share.evict();
        }
    }

    /// Drops the unfinished messages of proven peers that sent almost nothing since the last call.
    fn evict_stalled(&self) {
        let now = Instant::now();
        let mut last = locked(&self.stalled_checked);
        if now.duration_since(*last) < STALL_TIMEOUT {
            return;
        }
        *last = now;
        for share in self.shares() {
            let received = share.received.swap(0, Ordering::Relaxed);
            if received < READ_STEP as u64
                && share.is_proven()
                && share.paced.load(Ordering::Relaxed) == 0
                && share.unfinished.load(Ordering::Relaxed) > 0
            {
                share.proven.store(false, Ordering::Relaxed);
                share.evict();
            }
        }
    }
}

/// Whether a peer has requests that it may answer with blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Debt {
    None,
    Open,
    /// All requests ended at this time; their blocks may still arrive.
    Late(Instant),
}

/// The memory of one peer.
pub struct Share {
    budget: Arc<Budget>,
    peer: PeerId,
    blocks: Arc<Semaphore>,
    wantlist: Arc<Semaphore>,
    debt: Mutex<Debt>,
    proven: AtomicBool,
    /// KiB of messages that are being read.
    unfinished: AtomicUsize,
    /// Bytes received since stalled peers were last evicted.
    received: AtomicU64,
    unrequested: AtomicU64,
    streams: AtomicUsize,
    waiting: AtomicUsize,
    /// Messages that wait for the maximum rate, for which the peer is not to blame.
    paced: AtomicUsize,
    /// Ends the messages that are being read.
    evicted: Mutex<CancellationToken>,
}

impl Share {
    fn new(budget: Arc<Budget>, peer: PeerId) -> Self {
        Self {
            blocks: semaphore(budget.memory.per_peer()),
            wantlist: semaphore(WANTLIST_BYTES as u64),
            budget,
            peer,
            debt: Mutex::new(Debt::None),
            proven: AtomicBool::new(false),
            unfinished: AtomicUsize::new(0),
            received: AtomicU64::new(0),
            unrequested: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            paced: AtomicUsize::new(0),
            evicted: Mutex::default(),
        }
    }

    /// Records that blocks were requested from the peer.
    pub fn requested(&self) {
        *locked(&self.debt) = Debt::Open;
    }

    /// Records that all requests of the peer ended.
    pub fn requests_ended(&self) {
        let mut debt = locked(&self.debt);
        if *debt == Debt::Open {
            *debt = Debt::Late(Instant::now());
        }
    }

    /// Records that the peer delivered a requested block.
    pub fn delivered(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Records that the peer sent wrong blocks: its blocks are not read until it is asked again.
    pub fn banned(&self) {
        *locked(&self.debt) = Debt::None;
        self.proven.store(false, Ordering::Relaxed);
    }

    /// Returns whether blocks of the peer may be ones that this node requested.
    pub fn has_open_requests(&self) -> bool {
        match *locked(&self.debt) {
            Debt::None => false,
            Debt::Open => true,
            Debt::Late(since) => since.elapsed() < LATE_BLOCK_TIMEOUT,
        }
    }

    #[cfg(test)]
    pub fn forget_late_blocks(&self) {
        if let Debt::Late(since) = &mut *locked(&self.debt) {
            *since -= LATE_BLOCK_TIMEOUT;
        }
    }

    fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// Counts unrequested bytes of the peer, which is disconnected if there are too many.
    pub fn unrequested(&self, bytes: usize) {
        let sent = self.unrequested.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if sent > MAX_UNREQUESTED {
            self.unrequested.store(0, Ordering::Relaxed);
            let _ = self.budget.offenders.send(self.peer);
        }
    }

    /// Returns the limits for streams that are read and for streams that wait.
    fn streams(&self) -> (usize, usize) {
        (MAX_STREAMS, if self.has_open_requests() { MAX_STREAMS } else { MAX_WAITING_STREAMS })
    }

    /// Counts one more stream of the peer, unless it has too many.
    pub fn stream(self: &Arc<Self>) -> Option<CountGuard> {
        CountGuard::one(self, |share| &share.streams, self.streams().0)
    }

    fn evict(&self) {
        tracing::debug!(peer = %self.peer, "memory is exhausted; unfinished messages of this peer are dropped");
        std::mem::take(&mut *locked(&self.evicted)).cancel();
    }
}

/// Counts a stream until it is dropped.
pub struct CountGuard(Arc<Share>, fn(&Share) -> &AtomicUsize);

impl CountGuard {
    fn one(share: &Arc<Share>, counter: fn(&Share) -> &AtomicUsize, limit: usize) -> Option<Self> {
        let counted = Self(share.clone(), counter);
        (counter(share).fetch_add(1, Ordering::Relaxed) < limit).then_some(counted)
    }
}

impl Drop for CountGuard {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}
