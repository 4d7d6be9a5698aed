//! Blocks that were sent or received a moment ago: peers that pull the same content get different blocks first, and
//! pass them on to each other.

use std::{collections::HashMap, time::Duration};

use libp2p::PeerId;
use tokio::time::Instant;

use crate::{Cid, as_v1};

/// A block sent this recently can probably be fetched from its receiver.
const RECENT_WINDOW: Duration = Duration::from_secs(5);
const MAX_RECENT_BLOCKS: usize = 16_384;
/// Only blocks of this size are held back, and need a slot.
pub const LARGE_BLOCK: usize = 64 << 10;

/// Recently sent and received blocks, in two generations: the older one is dropped as a whole, so memory is returned as
/// soon as traffic slows down.
#[derive(Default)]
pub struct RecentTransfers {
    young: HashMap<Cid, Transfer>,
    old: HashMap<Cid, Transfer>,
    /// When the young generation started.
    since: Option<Instant>,
}

#[derive(Default)]
struct Transfer {
    /// How often it was sent.
    times: u32,
    at: Option<Instant>,
    /// When it was first sent.
    first: Option<Instant>,
    /// The last peer that it was sent to, and when that began: to ask for it again holds up no other.
    to: Option<(PeerId, Instant)>,
    large: bool,
    /// Whether it was received from others just now: only a seeder makes peers wait, not a peer that passes blocks on.
    received: bool,
}

impl RecentTransfers {
    fn entry(&mut self, cid: &Cid, now: Instant) -> &mut Transfer {
        let is_past = |at: Instant| now.duration_since(at) >= RECENT_WINDOW;
        if self.since.is_none_or(is_past) || self.young.len() >= MAX_RECENT_BLOCKS / 2 {
            self.old = std::mem::take(&mut self.young);
            self.since = Some(now);
        }
        let cid_v1 = as_v1(cid);
        let known = self.young.remove(&cid_v1).or_else(|| self.old.remove(&cid_v1));
        let known = known.filter(|transfer| transfer.at.is_some_and(|at| !is_past(at)));
        let transfer = self.young.entry(cid_v1).insert_entry(known.unwrap_or_default()).into_mut();
        transfer.at = Some(now);
        transfer
    }

    pub fn received(&mut self, cid: &Cid) {
        self.entry(cid, Instant::now()).received = true;
    }

    pub fn sent(&mut self, cid: &Cid, to: PeerId, size: usize) {
        let now = Instant::now();
        let transfer = self.entry(cid, now);
        transfer.times += 1;
        transfer.first = transfer.first.or(Some(now));
        transfer.to = transfer.to.filter(|(before, _)| *before == to).or(Some((to, now)));
        transfer.large = size >= LARGE_BLOCK;
    }

    /// Records that a peer will not pass on what it was sent.
    pub fn receiver_left(&mut self, peer: &PeerId) {
        let all = self.young.values_mut().chain(self.old.values_mut());
        all.for_each(|transfer| transfer.to = transfer.to.filter(|(to, _)| to != peer));
    }

    /// Returns how often a block was sent recently, or until when `peer` has to wait for it: `hold` after another peer was sent it,
    /// and at most `longest` after it was first sent, since peers that are too slow to pass it on may get it again and
    /// again.
    pub fn times_sent(
        &self,
        cid: &Cid,
        peer: &PeerId,
        hold: Duration,
        longest: Duration,
    ) -> Result<u32, Instant> {
        let cid_v1 = as_v1(cid);
        let Some(transfer) = self.young.get(&cid_v1).or_else(|| self.old.get(&cid_v1)) else { return Ok(0) };
        let Some(at) = transfer.at else { return Ok(0) };
        let (now, elapsed) = (Instant::now(), at.elapsed());
        if let Some((to, since)) = transfer.to
            && transfer.large
            && !transfer.received
            && to != *peer
        {
            let until = (since + hold).min(transfer.first.unwrap_or(at) + longest);
            if now < until {
                return Err(until);
            }
        }
        Ok(if elapsed < RECENT_WINDOW { transfer.times } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_millis(300);

    fn cid(n: u64) -> Cid {
        Cid::new_v1(0x55, cid::multihash::Multihash::wrap(0x12, &n.to_be_bytes()).expect("it is short"))
    }

    #[test]
    fn recently_sent_blocks_expire_and_their_memory_is_returned() {
        let (mut recent, start) = (RecentTransfers::default(), Instant::now());
        recent.entry(&cid(0), start).times = 1;
        for n in 1..2000 {
            recent.entry(&cid(n), start);
        }
        let later = start + RECENT_WINDOW / 2;
        assert_eq!(recent.entry(&cid(0), later).times, 1);
        assert_eq!(recent.entry(&cid(0), later + RECENT_WINDOW).times, 0, "it was long ago");
        recent.entry(&cid(0), later + 2 * RECENT_WINDOW);
        assert!(recent.young.capacity() + recent.old.capacity() < 100);
    }

    #[test]
    fn a_peer_waits_for_the_hold_time_of_a_block_that_was_just_sent_to_another() {
        let (mut recent, [one, other]) = (RecentTransfers::default(), [PeerId::random(), PeerId::random()]);
        assert_eq!(recent.times_sent(&cid(0), &one, HOLD, HOLD * 1000), Ok(0));
        let before = Instant::now();
        recent.sent(&cid(0), one, LARGE_BLOCK);
        let until = recent.times_sent(&cid(0), &other, HOLD * 100, HOLD * 1000).unwrap_err();
        assert!(until >= before + HOLD * 100);
        assert_eq!(recent.times_sent(&cid(0), &one, HOLD * 100, HOLD * 1000), Ok(1));
        assert_eq!(recent.times_sent(&cid(0), &other, Duration::ZERO, HOLD * 1000), Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_asks_for_a_block_again_and_again_holds_up_no_other() {
        let (mut recent, [one, other]) = (RecentTransfers::default(), [PeerId::random(), PeerId::random()]);
        for _ in 0..4 {
            recent.sent(&cid(0), one, LARGE_BLOCK);
            tokio::time::advance(HOLD / 4).await;
        }
        assert_eq!(recent.times_sent(&cid(0), &other, HOLD, HOLD * 1000), Ok(4));
    }

    #[test]
    fn a_peer_does_not_wait_for_a_block_whose_receiver_left() {
        let (mut recent, [one, other]) = (RecentTransfers::default(), [PeerId::random(), PeerId::random()]);
        recent.sent(&cid(0), one, LARGE_BLOCK);
        recent.receiver_left(&other);
        assert!(recent.times_sent(&cid(0), &other, HOLD * 100, HOLD * 1000).is_err());
        recent.receiver_left(&one);
        assert_eq!(recent.times_sent(&cid(0), &other, HOLD * 100, HOLD * 1000), Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_that_slow_peers_are_sent_again_and_again_is_held_for_a_bounded_time() {
        let (mut recent, patient, begun) = (RecentTransfers::default(), PeerId::random(), Instant::now());
        for _ in 0..20 {
            recent.sent(&cid(0), PeerId::random(), LARGE_BLOCK);
            if recent.times_sent(&cid(0), &patient, HOLD, 2 * HOLD).is_ok() {
                break;
            }
            tokio::time::advance(HOLD / 2).await;
        }
        assert_eq!(begun.elapsed(), 2 * HOLD);
    }

    #[test]
    fn recently_sent_blocks_use_bounded_memory() {
        let (mut recent, now) = (RecentTransfers::default(), Instant::now());
        for n in 0..3 * MAX_RECENT_BLOCKS as u64 {
            recent.entry(&cid(n), now);
        }
        assert!(recent.young.len() + recent.old.len() <= MAX_RECENT_BLOCKS);
    }
}
