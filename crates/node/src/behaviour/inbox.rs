//! Records of names on their way to be verified: each once, and no peer takes the places of others.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
};

use libp2p::PeerId;
use tokio::sync::mpsc;

use crate::{names::pubsub::Heard, routing::ipns};

/// Records of one peer that wait at once.
const MAX_OF_A_PEER: usize = 64;
/// The last records of messages that are known again.
const REMEMBERED: usize = 1024;

/// The queue of records that peers told.
pub(super) struct Inbox {
    queue: mpsc::Sender<Heard>,
    waiting: HashMap<PeerId, usize>,
    /// Hashes of the last records that came as messages.
    seen: VecDeque<u64>,
    hasher: RandomState,
}

impl Inbox {
    pub(super) fn new(queue: mpsc::Sender<Heard>) -> Self {
        Self { queue, waiting: HashMap::new(), seen: VecDeque::new(), hasher: RandomState::new() }
    }

    /// Takes a record; false where its peer has too many here, or a message repeats another.
    pub(super) fn put(&mut self, heard: Heard) -> bool {
        if heard.record.len() > ipns::MAX_BYTES {
            return false;
        }
        let (from, is_message) = (heard.from, heard.message.is_some());
        let hash = self.hasher.hash_one((heard.name, &heard.record));
        if is_message && self.seen.contains(&hash) {
            return false;
        }
        let waiting = self.waiting.get(&from).copied().unwrap_or(0);
        if waiting >= MAX_OF_A_PEER || self.queue.try_send(heard).is_err() {
            return false;
        }
        self.waiting.insert(from, waiting + 1);
        if is_message {
            self.seen.push_back(hash);
            if self.seen.len() > REMEMBERED {
                self.seen.pop_front();
            }
        }
        true
    }

    /// Takes note that a record of `from` does not wait any longer.
    pub(super) fn done(&mut self, from: &PeerId) {
        match self.waiting.get_mut(from) {
            Some(waiting) if *waiting > 1 => *waiting -= 1,
            _ => drop(self.waiting.remove(from)),
        }
    }

    /// Forgets what was repeated: a name that is followed again begins again.
    pub(super) fn forget(&mut self) {
        self.seen.clear();
    }
}

#[cfg(test)]
mod tests {
    use libp2p::gossipsub::MessageId;

    use super::*;

    fn told(from: PeerId, record: u32, message: bool) -> Heard {
        let message = message.then(|| MessageId::new(b"1"));
        Heard { name: PeerId::random(), record: record.to_be_bytes().into(), from, message }
    }

    #[tokio::test]
    async fn pubsub_replay_of_a_record_is_not_queued_twice() {
        let (queue, mut records) = mpsc::channel(64);
        let mut inbox = Inbox::new(queue);
        let first = told(PeerId::random(), 1, true);
        let again = || Heard {
            name: first.name,
            record: first.record.clone(),
            from: PeerId::random(),
            message: Some(MessageId::new(b"2")),
        };
        let replays: Vec<_> = (0..100).map(|_| again()).collect();
        let asked_for = Heard { message: None, ..again() };
        let later = again();
        assert!(inbox.put(first));
        assert_eq!(replays.into_iter().filter_map(|replay| inbox.put(replay).then_some(())).count(), 0);
        assert!(inbox.put(asked_for), "an answer does not count as a message");
        inbox.forget();
        assert!(inbox.put(later));
        assert_eq!([records.recv().await, records.recv().await].into_iter().flatten().count(), 2);
    }

    #[tokio::test]
    async fn a_flood_of_one_peer_leaves_room_in_the_queue_for_others() {
        let (queue, mut records) = mpsc::channel(2 * MAX_OF_A_PEER);
        let mut inbox = Inbox::new(queue);
        let flooder = PeerId::random();
        assert_eq!((0..1000).filter(|n| inbox.put(told(flooder, *n, true))).count(), MAX_OF_A_PEER);
        assert!(inbox.put(told(PeerId::random(), 0, true)));
        assert!(records.recv().await.is_some());
        inbox.done(&flooder);
        assert_eq!((0..10).filter(|n| inbox.put(told(flooder, *n, true))).count(), 1);
        (0..100).for_each(|_| inbox.done(&flooder));
        assert!(!inbox.waiting.contains_key(&flooder));
    }

    #[test]
    fn what_is_too_long_for_a_record_is_not_queued() {
        let (queue, _records) = mpsc::channel(64);
        let mut long = told(PeerId::random(), 0, false);
        long.record = vec![0; ipns::MAX_BYTES + 1];
        assert!(!Inbox::new(queue).put(long));
    }
}
