//! The queue of unverified IPNS records: each is queued once, with a limit per peer.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
};

use libp2p::PeerId;
use tokio::sync::mpsc;

use crate::{command::ReceivedRecord, routing::ipns};

/// Queued records of one peer.
const MAX_PER_PEER: usize = 64;
/// Recent pubsub records that are recognized as duplicates.
const MAX_SEEN: usize = 1024;

/// The queue of records received from peers.
pub(super) struct RecordQueue {
    queue: mpsc::Sender<ReceivedRecord>,
    waiting: HashMap<PeerId, usize>,
    /// Hashes of the last records received over pubsub.
    seen: VecDeque<u64>,
    hasher: RandomState,
}

impl RecordQueue {
    pub(super) fn new(queue: mpsc::Sender<ReceivedRecord>) -> Self {
        Self { queue, waiting: HashMap::new(), seen: VecDeque::new(), hasher: RandomState::new() }
    }

    /// Queues a record. Returns false if its peer has too many here, or if the message is a duplicate.
    pub(super) fn put(&mut self, received: ReceivedRecord) -> bool {
        if received.record.len() > ipns::MAX_BYTES {
            return false;
        }
        let (from, is_message) = (received.from, received.message.is_some());
        let hash = self.hasher.hash_one((received.name, &received.record));
        if is_message && self.seen.contains(&hash) {
            return false;
        }
        let waiting = self.waiting.get(&from).copied().unwrap_or(0);
        if waiting >= MAX_PER_PEER || self.queue.try_send(received).is_err() {
            return false;
        }
        self.waiting.insert(from, waiting + 1);
        if is_message {
            self.seen.push_back(hash);
            if self.seen.len() > MAX_SEEN {
                self.seen.pop_front();
            }
        }
        true
    }

    /// Records that a record of `from` was verified.
    pub(super) fn done(&mut self, from: &PeerId) {
        match self.waiting.get_mut(from) {
            Some(waiting) if *waiting > 1 => *waiting -= 1,
            _ => drop(self.waiting.remove(from)),
        }
    }

    /// Clears the duplicates, for a name that is unsubscribed and followed again.
    pub(super) fn forget(&mut self) {
        self.seen.clear();
    }
}

#[cfg(test)]
mod tests {
    use libp2p::gossipsub::MessageId;

    use super::*;

    fn record(from: PeerId, record: u32, message: bool) -> ReceivedRecord {
        let message = message.then(|| MessageId::new(b"1"));
        ReceivedRecord { name: PeerId::random(), record: record.to_be_bytes().into(), from, message }
    }

    #[tokio::test]
    async fn pubsub_replay_of_a_record_is_not_queued_twice() {
        let (sender, mut records) = mpsc::channel(64);
        let mut queue = RecordQueue::new(sender);
        let first = record(PeerId::random(), 1, true);
        let again = || ReceivedRecord {
            name: first.name,
            record: first.record.clone(),
            from: PeerId::random(),
            message: Some(MessageId::new(b"2")),
        };
        let replays: Vec<_> = (0..100).map(|_| again()).collect();
        let asked_for = ReceivedRecord { message: None, ..again() };
        let later = again();
        assert!(queue.put(first));
        assert_eq!(replays.into_iter().filter_map(|replay| queue.put(replay).then_some(())).count(), 0);
        assert!(queue.put(asked_for), "an answer does not count as a message");
        queue.forget();
        assert!(queue.put(later));
        assert_eq!([records.recv().await, records.recv().await].into_iter().flatten().count(), 2);
    }

    #[tokio::test]
    async fn a_flood_of_records_from_one_peer_leaves_queue_space_for_others() {
        let (sender, mut records) = mpsc::channel(2 * MAX_PER_PEER);
        let mut queue = RecordQueue::new(sender);
        let flooder = PeerId::random();
        assert_eq!((0..1000).filter(|n| queue.put(record(flooder, *n, true))).count(), MAX_PER_PEER);
        assert!(queue.put(record(PeerId::random(), 0, true)));
        assert!(records.recv().await.is_some());
        queue.done(&flooder);
        assert_eq!((0..10).filter(|n| queue.put(record(flooder, *n, true))).count(), 1);
        (0..100).for_each(|_| queue.done(&flooder));
        assert!(!queue.waiting.contains_key(&flooder));
    }

    #[test]
    fn a_record_that_is_too_long_is_not_queued() {
        let (sender, _records) = mpsc::channel(64);
        let mut long = record(PeerId::random(), 0, false);
        long.record = vec![0; ipns::MAX_BYTES + 1];
        assert!(!RecordQueue::new(sender).put(long));
    }
}
