//! DAGs that are honest block by block, and lie as a whole.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use ipld_dagpb::{PbLink, PbNode};
use libtest_mimic::Trial;
use multihash_codetable::{Code, MultihashDigest};
use ocipfs_bitswap::wire::fields::put_varint;
use ocipfs_node::Cid;
use ocipfs_oci::Digest;

use super::{Failed, Made, Stage, fails};
use crate::{
    harness::{Layer, Serve, noise, trials, until},
    http::{ask, get, get_found},
    offline::layer_manifest,
    peers::hostile::{Answer, Blocks, Hostile, honest},
};

const RAW: u64 = 0x55;
const DAG_PB: u64 = 0x70;
const MIB: u64 = 1 << 20;

pub fn trials() -> Vec<Trial> {
    trials![
        a_dag_that_is_too_deep_is_rejected,
        a_dag_with_more_parts_than_the_limit_takes_bounded_memory,
        a_dag_that_repeats_few_blocks_as_a_huge_file_takes_bounded_memory_and_disk,
        a_dag_with_wrong_block_sizes_is_rejected,
        a_false_size_of_a_hostile_root_does_not_evict_cached_content,
        a_file_with_an_impossible_size_is_rejected,
        empty_parts_of_a_file_are_not_fetched,
        a_directory_or_symlink_as_part_of_a_file_is_rejected,
        a_node_that_comes_ahead_of_its_readers_is_asked_once_and_fails_only_them,
    ]
}

/// Blocks, put from the leaves up.
#[derive(Default)]
pub(super) struct Dag(Blocks);

impl Dag {
    pub(super) fn leaf(&mut self, data: Vec<u8>) -> Cid {
        self.put(RAW, data)
    }

    /// A part of a file with these children and the sizes they are said to have.
    pub(super) fn node(&mut self, children: &[(Cid, u64)]) -> Cid {
        let sum = children.iter().fold(0, |sum: u64, (_, size)| sum.wrapping_add(*size));
        self.node_of(children, sum)
    }

    /// Adds a part of a file that declares `size` bytes: <https://specs.ipfs.tech/unixfs/>.
    fn node_of(&mut self, children: &[(Cid, u64)], size: u64) -> Cid {
        let mut data = vec![1 << 3, 2, 3 << 3];
        put_varint(&mut data, size);
        for (_, size) in children {
            data.push(4 << 3);
            put_varint(&mut data, *size);
        }
        let links = children.iter().map(|(cid, size)| PbLink {
            cid: *cid,
            name: Some(String::new()),
            size: Some(*size),
        });
        let links = links.collect();
        self.put(DAG_PB, PbNode { links, data: Some(data.into()) }.into_bytes())
    }

    /// A directory with these entries.
    pub(super) fn directory(&mut self, mut entries: Vec<(String, Cid)>) -> Cid {
        entries.sort();
        let link = |(name, cid)| PbLink { cid, name: Some(name), size: Some(0) };
        let links = entries.into_iter().map(link).collect();
        self.put(DAG_PB, PbNode { links, data: Some(vec![1 << 3, 1].into()) }.into_bytes())
    }

    pub(super) fn into_blocks(self) -> Blocks {
        self.0
    }

    /// A node of this kind without links: 1 is a directory, 4 a symbolic link.
    fn kind(&mut self, kind: u8) -> Cid {
        self.put(DAG_PB, PbNode { links: vec![], data: Some(vec![1 << 3, kind].into()) }.into_bytes())
    }

    fn put(&mut self, codec: u64, block: Vec<u8>) -> Cid {
        let cid = Cid::new_v1(codec, Code::Sha2_256.digest(&block));
        self.0.insert(cid, Bytes::from(block));
        cid
    }

    /// A layer manifest that says `root` is a file of `size` bytes, which are `bytes`.
    pub(super) fn layer(self, root: Cid, size: u64, bytes: Vec<u8>) -> Made {
        let mut manifest = layer_manifest(&bytes, root);
        manifest["layer"]["size"] = size.into();
        let digest = Digest::sha256_of(&bytes).to_string();
        Made::named(manifest.to_string(), digest, bytes, root, self.0)
    }
}

async fn stage(made: &Made) -> Stage {
    let blocks = made.blocks.clone();
    let answer: Answer = Box::new(move |want| honest(&blocks, want));
    Stage::new(made, answer).await
}

/// A pull says what is wrong, to the client or, after the first bytes, in the log.
async fn is_rejected(made: Made, why: &str) {
    let stage = stage(&made).await;
    match fails(&stage.reader, &made.layer).await {
        Failed::Refused(status, text) => assert!(status == 502 && text.contains(why), "{status}: {text}"),
        Failed::BrokenOff => assert!(stage.reader.log().contains(why), "{}", stage.reader.log()),
    }
    stage.ends_well().await;
}

/// A pull ends without the blob, whatever it says, and the next one is served.
async fn pull_fails_and_next_succeeds(made: Made) {
    let stage = stage(&made).await;
    fails(&stage.reader, &made.layer).await;
    stage.ends_well().await;
}

/// A leaf below so many nodes with one child each.
fn chain(depth: usize) -> Made {
    let (mut dag, bytes) = (Dag::default(), noise(MIB as usize));
    let mut top = dag.leaf(bytes.clone());
    for _ in 0..depth {
        top = dag.node(&[(top, MIB)]);
    }
    dag.layer(top, MIB, bytes)
}

async fn a_dag_that_is_too_deep_is_rejected() {
    let made = chain(32);
    let stage = stage(&made).await;
    assert!(get(&stage.reader.url(&made.layer.blob_path())).await.body == made.layer.bytes);
    stage.ends_well().await;
    for depth in [33, 100_000] {
        is_rejected(chain(depth), "deeper than 32").await;
    }
}

async fn a_dag_with_more_parts_than_the_limit_takes_bounded_memory() {
    const NODES: u64 = 30;
    const CHILDREN: u64 = 40_000;
    let mut dag = Dag::default();
    let leaf = |n: u64| Cid::new_v1(RAW, Code::Sha2_256.digest(&n.to_be_bytes()));
    let mut nodes = Vec::new();
    for node in 0..NODES {
        let children: Vec<_> = (0..CHILDREN).map(|n| (leaf(node * CHILDREN + n), 1)).collect();
        nodes.push((dag.node(&children), CHILDREN));
    }
    let root = dag.node(&nodes);
    pull_fails_and_next_succeeds(dag.layer(root, NODES * CHILDREN, vec![])).await;
}

async fn a_dag_that_repeats_few_blocks_as_a_huge_file_takes_bounded_memory_and_disk() {
    const TIMES: usize = 5_000;
    let mut dag = Dag::default();
    let mut top = (dag.leaf(vec![7; 1 << 10]), 1 << 10);
    for _ in 0..4 {
        top = (dag.node(&vec![top; TIMES]), top.1 * TIMES as u64);
    }
    let made = dag.layer(top.0, top.1, vec![]);
    let stage = stage(&made).await;
    let mut response = reqwest::get(stage.reader.url(&made.layer.blob_path())).await.expect("an answer");
    let mut read = 0;
    // It is passed on as far as the client reads: nothing of it is wrong until its end, which no client comes to.
    while read < 8 << 20
        && let Ok(Some(bytes)) = response.chunk().await
    {
        read += bytes.len();
    }
    drop(response);
    until("nothing of it is left", || stage.reader.stored("partial") == 0).await;
    assert!(stage.reader.stored("used_bytes") < 16 << 20);
    stage.ends_well().await;
}

async fn a_false_size_of_a_hostile_root_does_not_evict_cached_content() {
    const CLAIMED: u64 = 9 * MIB;
    let mut dag = Dag::default();
    let missing = Cid::new_v1(RAW, Code::Sha2_256.digest(b"never served"));
    let root = dag.node(&[(missing, MIB); 9]);
    let made = dag.layer(root, CLAIMED, vec![]);
    let source = Serve::start(&[]);
    let cached = Layer::add(&source, &noise(8 << 20));
    let blocks = made.blocks.clone();
    let hostile =
        Hostile::start(&[made.manifest(), made.root], Box::new(move |want| honest(&blocks, want))).await;
    let arguments = ["--peer", source.address(), "--peer", hostile.address(), "--cache-size", "10MiB"];
    let reader = Serve::start(&[&arguments[..], &["--find-timeout", "2s", "--stall-timeout", "2s"]].concat());
    assert!(get_found(&reader.url(&cached.blob_path())).await.body == cached.bytes);
    source.kill();
    fails(&reader, &made.layer).await;
    assert!(get(&reader.url(&cached.blob_path())).await.body == cached.bytes, "it is cached still");
}

async fn a_dag_with_wrong_block_sizes_is_rejected() {
    let bytes = noise(4 << 20);
    for (lie, why) in [(1, "do not add up"), (2, "expected a file part of"), (3, "expected a file part of")] {
        let mut dag = Dag::default();
        let leaves: Vec<_> = bytes.chunks(MIB as usize).map(|data| (dag.leaf(data.to_vec()), MIB)).collect();
        let mut children = leaves.clone();
        let root = match lie {
            1 => dag.node_of(&children, 4 * MIB + 1),
            // Longer and shorter than it is, one behind the other, so that the sum is right.
            2 => {
                (children[0].1, children[1].1) = (MIB + 1, MIB - 1);
                dag.node(&children)
            }
            _ => {
                (children[2].1, children[3].1) = (MIB - 1, MIB + 1);
                dag.node(&children)
            }
        };
        is_rejected(dag.layer(root, 4 * MIB, bytes.clone()), why).await;
    }
}

async fn a_file_with_an_impossible_size_is_rejected() {
    for huge in [1 << 50, 1 << 63, u64::MAX - MIB] {
        let mut dag = Dag::default();
        let leaf = dag.leaf(noise(MIB as usize));
        let root = dag.node(&[(leaf, huge), (leaf, MIB)]);
        let made = dag.layer(root, huge + MIB, noise(MIB as usize));
        let stage = stage(&made).await;
        fails(&stage.reader, &made.layer).await;
        // Its end is a block as it should be, at a place that no file has.
        let range = format!("bytes={}-{}", huge, huge + 9);
        let answer = ask("GET", &stage.reader.url(&made.layer.blob_path()), &[("range", &range)]).await;
        assert!(matches!(answer.status, 500 | 502 | 507), "{}", answer.status);
        stage.ends_well().await;
    }
}

async fn empty_parts_of_a_file_are_not_fetched() {
    let bytes = noise(2 << 20);
    let mut dag = Dag::default();
    let leaves: Vec<_> = bytes.chunks(MIB as usize).map(|data| (dag.leaf(data.to_vec()), MIB)).collect();
    // No peer has it.
    let nothing = (Cid::new_v1(RAW, Code::Sha2_256.digest(b"no peer has it")), 0);
    let mut children = vec![nothing; 1000];
    children.extend([leaves[0], nothing, leaves[1], nothing]);
    let root = dag.node(&children);
    let made = dag.layer(root, 2 * MIB, bytes);
    let stage = stage(&made).await;
    let answer = get(&stage.reader.url(&made.layer.blob_path())).await;
    assert!(answer.status == 200 && answer.body == made.layer.bytes, "{}", answer.status);
    stage.ends_well().await;
}

async fn a_directory_or_symlink_as_part_of_a_file_is_rejected() {
    for kind in [1, 4] {
        let (mut dag, bytes) = (Dag::default(), noise(MIB as usize));
        let leaf = dag.leaf(bytes.clone());
        let other = dag.kind(kind);
        let root = dag.node(&[(leaf, MIB), (other, MIB)]);
        is_rejected(dag.layer(root, 2 * MIB, bytes), "expected part of a file").await;
    }
}

async fn a_node_that_comes_ahead_of_its_readers_is_asked_once_and_fails_only_them() {
    const NODE: u64 = 3 * MIB;
    let (mut dag, bytes) = (Dag::default(), noise(3 * NODE as usize));
    let mut nodes = Vec::new();
    for part in bytes.chunks(NODE as usize) {
        let leaves: Vec<_> = part.chunks(MIB as usize).map(|data| (dag.leaf(data.to_vec()), MIB)).collect();
        nodes.push((dag.node(&leaves), NODE));
    }
    nodes[1].0 = dag.kind(1);
    nodes.push((Cid::new_v1(DAG_PB, Code::Sha2_256.digest(b"no peer has it")), NODE));
    let (last, root) = (nodes[2].0, dag.node(&nodes));
    let made = dag.layer(root, 4 * NODE, bytes);
    let (blocks, asked) = (made.blocks.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = asked.clone();
    let answer: Answer = Box::new(move |want| {
        counted.fetch_add(usize::from(want.cid == last), Ordering::Relaxed);
        honest(&blocks, want)
    });
    let stage = Stage::new(&made, answer).await;
    let url = stage.reader.url(&made.layer.blob_path());
    let read = async |start: u64| {
        let range = format!("bytes={start}-{}", start + 99);
        ask("GET", &url, &[("range", &range)]).await
    };
    for start in [MIB, 2 * NODE + 5] {
        let answer = read(start).await;
        assert_eq!(answer.status, 206, "{start}: {}", String::from_utf8_lossy(&answer.body));
        assert!(answer.body == made.layer.bytes[start as usize..start as usize + 100], "{start}");
        assert_eq!(asked.load(Ordering::Relaxed), 1, "its node came with the first one");
    }
    read(NODE).await.refused(502, "PEER_DATA_INVALID", &["expected part of a file"]);
    read(3 * NODE).await.refused(504, "PEER_TIMEOUT", &["no bytes received for 3.0 s"]);
    stage.ends_well().await;
}
