//! Peers that send unrequested blocks, or begin messages and do not finish them, during an honest pull.

use std::time::Duration;

use bytes::Bytes;
use futures::{AsyncWriteExt, future::join_all};
use libp2p::Stream;
use libtest_mimic::Trial;
use multihash_codetable::{Code, MultihashDigest};
use ocipfs_bitswap::wire::{Kind, WantlistEntry};
use ocipfs_node::Cid;

use super::memory::Memory;
use crate::{
    harness::{Layer, Serve, noise, trials, within},
    http::get,
    peers::hostile::{Answer, Hostile, block, presence},
};

const PULLED_WITHIN: Duration = Duration::from_secs(120);

pub fn trials() -> Vec<Trial> {
    trials![
        unfinished_messages_take_bounded_memory,
        peers_that_send_unrequested_blocks_are_disconnected_while_a_pull_goes_on,
    ]
}

/// A node that has a layer, one that will pull it, and hostile peers that the latter is connected to.
struct Crowd {
    provider: Serve,
    layer: Layer,
    reader: Serve,
    hostile: Vec<Hostile>,
    memory: Memory,
}

impl Crowd {
    async fn new(size: usize, hostile: usize, answer: fn() -> Answer) -> Self {
        let provider = Serve::start(&[]);
        let layer = Layer::add(&provider, &noise(size));
        let hostile = join_all((0..hostile).map(|_| Hostile::start(&[], answer()))).await;
        let addresses = hostile.iter().map(Hostile::address).chain([provider.address()]);
        let reader = Serve::start(&addresses.flat_map(|address| ["--peer", address]).collect::<Vec<_>>());
        reader.until("all are connected", |status| status["peers"] == hostile.len() + 1).await;
        let memory = Memory::watch(&reader);
        Self { provider, layer, reader, hostile, memory }
    }

    async fn is_pulled(&self) {
        let answer = within(PULLED_WITHIN, get(&self.reader.url(&self.layer.blob_path()))).await;
        assert!(answer.status == 200 && answer.body == self.layer.bytes, "{}", answer.status);
    }

    fn ends_well(self) {
        self.memory.was_bounded();
        for node in [&self.reader, &self.provider] {
            assert!(!node.log().contains("panicked"), "{}", node.log());
        }
    }
}

/// The first bytes of a message as long as it may be.
fn begun() -> Bytes {
    let mut bytes = vec![0; 700 << 10];
    bytes[..4].copy_from_slice(&[0x80, 0x80, 0x80, 0x02]);
    bytes.into()
}

/// Says that it has everything, and begins to send it.
pub(super) fn claims() -> Answer {
    let begun = begun();
    Box::new(move |want: &WantlistEntry| match want.kind {
        Kind::Have => presence(&want.cid, true),
        Kind::Block => vec![begun.clone()],
    })
}

/// Begins a message on each of so many streams, over all connections to the peer; they are to be held open.
pub(super) async fn begin(hostile: &Hostile, reader: &str, streams: usize) -> Vec<Stream> {
    let (mut held, begun) = (Vec::new(), begun());
    for _ in 0..streams {
        let Some(mut stream) = hostile.try_open(reader).await else { break };
        // A stream that is given up says so.
        let _ = tokio::time::timeout(Duration::from_millis(100), stream.write_all(&begun)).await;
        held.push(stream);
    }
    held
}

async fn unfinished_messages_take_bounded_memory() {
    let crowd = Crowd::new(16 << 20, 16, claims).await;
    let begin = join_all(crowd.hostile.iter().map(|hostile| begin(hostile, crowd.reader.peer(), 24)));
    let ((), held) = futures::future::join(crowd.is_pulled(), begin).await;
    crowd.is_pulled().await;
    drop(held);
    crowd.ends_well();
}

/// Sends unrequested blocks, on one stream after the other, until the peer is disconnected.
pub(super) async fn flood(hostile: &Hostile, reader: &str) {
    let data = Bytes::from(noise(200_000));
    let cid = Cid::new_v1(0x55, Code::Sha2_256.digest(&data));
    let message = block(&cid, data).concat();
    for _ in 0..20 {
        let Some(mut stream) = hostile.try_open(reader).await else { return };
        for _ in 0..100 {
            if stream.write_all(&message).await.is_err() {
                break;
            }
        }
    }
    panic!("400 MB were taken");
}

async fn peers_that_send_unrequested_blocks_are_disconnected_while_a_pull_goes_on() {
    let crowd = Crowd::new(64 << 20, 8, || Box::new(|_| vec![])).await;
    let floods = join_all(crowd.hostile.iter().map(|hostile| flood(hostile, crowd.reader.peer())));
    futures::future::join(crowd.is_pulled(), floods).await;
    crowd.reader.until("only the provider is connected", |status| status["peers"] == 1).await;
    assert!(crowd.reader.log().contains("disconnected for 300 s"), "{}", crowd.reader.log());
    crowd.ends_well();
}
