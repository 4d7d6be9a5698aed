//! The requests to one HTTP provider: which are next, and how many run at once.

use std::collections::{HashSet, VecDeque};

use crate::{
    Cid, as_v1,
    bitswap::wire::{Kind, WantlistEntry},
};

/// Requests for blocks at once. It begins with few, and is halved when the provider says that it is busy.
const FIRST_BLOCKS: usize = 8;
const MAX_BLOCKS: usize = 32;
/// Requests for presences at once, which are for later blocks.
const MAX_PRESENCES: usize = 4;
/// After so many blocks in a row that the provider lacks, presences are asked for one by one.
const MANY_ABSENT: usize = 8;
/// How often a request is repeated before the provider counts as failed.
const MAX_ATTEMPTS: u32 = 3;

/// A request for a block or its presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    pub cid: Cid,
    pub kind: Kind,
    pub attempt: u32,
}

/// Requests that wait, and those that run.
#[derive(Debug)]
pub struct RequestQueue {
    blocks: VecDeque<HttpRequest>,
    presences: VecDeque<HttpRequest>,
    /// The blocks whose requests run.
    running: HashSet<Cid>,
    running_presences: usize,
    limit: usize,
    /// Blocks in a row that the provider lacked.
    absent: usize,
}

impl Default for RequestQueue {
    fn default() -> Self {
        Self {
            blocks: VecDeque::new(),
            presences: VecDeque::new(),
            running: HashSet::new(),
            running_presences: 0,
            limit: FIRST_BLOCKS,
            absent: 0,
        }
    }
}

impl RequestQueue {
    /// Adds a want, or drops the request that is cancelled unless it runs already.
    pub fn add(&mut self, entry: &WantlistEntry) {
        let cid_v1 = as_v1(&entry.cid);
        self.presences.retain(|request| as_v1(&request.cid) != cid_v1);
        if entry.cancel {
            self.blocks.retain(|request| as_v1(&request.cid) != cid_v1);
            return;
        }
        let is_known =
            self.running.contains(&cid_v1) || self.blocks.iter().any(|request| as_v1(&request.cid) == cid_v1);
        if is_known {
            return;
        }
        let request = HttpRequest { cid: entry.cid, kind: entry.kind, attempt: 1 };
        match entry.kind {
            // Other wants come in the order in which they are needed.
            Kind::Block if entry.is_urgent() => self.blocks.push_front(request),
            Kind::Block => self.blocks.push_back(request),
            Kind::Have => self.presences.push_back(request),
        }
    }

    /// Returns the next request, if one may run.
    pub fn next(&mut self) -> Option<HttpRequest> {
        if self.running.len() < self.limit
            && let Some(request) = self.blocks.pop_front()
        {
            self.running.insert(as_v1(&request.cid));
            return Some(request);
        }
        let most = if self.absent >= MANY_ABSENT { 1 } else { MAX_PRESENCES };
        if self.running_presences < most
            && let Some(request) = self.presences.pop_front()
        {
            self.running_presences += 1;
            return Some(request);
        }
        None
    }

    /// Records that the provider answered a request: it sent the block or has it, or lacks it.
    pub fn answered(&mut self, request: &HttpRequest, have: bool) {
        self.ended(request);
        self.absent = if have { 0 } else { self.absent + 1 };
        if have {
            self.limit = (self.limit + 1).min(MAX_BLOCKS);
        }
    }

    /// Records that the provider is busy: fewer requests run at once. The request runs again.
    pub fn refused(&mut self, request: HttpRequest) {
        self.limit = (self.limit / 2).max(1);
        self.put_back(request);
    }

    /// Has a request run again, as if it had not run.
    pub fn put_back(&mut self, request: HttpRequest) {
        self.ended(&request);
        self.again(request);
    }

    /// Records that a request failed. Returns whether it runs again.
    pub fn failed(&mut self, request: HttpRequest) -> bool {
        self.ended(&request);
        let again = request.attempt < MAX_ATTEMPTS;
        if again {
            self.again(HttpRequest { attempt: request.attempt + 1, ..request });
        }
        again
    }

    /// Returns whether no request waits.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.presences.is_empty()
    }

    fn again(&mut self, request: HttpRequest) {
        match request.kind {
            Kind::Block => self.blocks.push_front(request),
            Kind::Have => self.presences.push_front(request),
        }
    }

    fn ended(&mut self, request: &HttpRequest) {
        match request.kind {
            Kind::Block => drop(self.running.remove(&as_v1(&request.cid))),
            Kind::Have => self.running_presences = self.running_presences.saturating_sub(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use multihash_codetable::{Code, MultihashDigest};

    use super::*;

    fn cid(n: usize) -> Cid {
        Cid::new_v1(0x55, Code::Sha2_256.digest(&n.to_be_bytes()))
    }

    fn want(n: usize) -> WantlistEntry {
        WantlistEntry::want(cid(n), Kind::Block, 10)
    }

    fn running(queue: &mut RequestQueue) -> Vec<HttpRequest> {
        std::iter::from_fn(|| queue.next()).collect()
    }

    #[test]
    fn blocks_are_requested_in_order_and_urgent_ones_first() {
        let mut queue = RequestQueue::default();
        (0..20).for_each(|n| queue.add(&want(n)));
        queue.add(&WantlistEntry::want(cid(99), Kind::Block, i32::MAX));
        queue.add(&want(3));
        let cids: Vec<_> = running(&mut queue).iter().map(|request| request.cid).collect();
        let expected: Vec<_> = [99].into_iter().chain(0..FIRST_BLOCKS - 1).map(cid).collect();
        assert_eq!(cids, expected);
    }

    #[test]
    fn more_requests_run_while_blocks_arrive_and_fewer_when_the_provider_is_busy() {
        let mut queue = RequestQueue::default();
        (0..200).for_each(|n| queue.add(&want(n)));
        let mut all = running(&mut queue);
        assert_eq!(all.len(), FIRST_BLOCKS);
        while let Some(done) = all.pop() {
            queue.answered(&done, true);
            all.extend(running(&mut queue));
            assert!(all.len() <= MAX_BLOCKS);
            if all.len() == MAX_BLOCKS {
                break;
            }
        }
        assert_eq!(all.len(), MAX_BLOCKS);
        for request in all.drain(..) {
            queue.refused(request);
        }
        let one = running(&mut queue);
        assert_eq!(one.len(), 1, "the limit is halved down to one");
    }

    #[test]
    fn cancelled_requests_do_not_run_and_failed_ones_run_three_times() {
        let mut queue = RequestQueue::default();
        queue.add(&want(1));
        queue.add(&WantlistEntry::want(cid(2), Kind::Have, 5));
        queue.add(&WantlistEntry::cancel(cid(1)));
        queue.add(&WantlistEntry::cancel(cid(2)));
        assert!(queue.next().is_none() && queue.is_empty());
        queue.add(&want(3));
        for again in [true, true, false] {
            let request = queue.next().unwrap();
            assert_eq!(queue.failed(request), again);
        }
        assert!(queue.is_empty());
    }

    #[test]
    fn a_provider_without_the_content_is_asked_for_one_presence_at_a_time() {
        let mut queue = RequestQueue::default();
        (0..100).for_each(|n| queue.add(&WantlistEntry::want(cid(n), Kind::Have, 5)));
        let mut all = running(&mut queue);
        assert_eq!(all.len(), MAX_PRESENCES);
        for _ in 0..MANY_ABSENT + MAX_PRESENCES {
            let request = all.remove(0);
            queue.answered(&request, false);
            all.extend(running(&mut queue));
        }
        assert_eq!(all.len(), 1);
        queue.answered(&all.remove(0), true);
        assert_eq!(running(&mut queue).len(), MAX_PRESENCES);
    }
}
