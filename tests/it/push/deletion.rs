use libtest_mimic::Trial;
use ocipfs_oci::Digest;
use serde_json::json;

use super::Repository;
use crate::harness::{Serve, trials};

pub fn trials() -> Vec<Trial> {
    trials![
        a_delete_affects_only_its_own_repository,
        deleting_a_manifest_deletes_its_tags_and_deleting_a_tag_only_untags,
        a_delete_of_unknown_content_is_404,
    ]
}

async fn a_delete_affects_only_its_own_repository() {
    let node = Serve::start(&[]);
    let [a, b] = ["a", "b"].map(|name| Repository::new(&node, name));
    let digest = a.push_image("x", b"layer").await;
    b.push_image("x", b"layer").await;
    let blob = format!("blobs/{}", Digest::sha256_of(b"layer"));
    assert_eq!(a.delete(&blob).await.status, 202);
    a.get(&blob).await.refused(404, "BLOB_UNKNOWN", &[]);
    assert_eq!(a.delete(&format!("manifests/{digest}")).await.status, 202);
    b.has(b"layer").await;
    assert_eq!(b.get("manifests/x").await.header("docker-content-digest"), digest);
    // What was deleted can be pushed again.
    assert_eq!(a.push_image("x", b"layer").await, digest);
    a.has(b"layer").await;
}

async fn deleting_a_manifest_deletes_its_tags_and_deleting_a_tag_only_untags() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    let digest = a.push_image("x", b"layer").await;
    let other = a.push_image("z", b"other").await;
    a.push_image("y", b"layer").await;
    assert_eq!(a.delete("manifests/x").await.status, 202);
    a.get("manifests/x").await.refused(404, "MANIFEST_UNKNOWN", &["y or z"]);
    assert_eq!(a.get(&format!("manifests/{digest}")).await.status, 200);
    assert_eq!(a.delete(&format!("manifests/{digest}")).await.status, 202);
    for reference in ["y", &digest] {
        a.get(&format!("manifests/{reference}")).await.refused(404, "MANIFEST_UNKNOWN", &[]);
    }
    assert_eq!(a.get("tags/list").await.json(), json!({ "name": "a", "tags": ["z"] }));
    assert_eq!(a.get("manifests/z").await.header("docker-content-digest"), other);
}

async fn a_delete_of_unknown_content_is_404() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    let digest = Digest::sha256_of(b"nothing").to_string();
    a.delete(&format!("blobs/{digest}")).await.refused(404, "BLOB_UNKNOWN", &[&digest]);
    a.delete(&format!("manifests/{digest}")).await.refused(404, "MANIFEST_UNKNOWN", &[&digest]);
    a.delete("manifests/x").await.refused(404, "MANIFEST_UNKNOWN", &["x"]);
    a.delete("blobs/x").await.refused(400, "DIGEST_INVALID", &[]);
}
