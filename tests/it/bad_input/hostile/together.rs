//! All attacks at once, while an honest client pulls and pushes: both succeed, and memory and disk are bounded.

use std::{fs, os::unix::fs::MetadataExt, path::Path, sync::Arc, time::Duration};

use futures::{
    AsyncWriteExt,
    future::{join, join_all, join3, join5},
};
use libp2p::{Stream, core::muxing::SubstreamBox, identity::Keypair};
use libtest_mimic::Trial;
use ocipfs_node::Cid;
use ocipfs_oci::Digest;
use tokio::time;

use super::{
    dags::Dag,
    layouts::{layout, nested_indexes},
    memory::Memory,
    pubsub::{self, padded, topic_of},
    unasked::{begin, claims, flood},
};
use crate::{
    following::{self, follower, push},
    harness::{Serve, noise, trial_within, until, within},
    http::get,
    memory::{large_tar, pulled},
    names::image::Image,
    peers::{
        gossip::Gossip,
        hostile::{Answer, Blocks, Hostile, honest},
        unread::Connection,
    },
    push::Repository,
};

/// With one that serves a layout, these are 16.
const CLAIMING: usize = 11;
const UNREAD: usize = 4;
/// Of those that claim.
const FLOODING: usize = 6;
/// All that one peer may have.
const CONNECTIONS: usize = 8;
const STREAMS: usize = 10;
const MULTISTREAM: &[u8] = b"\x13/multistream/1.0.0\n";
const SILENT: usize = 30;
/// Memory that a node may use beyond its idle use.
const BUDGET: u64 = 150 << 20;
const PULLED: u64 = 256 << 20;
const PUSHED: u64 = 64 << 20;
/// Indexes of 4 MiB in the layout. Those that clients had it read are cached like any other pull.
const INDEXES: usize = 16;
/// Of the index and the log.
const DISK_SLACK: u64 = 16 << 20;
/// Of two cores that much else uses; alone it takes a fourth.
const FINISHED_WITHIN: Duration = Duration::from_secs(600);
const ATTACKED_FOR: Duration = Duration::from_secs(90);
const HEARD_WITHIN: Duration = Duration::from_secs(60);
/// Between two replays of one peer.
const PACE: Duration = Duration::from_millis(10);

pub fn trials() -> Vec<Trial> {
    let name =
        concat!(module_path!(), "::a_pull_and_a_push_succeed_in_bounded_memory_during_all_attacks_at_once");
    vec![trial_within(name, FINISHED_WITHIN, a_pull_and_a_push_succeed)]
}

/// A source with a large layer, and the node through which it is pulled.
struct Stage {
    source: Serve,
    node: Serve,
    /// The layer's path, and its digest.
    layer: (String, Digest),
    /// Bytes of the pushed layer.
    pushed: Vec<u8>,
}

impl Stage {
    async fn start() -> Self {
        let source = Serve::start(&[]);
        let (tar, digest) = large_tar(source.data_dir(), PULLED);
        let reference = source.ask(&["-q", "layer", "add", tar.to_str().expect("UTF-8")]);
        fs::remove_file(tar).expect("the tar");
        let (_, name) = reference.split_once('/').expect("a registry");
        let (name, _) = name.rsplit_once(':').expect("a tag");
        let layer = (format!("/v2/{name}/blobs/{digest}"), digest);
        let node = follower(&[&source], &[]);
        Self { source, node, layer, pushed: noise(PUSHED as usize) }
    }

    /// Pulls the layer and holds that its bytes are right.
    async fn pull(&self) {
        assert_eq!(pulled(&self.node.url(&self.layer.0)).await, self.layer.1);
    }

    async fn push(&self) {
        let repository = Repository::new(&self.node, "pushed");
        repository.push_image("latest", &self.pushed).await;
        repository.has(&self.pushed).await;
    }
}

/// Peers that all attack one node.
struct Hostiles {
    /// Has the layout.
    server: Hostile,
    /// Say that they have everything else.
    claiming: Vec<Hostile>,
    _silent: Vec<Hostile>,
    replaying: Vec<Gossip>,
    /// Record that was sent to the followers of the source.
    record: Vec<u8>,
    layout: Cid,
}

impl Hostiles {
    async fn start(stage: &Stage) -> Self {
        let mut dag = Dag::default();
        let indexes = nested_indexes(&mut dag, INDEXES);
        let layout = layout(&mut dag, &indexes);
        let blocks = Arc::new(dag.into_blocks());
        let shared = blocks.clone();
        let server = hostile(&stage.node, Box::new(move |want| honest(&shared, want))).await;
        let claiming = join_all((0..CLAIMING).map(|_| hostile(&stage.node, claims_others(&blocks)))).await;
        let silent = (0..SILENT).map(|_| async {
            let silent = Hostile::start(&[], Box::new(|_| vec![])).await;
            silent.connect(stage.node.address(), 1).await;
            silent
        });
        let _silent = join_all(silent).await;
        let (replaying, record) = replaying(stage).await;
        Self { server, claiming, _silent, replaying, record, layout }
    }

    /// Attacks in all ways at once; ends when all was said, or those who say it were disconnected.
    async fn attack(&self, node: &Serve) {
        let (peer, claiming) = (node.peer(), &self.claiming);
        let begun = join_all(claiming.iter().map(|hostile| begin(hostile, peer, 3 * CONNECTIONS)));
        let parts = join_all(claiming.iter().map(|hostile| begin_parts(hostile, peer)));
        let unread = join_all((0..UNREAD).map(|_| leave_unread(node)));
        let all = claiming.iter().chain([&self.server]);
        let topics = join_all(all.map(|hostile| flood_topics(hostile, peer)));
        let blocks = join_all(claiming.iter().take(FLOODING).map(|hostile| flood(hostile, peer)));
        let replays = join_all(self.replaying.iter().map(|peer| replay(peer, &self.record)));
        let streams = join3(begun, parts, unread);
        join5(streams, topics, blocks, replays, self.request(node)).await;
    }

    /// Lets clients look for tags in the layout.
    async fn request(&self, node: &Serve) {
        let ask = |n| async move {
            get(&node.url(&format!("/v2/ipfs/{}/manifests/missing{n}", self.layout))).await
        };
        for answer in join_all((0..4).map(ask)).await {
            assert!([404, 502, 503, 504].contains(&answer.status), "{answer:?}");
        }
    }
}

/// Says of all other blocks that it has them.
fn claims_others(blocks: &Arc<Blocks>) -> Answer {
    let (blocks, mut claim) = (blocks.clone(), claims());
    Box::new(move |want| if blocks.contains_key(&want.cid) { vec![] } else { claim(want) })
}

async fn hostile(node: &Serve, answer: Answer) -> Hostile {
    let mut hostile = Hostile::start(&[], answer).await;
    hostile.take_pubsub();
    hostile.connect(node.address(), CONNECTIONS).await;
    hostile
}

/// Opens connections of one peer whose streams carry what is not read.
async fn leave_unread(node: &Serve) -> Vec<(Connection, Vec<SubstreamBox>)> {
    let key = Keypair::generate_ed25519();
    let mut bytes = [MULTISTREAM, &b"\x03ls\n".repeat(5000)].concat();
    bytes.resize(256 << 10, 0);
    let connections = (0..CONNECTIONS).map(|_| async {
        let connection = Connection::dial(&key, node.address()).await;
        let streams = connection.leave_unread(STREAMS, &bytes).await;
        (connection, streams)
    });
    join_all(connections).await
}

/// Two peers in the source's topic, and a record that one of them heard.
async fn replaying(stage: &Stage) -> (Vec<Gossip>, Vec<u8>) {
    let topic = topic_of(&stage.source);
    let peers = join_all((0..2).map(|_| Gossip::start(&topic))).await;
    for peer in &peers {
        assert_eq!(stage.node.command(&["swarm", "connect", peer.address()]).code, Some(0));
        within(HEARD_WITHIN, peer.is_joined()).await;
    }
    let image = Image::of("heard", 1000);
    push(&stage.source, "app", "heard", &image).await;
    following::known(&stage.node, "app", "heard", &image).await;
    let record = within(HEARD_WITHIN, peers[0].is_told(|_| true)).await;
    (peers, record)
}

/// Begins messages in parts, none of which is ever whole.
async fn begin_parts(hostile: &Hostile, reader: &str) -> Vec<Stream> {
    let part = [&[0x80, 0x80, 0x80, 0x02, 0, 0][..], &vec![0; 128 << 10]].concat();
    let mut held = Vec::new();
    for number in 1..=2 * CONNECTIONS {
        let Some(mut stream) = hostile.try_open_parts(reader).await else { break };
        let mut part = part.clone();
        part[4] = number as u8;
        let _ = time::timeout(Duration::from_millis(100), stream.write_all(&part)).await;
        held.push(stream);
    }
    held
}

async fn flood_topics(hostile: &Hostile, reader: &str) {
    if let Some(stream) = hostile.try_open_pubsub(reader).await {
        pubsub::write(stream, pubsub::topics(64)).await;
    }
}

/// Replays a record, every other time with as much padding as a message may have.
async fn replay(peer: &Gossip, record: &[u8]) {
    let padded = padded(record, 60_000);
    let mut pace = time::interval(PACE);
    for _ in 0..500 {
        pace.tick().await;
        peer.tell(record.to_vec()).await;
        peer.tell(padded.clone()).await;
    }
}

/// Returns the disk usage of the files below a directory, in bytes.
fn disk(dir: &Path) -> u64 {
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => disk(&entry.path()),
        Ok(data) => data.blocks() * 512,
        Err(_) => 0,
    };
    fs::read_dir(dir).into_iter().flatten().flatten().map(size).sum()
}

async fn a_pull_and_a_push_succeed() {
    let stage = Stage::start().await;
    let (idle, before) = (stage.node.rss_anon(), disk(stage.node.data_dir()));
    let memory = Memory::watch(&stage.node);
    let hostile = Hostiles::start(&stage).await;
    let used = join(stage.pull(), stage.push());
    // Peers that were disconnected may try for long to open one more stream.
    let attack = time::timeout(ATTACKED_FOR, hostile.attack(&stage.node));
    let _ = join(attack, used).await;
    drop(hostile);
    memory.stayed_below(idle + BUDGET);
    let log = stage.node.log();
    assert!(log.contains("disconnected for 300 s") && log.len() < 64 << 10, "{log}");
    for node in [&stage.node, &stage.source] {
        assert!(!node.log().contains("panicked"), "{}", node.log());
    }
    stage.node.ask(&["store", "gc"]);
    let most = before + PULLED + PUSHED + INDEXES as u64 * (4 << 20) + DISK_SLACK;
    until("the disk is as before", || disk(stage.node.data_dir()) <= most).await;
}
