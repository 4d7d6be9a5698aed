//! A peer as one session sees it.

use std::time::Duration;

use tokio::time::Instant;

use crate::Cid;

/// What may be asked of a peer that nothing is known of yet, in bytes.
const FIRST_WINDOW: u64 = 16 << 20;
const LARGEST_WINDOW: u64 = 32 << 20;
/// What a block of unknown length is counted as.
const UNKNOWN_SIZE: u64 = 256 << 10;
/// Longer than any block should wait at a peer that has others to serve too.
const QUEUED: Duration = Duration::from_millis(250);
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How much of the DAG a peer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Unknown,
    Parts,
    All,
}

/// The lower, the sooner a peer is asked; the second number decides between equals.
pub type Rank = (u64, u64);

/// What decides where a peer is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub role: Role,
    pub rank: Rank,
    pub was_asked: bool,
}

#[derive(Debug)]
pub struct Source {
    pub role: Role,
    pub rank: Rank,
    pub knows_presences: bool,
    /// When it was first asked for anything.
    pub asked_at: Option<Instant>,
    /// What it was asked for then.
    asked_first: Option<Cid>,
    /// It had not got something.
    lacked: bool,
    window: u64,
    in_flight: u64,
    asks: usize,
    /// The quickest answer: the round trip and one block.
    quickest: Option<Duration>,
    latency: Duration,
    pause: Duration,
    paused_until: Option<Instant>,
    /// It owed a block for long and never delivered any.
    doubtful: bool,
}

fn cost(size: u64) -> u64 {
    if size == 0 { UNKNOWN_SIZE } else { size }
}

impl Source {
    pub fn new(rank: Rank, knows_presences: bool) -> Self {
        Self {
            role: Role::Unknown,
            rank,
            knows_presences,
            asked_at: None,
            asked_first: None,
            lacked: false,
            window: FIRST_WINDOW,
            in_flight: 0,
            asks: 0,
            quickest: None,
            latency: Duration::ZERO,
            pause: FIRST_PAUSE,
            paused_until: None,
            doubtful: false,
        }
    }

    pub fn place(&self) -> Place {
        Place { role: self.role, rank: self.rank, was_asked: self.asked_at.is_some() }
    }

    pub fn has_room(&self) -> bool {
        self.in_flight < self.window
    }

    /// One block is always allowed, however long.
    pub fn fits(&self, size: u64) -> bool {
        self.asks == 0 || self.in_flight + cost(size) <= self.window
    }

    /// How many blocks it was asked for and has not sent.
    pub fn owes(&self) -> usize {
        self.asks
    }

    pub fn is_idle(&self) -> bool {
        self.in_flight <= self.window / 2
    }

    pub fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }

    /// Who is asked last: one that stalled, then one that never delivered what it owed, then one that has all, then the
    /// busiest.
    pub fn reluctance(&self, now: Instant) -> (bool, bool, bool, u64) {
        let load = self.in_flight * 1024 / self.window;
        (self.is_paused(now), self.doubtful, self.role == Role::All, load)
    }

    /// Notes that it is asked for a block or its presence.
    pub fn tell(&mut self, name: Cid, now: Instant) {
        self.asked_at.get_or_insert(now);
        self.asked_first.get_or_insert(name);
    }

    /// Whether this is what it was asked for first: it may answer only once others have.
    pub fn was_asked_first(&self, name: &Cid) -> bool {
        self.asked_first.as_ref() == Some(name)
    }

    pub fn latency(&self) -> Duration {
        self.latency
    }

    pub fn asked(&mut self, size: u64) {
        self.in_flight += cost(size);
        self.asks += 1;
    }

    pub fn settle(&mut self, size: u64) {
        self.in_flight = self.in_flight.saturating_sub(cost(size));
        self.asks = self.asks.saturating_sub(1);
    }

    /// Takes it for one that has all.
    pub fn presume(&mut self) {
        self.role = Role::All;
    }

    pub fn has_something(&mut self) {
        if self.role == Role::Unknown {
            self.role = Role::Parts;
        }
    }

    /// Whether nothing speaks against its having all.
    pub fn is_promising(&self) -> bool {
        self.role == Role::Unknown && !self.lacked
    }

    pub fn lacks_something(&mut self) {
        self.lacked = true;
        if self.role == Role::All {
            self.role = Role::Parts;
        }
    }

    /// Takes a block that was asked for `took` ago: the window grows to what the way to the peer holds. It does not shrink:
    /// what waits at the peer can be taken back, and lets it choose what to send to whom.
    pub fn delivered(&mut self, size: u64, took: Option<Duration>) {
        if self.role == Role::Unknown {
            self.role = Role::All;
        }
        self.paused_until = None;
        self.doubtful = false;
        self.window = self.window.max(FIRST_WINDOW);
        self.pause = FIRST_PAUSE;
        let Some(took) = took else { return };
        let quickest = self.quickest.map_or(took, |quickest| quickest.min(took));
        self.quickest = Some(quickest);
        self.latency = if self.latency.is_zero() { took } else { (self.latency * 7 + took) / 8 };
        if took <= quickest * 2 + QUEUED {
            self.window = (self.window + size).min(LARGEST_WINDOW);
        }
    }

    /// Notes that another peer delivered a block that this one owed for long.
    pub fn was_outrun(&mut self) {
        self.doubtful |= self.quickest.is_none();
    }

    /// Asks it last for a while, longer each time, and then for one block at a time until it delivers.
    pub fn stalled(&mut self, now: Instant) {
        self.window = 1;
        self.doubtful = true;
        self.paused_until = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}
