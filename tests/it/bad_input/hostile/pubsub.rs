//! Peers that flood pubsub: memory is bounded, replays go no further, and a true update is heard meanwhile.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::AsyncWriteExt;
use libp2p::{PeerId, Stream};
use libtest_mimic::Trial;
use ocipfs_bitswap::wire::fields::put_varint;

use super::memory::Memory;
use crate::{
    following::{self, follower, push},
    harness::{Serve, trials, within},
    names::image::Image,
    peers::{gossip::Gossip, hostile::Hostile},
};

const HEARD_WITHIN: Duration = Duration::from_secs(60);
/// With its length it fits into one message of pubsub, which has 64 KiB.
const LONG: usize = 65_000;
const MANY: usize = 4096;

pub fn trials() -> Vec<Trial> {
    trials![
        pubsub_subscriptions_to_long_topics_take_bounded_memory,
        pubsub_control_messages_with_long_topics_take_bounded_memory,
        pubsub_replay_is_not_forwarded_twice_and_a_new_record_is_received,
    ]
}

/// A publisher and its follower, whose memory is watched.
struct Pair {
    publisher: Serve,
    follower: Serve,
    memory: Memory,
}

impl Pair {
    async fn new() -> Self {
        let publisher = Serve::start(&[]);
        let follower = follower(&[&publisher], &[]);
        let pair = Self { memory: Memory::watch(&follower), publisher, follower };
        pair.is_updated("first").await;
        pair
    }

    /// Holds that what is pushed now is known at the follower.
    async fn is_updated(&self, tag: &str) {
        let image = Image::of(tag, 1000);
        push(&self.publisher, "app", tag, &image).await;
        following::known(&self.follower, "app", tag, &image).await;
    }

    /// Makes a peer known to the follower.
    fn meet(&self, address: &str) {
        assert_eq!(self.follower.command(&["swarm", "connect", address]).code, Some(0));
    }

    fn ends_well(self) {
        self.memory.was_bounded();
        let log = self.follower.log();
        assert!(log.len() < 64 << 10, "{} bytes of log", log.len());
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// The topic of a node's own name.
pub(super) fn topic_of(node: &Serve) -> String {
    let name: PeerId = node.peer().parse().expect("a peer id");
    let key = [&b"/ipns/"[..], &name.to_bytes()].concat();
    format!("/record/{}", URL_SAFE_NO_PAD.encode(key))
}

/// A field of protobuf whose value is these bytes.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &length(value.len()), value].concat()
}

fn length(length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_varint(&mut bytes, length as u64);
    bytes
}

fn long(n: usize) -> Vec<u8> {
    let mut topic = format!("/record/{n:08}").into_bytes();
    topic.resize(LONG, b'A');
    topic
}

fn subscription(topic: &[u8]) -> Vec<u8> {
    field(1, &[&[0x08, 1][..], &field(2, topic)].concat())
}

/// A PRUNE, which asks not to be told more of a topic for an hour.
fn prune(topic: &[u8]) -> Vec<u8> {
    let hour = [&[0x18][..], &length(3600)].concat();
    field(3, &field(4, &[field(1, topic), hour].concat()))
}

/// An IDONTWANT for a message.
fn unwanted(message: &[u8]) -> Vec<u8> {
    field(3, &field(5, &field(1, message)))
}

/// Messages about so many topics, each as long as a message of pubsub may be.
fn controls(count: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|n| if n % 2 == 0 { prune(&long(n)) } else { unwanted(&long(n)) })
}

/// Returns [`controls`] and subscriptions.
pub(super) fn topics(count: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|n| subscription(&long(n))).chain(controls(count))
}

/// A record with so many bytes that mean nothing.
pub(super) fn padded(record: &[u8], bytes: usize) -> Vec<u8> {
    [record, &field(15, &vec![b'A'; bytes])].concat()
}

/// Writes messages as long as they are taken.
pub(super) async fn write(mut stream: Stream, messages: impl Iterator<Item = Vec<u8>>) {
    for message in messages {
        let framed = [length(message.len()), message].concat();
        if stream.write_all(&framed).await.is_err() {
            return;
        }
    }
    let _ = stream.flush().await;
    // A stream that is dropped open takes back the unread bytes.
    let _ = stream.close().await;
}

async fn flooded_by(messages: impl Iterator<Item = Vec<u8>>) {
    let pair = Pair::new().await;
    let hostile = Hostile::of_pubsub().await;
    pair.meet(hostile.address());
    write(hostile.open_pubsub(pair.follower.peer()).await, messages).await;
    pair.is_updated("second").await;
    pair.ends_well();
}

async fn pubsub_subscriptions_to_long_topics_take_bounded_memory() {
    flooded_by((0..MANY).map(|n| subscription(&long(n)))).await;
}

async fn pubsub_control_messages_with_long_topics_take_bounded_memory() {
    flooded_by(controls(MANY)).await;
}

async fn pubsub_replay_is_not_forwarded_twice_and_a_new_record_is_received() {
    let pair = Pair::new().await;
    let topic = topic_of(&pair.publisher);
    let [flooder, third] = [Gossip::start(&topic).await, Gossip::start(&topic).await];
    for peer in [&flooder, &third] {
        pair.meet(peer.address());
        within(HEARD_WITHIN, peer.is_joined()).await;
    }
    pair.is_updated("second").await;
    let record = within(HEARD_WITHIN, third.is_told(|_| true)).await;
    let before = third.told().iter().filter(|told| **told == record).count();
    for n in 0..10_000 {
        flooder.tell(record.clone()).await;
        if n == 5000 {
            pair.is_updated("third").await;
        }
    }
    // Behind all of the flood in the follower's order.
    pair.is_updated("last").await;
    let told = third.told();
    let replays = told.iter().filter(|told| **told == record).count();
    assert!(before <= 1 && replays <= 1, "{replays} of 10,000 went on");
    assert!(told.len() <= 8, "{} messages in all", told.len());
    pair.ends_well();
}
