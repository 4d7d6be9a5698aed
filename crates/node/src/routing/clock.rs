use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// What [`Seconds`] count from.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A moment on the monotonic clock in whole seconds, in a quarter of the memory: records live for days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(u32);

impl Seconds {
    /// Returns the last whole second that is not after `instant`.
    pub fn of(instant: Instant) -> Self {
        let since = instant.saturating_duration_since(*EPOCH).as_secs();
        Self(u32::try_from(since).unwrap_or(u32::MAX))
    }

    pub fn instant(self) -> Instant {
        *EPOCH + Duration::from_secs(self.0.into())
    }
}

/// One moment on both clocks: Kademlia uses the monotonic one, files and signatures the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub instant: Instant,
    pub wall: SystemTime,
}

impl Now {
    pub fn read() -> Self {
        Self { instant: Instant::now(), wall: SystemTime::now() }
    }

    /// Returns the monotonic time of a future moment; past ones become now.
    pub fn instant_of(&self, wall: SystemTime) -> Instant {
        let left = wall.duration_since(self.wall).unwrap_or_default();
        // A moment beyond the range of the clock never comes, and every caller has a nearer bound.
        self.instant.checked_add(left).unwrap_or(self.instant + super::RECORD_LIFETIME)
    }

    /// Returns the wall-clock time of `instant`, in seconds since 1970.
    pub fn seconds_of(&self, instant: Instant) -> u64 {
        let wall = self.wall + instant.saturating_duration_since(self.instant);
        wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// Returns the monotonic time of `seconds` since 1970.
    pub fn instant_of_seconds(&self, seconds: u64) -> Instant {
        self.instant_of(UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(self.wall))
    }

    #[cfg(test)]
    pub fn after(self, passed: Duration) -> Self {
        Self { instant: self.instant + passed, wall: self.wall + passed }
    }
}
