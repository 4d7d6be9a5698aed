//! Peers that ask a node for more than it can give: others are served meanwhile, and memory is bounded.

use std::time::Duration;

use bytes::Bytes;
use futures::AsyncWriteExt;
use libp2p::Stream;
use libtest_mimic::Trial;
use multihash_codetable::{Code, MultihashDigest};
use ocipfs_bitswap::wire::{Message, Version, WantlistEntry};
use ocipfs_node::Cid;
use tokio::task::JoinHandle;

use super::memory::Memory;
use crate::{
    harness::{Layer, Serve, noise, trials, within},
    http::get,
    peers::hostile::{Hostile, want},
};

/// No node reads more of a message.
const ENTRIES: usize = 8192;
/// An honest pull of a few MiB that lasts longer during a flood, on a busy machine, is not served.
const SERVED_WITHIN: Duration = Duration::from_secs(60);

pub fn trials() -> Vec<Trial> {
    trials![
        a_flood_of_a_million_wants_does_not_block_other_peers,
        a_flood_of_repeated_wants_for_one_block_does_not_block_other_peers,
        peers_that_do_not_read_their_blocks_do_not_block_other_peers,
        wants_of_disconnected_peers_are_removed,
        a_flood_of_empty_messages_does_not_block_other_peers,
    ]
}

/// A node that serves, and one that has not pulled yet.
struct Pair {
    node: Serve,
    layers: [Layer; 2],
    reader: Serve,
    memory: Memory,
}

impl Pair {
    fn new() -> Self {
        let node = Serve::start(&[]);
        let layers = [1, 2].map(|n| Layer::add(&node, &noise(16 << 20)[n..]));
        let reader = Serve::start(&["--stall-timeout", "15s", "--peer", node.address()]);
        let memory = Memory::watch(&node);
        Self { node, layers, reader, memory }
    }

    /// Makes a peer known to the node, which opens streams to whom it knows.
    fn meet(&self, peer: &Hostile) {
        assert_eq!(self.node.command(&["swarm", "connect", peer.address()]).code, Some(0));
    }

    /// Holds that an honest pull ends well and soon.
    async fn is_served(&self, layer: usize) {
        let layer = &self.layers[layer];
        let answer = within(SERVED_WITHIN, get(&self.reader.url(&layer.blob_path()))).await;
        assert!(answer.status == 200 && answer.body == layer.bytes, "{}", answer.status);
    }

    async fn ends_well(self) {
        self.is_served(1).await;
        self.memory.was_bounded();
        assert!(!self.node.log().contains("panicked"), "{}", self.node.log());
    }
}

/// Says all on one stream, as fast as it is taken; how many messages were.
fn say(mut stream: Stream, messages: impl Iterator<Item = Vec<Bytes>> + Send + 'static) -> JoinHandle<usize> {
    tokio::spawn(async move {
        let mut said = 0;
        for message in messages {
            for piece in message {
                if stream.write_all(&piece).await.is_err() {
                    return said;
                }
            }
            said += 1;
        }
        // A stream that is dropped open takes back the unread bytes.
        let _ = stream.close().await;
        said
    })
}

fn wants(wants: Vec<WantlistEntry>, full: bool) -> Vec<Bytes> {
    Message { wants, full, ..Message::default() }.encode(Version::V1_2)
}

/// Block that no peer has.
fn nowhere(n: usize) -> Cid {
    Cid::new_v1(0x55, Code::Sha2_256.digest(&n.to_be_bytes()))
}

async fn a_flood_of_a_million_wants_does_not_block_other_peers() {
    let pair = Pair::new();
    let hostile = Hostile::start(&[], Box::new(|_| vec![])).await;
    pair.meet(&hostile);
    let mut saying = Vec::new();
    for stream in 0..4 {
        let messages = (0..32).map(move |message| {
            let first = (stream * 32 + message) * ENTRIES;
            wants((first..first + ENTRIES).map(|n| want(nowhere(n))).collect(), false)
        });
        saying.push(say(hostile.open(pair.node.peer()).await, messages));
    }
    pair.is_served(0).await;
    for said in saying {
        assert_eq!(said.await.expect("it is said"), 32, "all of it was taken");
    }
    pair.ends_well().await;
}

async fn a_flood_of_repeated_wants_for_one_block_does_not_block_other_peers() {
    let pair = Pair::new();
    let hostile = Hostile::start(&[], Box::new(|_| vec![])).await;
    pair.meet(&hostile);
    // The layer manifest, which is short; and the node answers each message.
    let manifest: Cid = pair.layers[0].cid().parse().expect("a CID");
    let many = vec![want(manifest); ENTRIES];
    let messages = (0..100_000 / ENTRIES).map(move |_| wants(many.clone(), false));
    let many = say(hostile.open(pair.node.peer()).await, messages);
    let messages = (0..100_000).map(move |_| wants(vec![want(manifest)], true));
    let one = say(hostile.open(pair.node.peer()).await, messages);
    pair.is_served(0).await;
    assert_eq!((many.await.expect("it is said"), one.await.expect("it is said")), (12, 100_000));
    pair.ends_well().await;
}

async fn peers_that_do_not_read_their_blocks_do_not_block_other_peers() {
    const PEERS: usize = 40;
    let pair = Pair::new();
    let blocks = pair.layers.each_ref().map(|layer| {
        let chunks = layer.bytes.chunks(1 << 20).map(|data| Cid::new_v1(0x55, Code::Sha2_256.digest(data)));
        chunks.map(want).collect::<Vec<_>>()
    });
    let blocks = blocks.concat();
    let mut deaf = Vec::new();
    for _ in 0..PEERS {
        let hostile = Hostile::deaf().await;
        pair.meet(&hostile);
        let stream = hostile.open(pair.node.peer()).await;
        let said = say(stream, std::iter::once(wants(blocks.clone(), false)));
        assert_eq!(said.await.expect("it is said"), 1);
        deaf.push(hostile);
    }
    pair.node.until("they are being served", |status| status["sent_blocks"].as_u64() >= Some(20)).await;
    pair.is_served(0).await;
    pair.ends_well().await;
}

async fn wants_of_disconnected_peers_are_removed() {
    let pair = Pair::new();
    for peer in 0..200 {
        let hostile = Hostile::start(&[], Box::new(|_| vec![])).await;
        pair.meet(&hostile);
        let many = (0..1024).map(|n| want(nowhere(peer * 1024 + n))).collect();
        let stream = hostile.open(pair.node.peer()).await;
        assert_eq!(say(stream, std::iter::once(wants(many, false))).await.expect("it is said"), 1);
    }
    pair.node.until("they are gone", |status| status["peers"] == 1).await;
    pair.is_served(0).await;
    pair.ends_well().await;
}

async fn a_flood_of_empty_messages_does_not_block_other_peers() {
    let pair = Pair::new();
    let hostile = Hostile::start(&[], Box::new(|_| vec![])).await;
    pair.meet(&hostile);
    let zeros = Bytes::from(vec![0; 1 << 16]);
    let said = say(hostile.open(pair.node.peer()).await, (0..64).map(move |_| vec![zeros.clone()]));
    pair.is_served(0).await;
    assert_eq!(said.await.expect("it is said"), 64);
    pair.ends_well().await;
}
