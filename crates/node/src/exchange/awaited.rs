use std::{collections::HashSet, time::Duration};

use tokio::time::Instant;

use crate::{Cid, blocks::key};

/// When nothing came for so long, the root's providers are searched (again).
const SEARCH_AGAIN: Duration = Duration::from_secs(5);
/// The part of a stall time-out that passes before a search, so that what is found can still deliver.
const PART: u32 = 4;

/// The blocks a session waits for, and since when none has come.
pub struct Awaited {
    blocks: HashSet<Cid>,
    /// When the last block came, or the first was asked for after a time without any.
    since: Instant,
    searched: Option<Instant>,
    search_after: Duration,
}

impl Default for Awaited {
    fn default() -> Self {
        let (blocks, since) = (HashSet::new(), Instant::now());
        Self { blocks, since, searched: None, search_after: SEARCH_AGAIN }
    }
}

impl Awaited {
    pub fn set_stall_timeout(&mut self, timeout: Duration) {
        self.search_after = SEARCH_AGAIN.min(timeout / PART);
    }

    /// Takes blocks that are asked for. Where others are awaited already, the wait goes on.
    pub fn want<'a>(&mut self, cids: impl IntoIterator<Item = &'a Cid>, now: Instant) {
        if self.blocks.is_empty() {
            (self.since, self.searched) = (now, None);
        }
        self.blocks.extend(cids.into_iter().map(key));
    }

    pub fn unwant(&mut self, cids: &[Cid]) {
        for cid in cids {
            self.blocks.remove(&key(cid));
        }
    }

    /// Takes a block that came.
    pub fn came(&mut self, cid: &Cid, now: Instant) {
        if self.blocks.remove(&key(cid)) {
            (self.since, self.searched) = (now, None);
        }
    }

    /// Takes a search that begins.
    pub fn searched(&mut self, now: Instant) {
        self.searched = Some(now);
    }

    /// When the next search is due; none while nothing is awaited.
    pub fn overdue(&self) -> Option<Instant> {
        let due = self.searched.map_or(self.since + self.search_after, |searched| searched + SEARCH_AGAIN);
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
    fn providers_are_searched_when_no_awaited_block_came_however_often_others_are_wanted() {
        let begun = Instant::now();
        let second = |n: u64| begun + Duration::from_secs(n);
        let mut awaited = Awaited::default();
        assert_eq!(awaited.overdue(), None, "nothing is awaited");
        awaited.want([&cid(1)], begun);
        awaited.want([&cid(2)], second(3));
        awaited.unwant(&[cid(2)]);
        assert_eq!(awaited.overdue(), Some(second(5)), "other wants do not start the wait again");
        awaited.searched(second(5));
        awaited.want([&cid(3)], second(6));
        assert_eq!(awaited.overdue(), Some(second(10)));
        awaited.came(&cid(9), second(7));
        assert_eq!(awaited.overdue(), Some(second(10)), "only an awaited block counts as progress");
        awaited.came(&cid(1), second(8));
        assert_eq!(awaited.overdue(), Some(second(13)));
        awaited.came(&cid(3), second(9));
        assert_eq!(awaited.overdue(), None);
        awaited.want([&cid(4)], second(60));
        assert_eq!(awaited.overdue(), Some(second(65)), "idle time is not waiting time");
    }

    #[test]
    fn providers_are_searched_before_any_stall_timeout_ends() {
        let begun = Instant::now();
        for (timeout, first) in [(400, 100), (4_000, 1_000), (30_000, 5_000)] {
            let mut awaited = Awaited::default();
            awaited.set_stall_timeout(Duration::from_millis(timeout));
            awaited.want([&cid(1)], begun);
            assert_eq!(awaited.overdue(), Some(begun + Duration::from_millis(first)));
        }
    }
}
