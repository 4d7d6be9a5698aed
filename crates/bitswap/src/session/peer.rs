//! The state of a peer in one session.

use std::time::Duration;

use tokio::time::Instant;

use crate::Cid;

/// Bytes that may be requested from an unproven peer.
const INITIAL_WINDOW: u64 = 16 << 20;
const MAX_WINDOW: u64 = 32 << 20;
/// The assumed size of a block of unknown length.
const UNKNOWN_SIZE: u64 = 256 << 10;
/// A peer whose blocks take this many times as long as those of the fastest peer is asked after others.
const SLOW_FACTOR: u32 = 4;
/// Longer than a block should wait at a peer that also serves others.
const QUEUE_DELAY: Duration = Duration::from_millis(250);
const MIN_PAUSE: Duration = Duration::from_secs(2);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// How much of the DAG a peer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    Unknown,
    Partial,
    Complete,
}

/// The peer with the lowest rank is asked first; the second number breaks ties.
pub type Rank = (u64, u64);

/// The key by which the peers of a session are indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexKey {
    pub availability: Availability,
    pub rank: Rank,
    pub was_asked: bool,
}

#[derive(Debug)]
pub struct SessionPeer {
    pub availability: Availability,
    pub rank: Rank,
    pub supports_presences: bool,
    /// When it was sent its first want.
    pub asked_at: Option<Instant>,
    /// Its first want.
    asked_first: Option<Cid>,
    /// Whether it lacked a block.
    lacked: bool,
    window: u64,
    in_flight_bytes: u64,
    open_requests: usize,
    /// The fastest answer: the round trip plus one block.
    quickest: Option<Duration>,
    latency: Duration,
    pause: Duration,
    paused_until: Option<Instant>,
    /// Whether it had an open request for long without ever delivering a block.
    doubtful: bool,
}

fn cost(size: u64) -> u64 {
    if size == 0 { UNKNOWN_SIZE } else { size }
}

impl SessionPeer {
    pub fn new(rank: Rank, supports_presences: bool) -> Self {
        Self {
            availability: Availability::Unknown,
            rank,
            supports_presences,
            asked_at: None,
            asked_first: None,
            lacked: false,
            window: INITIAL_WINDOW,
            in_flight_bytes: 0,
            open_requests: 0,
            quickest: None,
            latency: Duration::ZERO,
            pause: MIN_PAUSE,
            paused_until: None,
            doubtful: false,
        }
    }

    pub fn index_key(&self) -> IndexKey {
        IndexKey { availability: self.availability, rank: self.rank, was_asked: self.asked_at.is_some() }
    }

    pub fn has_room(&self) -> bool {
        self.in_flight_bytes < self.window
    }

    /// Returns whether a block fits into the window. One block always does, whatever its length.
    pub fn fits(&self, size: u64) -> bool {
        self.open_requests == 0 || self.in_flight_bytes + cost(size) <= self.window
    }

    /// Returns the number of requested blocks that it has not sent.
    pub fn open_requests(&self) -> usize {
        self.open_requests
    }

    pub fn is_idle(&self) -> bool {
        self.in_flight_bytes <= self.window / 2
    }

    pub fn has_delivered(&self) -> bool {
        self.quickest.is_some()
    }

    /// Returns whether requests may move to it. A peer that never delivered a block is tried with one.
    pub fn is_trusted(&self, now: Instant) -> bool {
        !self.doubtful && !self.is_paused(now) && (self.has_delivered() || self.open_requests == 0)
    }

    /// Returns whether it would send a further block sooner: it has less than half as much to send.
    pub fn is_less_busy_than(&self, other: &Self, size: u64) -> bool {
        let may_take = self.has_delivered() || self.open_requests == 0;
        may_take && 2 * self.in_flight_bytes + cost(size) < other.in_flight_bytes
    }

    /// Returns whether it would be less busy than `other` after a request moved from it to `other`.
    pub fn would_be_less_busy_than(&self, other: &Self, size: u64) -> bool {
        2 * self.in_flight_bytes.saturating_sub(cost(size)) < other.in_flight_bytes
    }

    pub fn in_flight_bytes(&self) -> u64 {
        self.in_flight_bytes
    }

    pub fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }

    /// Orders peers: stalled ones last, then those that never delivered, then those that take much longer than the
    /// `fastest` peer, then complete ones, then the busiest.
    pub fn reluctance(&self, now: Instant, fastest: Duration) -> (bool, bool, bool, bool, u64) {
        let load = self.in_flight_bytes * 1024 / self.window;
        let is_complete = self.availability == Availability::Complete;
        (self.is_paused(now), self.doubtful, self.is_slow(fastest), is_complete, load)
    }

    /// Returns whether its blocks take much longer than those of the fastest peer.
    pub fn is_slow(&self, fastest: Duration) -> bool {
        self.latency > fastest * SLOW_FACTOR + QUEUE_DELAY * 2
    }

    /// Records a want, for a block or its presence.
    pub fn want_sent(&mut self, cid_v1: Cid, now: Instant) {
        self.asked_at.get_or_insert(now);
        self.asked_first.get_or_insert(cid_v1);
    }

    /// Returns whether this was its first want, which it may answer only after other peers did.
    pub fn was_asked_first(&self, cid_v1: &Cid) -> bool {
        self.asked_first.as_ref() == Some(cid_v1)
    }

    pub fn latency(&self) -> Duration {
        self.latency
    }

    pub fn block_requested(&mut self, size: u64) {
        self.in_flight_bytes += cost(size);
        self.open_requests += 1;
    }

    pub fn request_done(&mut self, size: u64) {
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(cost(size));
        self.open_requests = self.open_requests.saturating_sub(1);
    }

    /// Presumes that it has all blocks.
    pub fn presume_complete(&mut self) {
        self.availability = Availability::Complete;
    }

    pub fn has_something(&mut self) {
        if self.availability == Availability::Unknown {
            self.availability = Availability::Partial;
        }
    }

    /// Returns whether it may still have all blocks.
    pub fn is_promising(&self) -> bool {
        self.availability == Availability::Unknown && !self.lacked
    }

    pub fn lacks_something(&mut self) {
        self.lacked = true;
        if self.availability == Availability::Complete {
            self.availability = Availability::Partial;
        }
    }

    /// Records a block that arrived `took` after its request, and widens the window to the capacity of the connection.
    ///
    /// The window does not shrink: queued requests can be cancelled, and a queue lets the peer choose what to send to
    /// whom.
    pub fn delivered(&mut self, size: u64, took: Option<Duration>) {
        if self.availability == Availability::Unknown {
            self.availability = Availability::Complete;
        }
        self.paused_until = None;
        self.doubtful = false;
        self.window = self.window.max(INITIAL_WINDOW);
        self.pause = MIN_PAUSE;
        let Some(took) = took else { return };
        let quickest = self.quickest.map_or(took, |quickest| quickest.min(took));
        self.quickest = Some(quickest);
        self.latency = if self.latency.is_zero() { took } else { (self.latency * 7 + took) / 8 };
        if took <= quickest * 2 + QUEUE_DELAY {
            self.window = (self.window + size).min(MAX_WINDOW);
        }
    }

    /// Records that another peer delivered a block that was requested from this one long before, or that it was lost.
    pub fn was_outrun(&mut self) {
        self.doubtful |= self.quickest.is_none();
    }

    /// Asks it last for a while, longer each time, then for one block at a time until it delivers.
    pub fn stalled(&mut self, now: Instant) {
        self.window = 1;
        self.doubtful = true;
        self.paused_until = Some(now + self.pause);
        self.pause = (self.pause * 2).min(MAX_PAUSE);
    }
}
