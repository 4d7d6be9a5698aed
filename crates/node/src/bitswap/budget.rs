//! Memory for what peers sent and this node has not stored yet: a share of the process's budget, and a part of it for each
//! peer, however many connections it has.
//!
//! - A peer that owes nothing has [`LIST`] bytes, enough for want lists. Longer messages of it are not read, and their bytes
//!   are counted: a peer that sends too many is disconnected.
//! - For a peer that owes blocks, memory is counted as the bytes come. Where the budget runs out, the peer with the most
//!   unfinished bytes loses its messages.
//! - A peer that delivered what was asked for reserves whole messages, so that each that is begun can be finished.

mod room;
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

use super::wire::MAX_MESSAGE;
use crate::locked;

pub use room::{Reservation, Room};

/// For one peer that owes blocks, in bytes: at most this, and at most this part of the share of proven peers.
const MAX_OF_A_PEER: u64 = 12 << 20;
const PERCENT_OF_A_PEER: u64 = 40;
/// For one peer that owes nothing, and the longest message read of it, in bytes.
pub const LIST: usize = 512 << 10;
/// Memory is counted in such steps of bytes as they come, each at most as long as what came before.
pub const STEP: usize = 64 << 10;
/// Proven peers that send less than a step in this time give way when memory is short.
const STALLED_FOR: Duration = Duration::from_secs(5);
/// Bytes that a peer may send although it owes nothing: as much as it may have on its way when it is found to lie.
const MAX_UNREQUESTED: u64 = 32 << 20;
/// A block whose want was cancelled may still come for so long.
pub const LATE: Duration = Duration::from_secs(60);
/// Streams of one peer that are read. Helia and boxo open one for each message, and do not repeat one that was not read.
const STREAMS: usize = 256;
/// Of those, how many of a peer that owes nothing may wait for memory: each holds a window of 256 KiB or more.
const WAITING: usize = 8;

/// How many bytes of blocks may be in memory, over all peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockMemory {
    /// Of peers that delivered blocks.
    pub proven: u64,
    /// Of all other peers.
    pub others: u64,
    /// Blocks that are read ahead for peers.
    pub sent: u64,
}

impl BlockMemory {
    /// What each kind of peer needs at least: one message.
    pub const MIN: u64 = MAX_MESSAGE as u64;

    fn of_a_peer(&self) -> u64 {
        MAX_OF_A_PEER.min(self.proven / 100 * PERCENT_OF_A_PEER).max(Self::MIN)
    }
}

impl Default for BlockMemory {
    fn default() -> Self {
        Self { proven: 33 << 20, others: 21 << 20, sent: 21 << 20 }
    }
}

/// As many permits as a share has KiB.
pub(crate) fn semaphore(bytes: u64) -> Arc<Semaphore> {
    let kib = usize::try_from(bytes >> 10).unwrap_or(usize::MAX);
    Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS)))
}

/// The budget of the process.
pub struct Budget {
    memory: BlockMemory,
    proven: Arc<Semaphore>,
    others: Arc<Semaphore>,
    shares: Mutex<HashMap<PeerId, Weak<Share>>>,
    /// When it was last looked which peers send nothing.
    looked: Mutex<Instant>,
    /// Peers to disconnect.
    offenders: mpsc::UnboundedSender<PeerId>,
}

impl Budget {
    /// Returns a budget, and the peers that sent too much that was not requested.
    pub fn new(memory: BlockMemory) -> (Arc<Self>, mpsc::UnboundedReceiver<PeerId>) {
        let (offenders, cut_off) = mpsc::unbounded_channel();
        let budget = Self {
            memory,
            proven: semaphore(memory.proven),
            others: semaphore(memory.others),
            shares: Mutex::default(),
            looked: Mutex::new(Instant::now()),
            offenders,
        };
        (Arc::new(budget), cut_off)
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

    /// Breaks off the unfinished messages of the unproven peer that has most of them.
    fn evict_largest(&self) {
        let unfinished = |share: &Arc<Share>| share.unfinished.load(Ordering::Relaxed);
        let shares = self.shares().into_iter().filter(|share| !share.is_proven() && unfinished(share) > 0);
        if let Some(share) = shares.max_by_key(unfinished) {
            share.evict();
        }
    }

    /// Breaks off the unfinished messages of proven peers that sent next to nothing since this was last done.
    fn evict_stalled(&self) {
        let now = Instant::now();
        let mut last = locked(&self.looked);
        if now.duration_since(*last) < STALLED_FOR {
            return;
        }
        *last = now;
        for share in self.shares() {
            let came = share.came.swap(0, Ordering::Relaxed);
            if came < STEP as u64 && share.is_proven() && share.unfinished.load(Ordering::Relaxed) > 0 {
                share.proven.store(false, Ordering::Relaxed);
                share.evict();
            }
        }
    }
}

/// Whether a peer may send blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Debt {
    None,
    Open,
    /// All was settled; what was on its way may still come.
    Late(Instant),
}

/// What one peer may have in memory.
pub struct Share {
    budget: Arc<Budget>,
    peer: PeerId,
    blocks: Arc<Semaphore>,
    lists: Arc<Semaphore>,
    debt: Mutex<Debt>,
    proven: AtomicBool,
    /// KiB of messages that are being read.
    unfinished: AtomicUsize,
    /// Bytes that came since this was last looked at.
    came: AtomicU64,
    unrequested: AtomicU64,
    streams: AtomicUsize,
    waiting: AtomicUsize,
    /// Ends the messages that are being read.
    evicted: Mutex<CancellationToken>,
}

impl Share {
    fn new(budget: Arc<Budget>, peer: PeerId) -> Self {
        Self {
            blocks: semaphore(budget.memory.of_a_peer()),
            lists: semaphore(LIST as u64),
            budget,
            peer,
            debt: Mutex::new(Debt::None),
            proven: AtomicBool::new(false),
            unfinished: AtomicUsize::new(0),
            came: AtomicU64::new(0),
            unrequested: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            evicted: Mutex::default(),
        }
    }

    /// Notes that the peer was asked for blocks.
    pub fn asked(&self) {
        *locked(&self.debt) = Debt::Open;
    }

    /// Notes that nothing more is wanted of the peer.
    pub fn settled(&self) {
        let mut debt = locked(&self.debt);
        if *debt == Debt::Open {
            *debt = Debt::Late(Instant::now());
        }
    }

    /// Notes that the peer delivered a block that was asked for.
    pub fn delivered(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Notes that the peer sent wrong bytes: blocks of it are not read until it is asked again.
    pub fn distrusted(&self) {
        *locked(&self.debt) = Debt::None;
        self.proven.store(false, Ordering::Relaxed);
    }

    /// Whether blocks of the peer may be what this node asked for.
    pub fn owes(&self) -> bool {
        match *locked(&self.debt) {
            Debt::None => false,
            Debt::Open => true,
            Debt::Late(since) => since.elapsed() < LATE,
        }
    }

    #[cfg(test)]
    pub fn forget_late_blocks(&self) {
        if let Debt::Late(since) = &mut *locked(&self.debt) {
            *since -= LATE;
        }
    }

    fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// Counts bytes that the peer sent although it owes nothing; with too many it is disconnected.
    pub fn unrequested(&self, bytes: usize) {
        let sent = self.unrequested.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if sent > MAX_UNREQUESTED {
            self.unrequested.store(0, Ordering::Relaxed);
            let _ = self.budget.offenders.send(self.peer);
        }
    }

    /// Streams that may be read, and that may wait.
    fn streams(&self) -> (usize, usize) {
        (STREAMS, if self.owes() { STREAMS } else { WAITING })
    }

    /// Takes one more stream of the peer, unless it has too many.
    pub fn stream(self: &Arc<Self>) -> Option<Counted> {
        Counted::one(self, |share| &share.streams, self.streams().0)
    }

    fn evict(&self) {
        tracing::debug!(peer = %self.peer, "memory is short: the messages that it has begun are not read");
        std::mem::take(&mut *locked(&self.evicted)).cancel();
    }
}

/// One of the streams of a peer, until it is dropped.
pub struct Counted(Arc<Share>, fn(&Share) -> &AtomicUsize);

impl Counted {
    fn one(share: &Arc<Share>, counter: fn(&Share) -> &AtomicUsize, limit: usize) -> Option<Self> {
        let counted = Self(share.clone(), counter);
        (counter(share).fetch_add(1, Ordering::Relaxed) < limit).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}
