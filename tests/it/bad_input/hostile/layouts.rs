//! Images of strangers whose documents are cheap to serve and expensive to read.

use futures::future::join_all;
use libtest_mimic::Trial;
use ocipfs_node::Cid;
use ocipfs_oci::{Digest, media_type};
use serde_json::json;

use super::{Memory, dags::Dag};
use crate::{
    harness::{Serve, trials},
    http::{Answer, get},
    peers::hostile::{Hostile, honest},
};

const MIB: u64 = 1 << 20;
/// Memory that a node may use beyond its idle use.
const BUDGET: u64 = 64 * MIB;
/// A document is at most this long.
const MAX_DOCUMENT: usize = 4 << 20;

pub fn trials() -> Vec<Trial> {
    trials![
        a_missing_tag_in_a_layout_of_many_nested_indexes_is_searched_in_bounded_memory,
        many_descriptor_files_of_nested_json_are_rejected_in_bounded_memory,
        many_layer_manifests_of_nested_json_are_rejected_in_bounded_memory,
    ]
}

/// A node that knows a peer which serves some blocks.
struct Stage {
    reader: Serve,
    memory: Memory,
    /// Memory that the node may use.
    bound: u64,
    _hostile: Hostile,
}

impl Stage {
    async fn new(dag: Dag, roots: &[Cid]) -> Self {
        let blocks = dag.into_blocks();
        let hostile = Hostile::start(roots, Box::new(move |want| honest(&blocks, want))).await;
        let reader = Serve::start(&["--peer", hostile.address(), "--max-memory", &BUDGET.to_string()]);
        reader.until("the peer is connected", |status| status["peers"] == 1).await;
        let (bound, memory) = (reader.rss_anon() + BUDGET, Memory::watch(&reader));
        Self { reader, memory, bound, _hostile: hostile }
    }

    /// Asks for images, all at once.
    async fn get_all(&self, images: impl Iterator<Item = String>) -> Vec<Answer> {
        let urls = images.map(|image| self.reader.url(&format!("/v2/{image}")));
        join_all(urls.map(async |url| get(&url).await)).await
    }
}

/// Indexes of 4 MiB that have all leaves in common but the first.
pub(super) fn nested_indexes(dag: &mut Dag, count: usize) -> Vec<(Digest, u64, Cid)> {
    let entry = json!({"digest": Digest::sha256_of(b"").to_string(), "size": 1}).to_string();
    let some = format!("{entry},").repeat((MIB as usize - 100) / (entry.len() + 1));
    let end = format!("{entry}]}}");
    let shared = (dag.leaf(some.clone().into_bytes()), some.len() as u64);
    let last = (dag.leaf(end.clone().into_bytes()), end.len() as u64);
    let index = |number| {
        let start = format!(r#"{{"number":{number},"manifests":["#);
        let first = (dag.leaf(start.clone().into_bytes()), start.len() as u64);
        let root = dag.node(&[first, shared, shared, shared, shared, last]);
        let bytes = [start, some.repeat(4), end.clone()].concat();
        assert!(bytes.len() <= MAX_DOCUMENT);
        (Digest::sha256_of(bytes.as_bytes()), bytes.len() as u64, root)
    };
    (0..count).map(index).collect()
}

/// The directory of a layout with these indexes.
pub(super) fn layout(dag: &mut Dag, indexes: &[(Digest, u64, Cid)]) -> Cid {
    let entries: Vec<_> = indexes
        .iter()
        .map(|(digest, size, _)| {
            json!({"mediaType": media_type::OCI_INDEX, "digest": digest.to_string(), "size": size})
        })
        .collect();
    let index = json!({"schemaVersion": 2, "manifests": entries}).to_string();
    let index = dag.leaf(index.into_bytes());
    let marker = dag.leaf(br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    let blobs = dag.directory(indexes.iter().map(|(digest, _, root)| (digest.hex(), *root)).collect());
    let blobs = dag.directory(vec![("sha256".into(), blobs)]);
    dag.directory(vec![("blobs".into(), blobs), ("index.json".into(), index), ("oci-layout".into(), marker)])
}

async fn a_missing_tag_in_a_layout_of_many_nested_indexes_is_searched_in_bounded_memory() {
    let mut dag = Dag::default();
    let indexes = nested_indexes(&mut dag, 64);
    let root = layout(&mut dag, &indexes);
    let stage = Stage::new(dag, &[root]).await;
    let image = |reference: &str| format!("ipfs/{root}/manifests/{reference}");
    let missing = [image("missing"), image("missing-too")];
    let missing = stage.get_all(missing.into_iter()).await;
    let by_digest = stage.get_all(indexes[48..].iter().map(|(digest, ..)| image(&digest.to_string()))).await;
    stage.memory.stayed_below(stage.bound);
    for answer in missing {
        answer.refused(502, "MANIFEST_INVALID", &["more than 100000 entries"]);
    }
    for (answer, (_, size, _)) in by_digest.iter().zip(&indexes[48..]) {
        assert_eq!((answer.status, answer.body.len() as u64), (200, *size), "by digest no index is searched");
    }
}

/// JSON of lists in a list: a byte of it is many in memory where it is read as any value.
fn lists(bytes: usize) -> String {
    vec!["[]"; bytes / 3].join(",")
}

/// Asks for images of these names all at once, and holds that they are refused in bounded memory.
async fn are_rejected(dag: Dag, names: &str, roots: &[Cid], (status, code, told): (u16, &str, &str)) {
    let stage = Stage::new(dag, roots).await;
    let answers = stage.get_all(roots.iter().map(|root| format!("{names}/{root}/manifests/latest"))).await;
    stage.memory.stayed_below(stage.bound);
    answers.iter().for_each(|answer| answer.refused(status, code, &[told]));
}

async fn many_descriptor_files_of_nested_json_are_rejected_in_bounded_memory() {
    let mut dag = Dag::default();
    let lists = lists(MIB as usize - 100);
    let shared = (dag.leaf(format!("{lists},").into_bytes()), lists.len() as u64 + 1);
    let end = (dag.leaf(b"[]]}".to_vec()), 4);
    let mut file = |number| {
        let start = format!(r#"{{"number":{number},"other":["#).into_bytes();
        let first = start.len() as u64;
        let first = (dag.leaf(start), first);
        dag.node(&[first, shared, shared, shared, end])
    };
    let roots: Vec<Cid> = (0..16).map(&mut file).collect();
    are_rejected(dag, "ipfs", &roots, (404, "NAME_UNKNOWN", "limit 65536")).await;
}

async fn many_layer_manifests_of_nested_json_are_rejected_in_bounded_memory() {
    let mut dag = Dag::default();
    let lists = lists(MIB as usize - 200);
    let kind = media_type::OCIPFS_LAYER_INDEX;
    let mut document = |number| {
        dag.leaf(format!(r#"{{"mediaType":"{kind}","n":{number},"manifests":[{lists}]}}"#).into_bytes())
    };
    let roots: Vec<Cid> = (0..16).map(&mut document).collect();
    are_rejected(dag, "layer", &roots, (502, "MANIFEST_INVALID", "manifests[0]")).await;
}
