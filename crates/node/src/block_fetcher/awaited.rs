use std::{collections::HashSet, time::Duration};

use tokio::time::Instant;

use crate::{Cid, as_v1};

/// The root's providers are searched (again) after this time without a block.
const SEARCH_INTERVAL: Duration = Duration::from_secs(5);
/// A search starts after this fraction of a stall timeout, so that the providers it finds can still deliver.
const STALL_TIMEOUT_FRACTION: u32 = 4;

/// The blocks that a session waits for, and the time since the last one was received.
pub struct Awaited {
    blocks: HashSet<Cid>,
    /// When the last block was received, or when the first one was requested after an idle time.
    since: Instant,
    searched: Option<Instant>,
    search_after: Duration,
}

impl Default for Awaited {
    fn default() -> Self {
        let (blocks, since) = (HashSet::new(), Instant::now());
        Self { blocks, since, searched: None, search_after: SEARCH_INTERVAL }
    }
}

impl Awaited {
    pub fn set_stall_timeout(&mut self, timeout: Duration) {
        self.search_after = SEARCH_INTERVAL.min(timeout / STALL_TIMEOUT_FRACTION);
    }

    /// Adds requested blocks. The wait goes on if other blocks are awaited already.
    pub fn want<'a>(&mut self, cids: impl IntoIterator<Item = &'a Cid>, now: Instant) {
        if self.blocks.is_empty() {
            (self.since, self.searched) = (now, None);
        }
        self.blocks.extend(cids.into_iter().map(as_v1));
    }

    pub fn unwant(&mut self, cids: &[Cid]) {
        for cid in cids {
            self.blocks.remove(&as_v1(cid));
        }
    }

    /// Removes a received block and restarts the wait.
    pub fn received(&mut self, cid: &Cid, now: Instant) {
        if self.blocks.remove(&as_v1(cid)) {
            (self.since, self.searched) = (now, None);
        }
    }

    /// Returns whether a search was started since the last awaited block.
    pub fn is_searched(&self) -> bool {
        self.searched.is_some()
    }

    /// Returns an awaited block, and the time since the last one was received.
    pub fn longest(&self, now: Instant) -> Option<(Cid, Duration)> {
        self.blocks.iter().min().map(|cid| (*cid, now - self.since))
    }

    /// Records the start of a search.
    pub fn searched(&mut self, now: Instant) {
        self.searched = Some(now);
    }

    /// Returns when the next search is due, or `None` if no block is awaited.
    pub fn next_search(&self) -> Option<Instant> {
        let due = self.searched.map_or(self.since + self.search_after, |searched| searched + SEARCH_INTERVAL);
        (!self.blocks.is_empty()).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use multihash_codetable::{Code, MultihashDigest};

    use super::*;

    fn cid(n: u8) -> Cid {
        Cid::new_v1(0x55, Code::Sha2_256.digest(&[n]))
    }

    #[test]
    fn providers_are_searched_after_a_time_without_an_awaited_block() {
        let begun = Instant::now();
        let second = |n: u64| begun + Duration::from_secs(n);
        let mut awaited = Awaited::default();
        assert_eq!(awaited.next_search(), None, "nothing is awaited");
        awaited.want([&cid(1)], begun);
        awaited.want([&cid(2)], second(3));
        awaited.unwant(&[cid(2)]);
        assert_eq!(awaited.next_search(), Some(second(5)), "other wants do not start the wait again");
        awaited.searched(second(5));
        awaited.want([&cid(3)], second(6));
        assert_eq!(awaited.next_search(), Some(second(10)));
        awaited.received(&cid(9), second(7));
        assert_eq!(awaited.next_search(), Some(second(10)), "only an awaited block counts as progress");
        awaited.received(&cid(1), second(8));
        assert_eq!(awaited.next_search(), Some(second(13)));
        awaited.received(&cid(3), second(9));
        assert_eq!(awaited.next_search(), None);
        awaited.want([&cid(4)], second(60));
        assert_eq!(awaited.next_search(), Some(second(65)), "idle time is not waiting time");
    }

    #[test]
    fn providers_are_searched_before_any_stall_timeout_ends() {
        let begun = Instant::now();
        for (timeout, first) in [(400, 100), (4_000, 1_000), (30_000, 5_000)] {
            let mut awaited = Awaited::default();
            awaited.set_stall_timeout(Duration::from_millis(timeout));
            awaited.want([&cid(1)], begun);
            assert_eq!(awaited.next_search(), Some(begun + Duration::from_millis(first)));
        }
    }
}
