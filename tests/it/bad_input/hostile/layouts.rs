//! Images of strangers whose documents are cheap to serve and expensive to read.

use ocipfs_node::Cid;
use ocipfs_oci::{Digest, media_type};
use serde_json::json;

use super::dags::Dag;

const MIB: u64 = 1 << 20;
/// A document is at most this long.
const MAX_DOCUMENT: usize = 4 << 20;

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
