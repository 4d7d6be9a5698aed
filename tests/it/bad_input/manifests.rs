use libtest_mimic::Trial;
use ocipfs::content::Profile::UnixfsV1;
use serde_json::{Value, json};

use crate::{
    harness::{Serve, noise, trials},
    http::{ask, get, is_broken_off},
    offline::{Offline, layer_manifest},
};

pub fn trials() -> Vec<Trial> {
    trials![
        a_layer_with_a_wrong_digest_is_aborted_and_then_rejected,
        a_layer_with_a_wrong_size_is_rejected_before_its_first_byte,
        an_invalid_layer_manifest_is_rejected_with_the_reason,
        a_cid_that_is_not_a_layer_manifest_is_rejected_with_its_kind,
    ]
}

/// A manifest with another value at a JSON pointer.
fn with(mut manifest: Value, pointer: &str, value: impl Into<Value>) -> Value {
    *manifest.pointer_mut(pointer).expect("a value to replace") = value.into();
    manifest
}

fn zeros() -> String {
    format!("sha256:{}", "0".repeat(64))
}

async fn a_layer_with_a_wrong_digest_is_aborted_and_then_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let offline = Offline::open(dir.path()).await;
    let mut names = Vec::new();
    // Of one that fits in a block the verdict is known before the headers; of the other, bytes flow before it.
    for length in [100, 3 << 20] {
        let bytes = noise(length);
        let at = offline.put_in_directory("foo.tar", &bytes).await;
        let wrong = with(layer_manifest(&bytes, format!("{at}/foo.tar")), "/layer/digest", zeros());
        names.push((length, format!("layer/{}", offline.put(wrong.to_string(), UnixfsV1).await)));
    }
    drop(offline);
    let source = Serve::start_in(dir.path(), &[]);
    let node = Serve::start(&["--peer", source.address()]);
    for (length, name) in names {
        let url = node.url(&format!("/v2/{name}/blobs/{}", zeros()));
        assert_eq!(ask("HEAD", &url, &[]).await.status, 200, "nothing is known against it yet");
        if length > 1 << 20 {
            assert!(is_broken_off(&url).await, "{name}");
            assert!(node.log().contains("digest is sha256:"), "the reason is logged");
        }
        get(&url).await.refused(502, "PEER_DATA_INVALID", &["does not match", "digest"]);
        assert_eq!(ask("HEAD", &url, &[]).await.status, 502);
        assert_eq!(ask("GET", &url, &[("range", "bytes=0-9")]).await.status, 502);
        let inspected: Value =
            serde_json::from_str(&node.command(&["--json", "layer", "inspect", &name]).stdout).unwrap();
        assert_eq!((&inspected["local"], &inspected["owned"]), (&false.into(), &false.into()));
    }
    assert_eq!(node.status()["cached_layers"], 0);
}

async fn a_layer_with_a_wrong_size_is_rejected_before_its_first_byte() {
    let dir = tempfile::tempdir().unwrap();
    let offline = Offline::open(dir.path()).await;
    let bytes = noise(5000);
    let at = offline.put(&bytes, UnixfsV1).await;
    let mut paths = Vec::new();
    for size in [0, 4999, 5001, i64::MAX] {
        let wrong = with(layer_manifest(&bytes, at), "/layer/size", size);
        let digest = wrong["layer"]["digest"].as_str().unwrap();
        let cid = offline.put(wrong.to_string(), UnixfsV1).await;
        paths.push((size, format!("/v2/layer/{cid}/blobs/{digest}")));
    }
    drop(offline);
    let node = Serve::start_in(dir.path(), &[]);
    for (size, path) in paths {
        let told = format!("size is 5000 bytes, expected {size}");
        get(&node.url(&path)).await.refused(502, "PEER_DATA_INVALID", &[&told]);
        assert_eq!(ask("HEAD", &node.url(&path), &[]).await.status, 502, "{size}");
    }
    assert_eq!(node.status()["cached_layers"], 0);
}

async fn an_invalid_layer_manifest_is_rejected_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let offline = Offline::open(dir.path()).await;
    let bytes = noise(100);
    let good = layer_manifest(&bytes, offline.put(&bytes, UnixfsV1).await);
    let cid = "/layer/annotations/io.ocipfs.layer.ipfs.cid";
    let diff_id = "/layer/annotations/io.ocipfs.layer.fs.digest";
    let mut cases = Vec::new();
    for (fault, manifest) in [
        ("size", with(good.clone(), "/layer/size", -1)),
        ("size", with(good.clone(), "/layer/size", "100")),
        ("layer.mediaType", with(good.clone(), "/layer/mediaType", "text/plain")),
        ("md5", with(good.clone(), "/layer/digest", "md5:00")),
        ("io.ocipfs.layer.ipfs.cid", with(good.clone(), "/layer/annotations", json!({}))),
        ("io.ocipfs.layer.ipfs.cid", with(good.clone(), cid, "not-a-cid")),
        ("io.ocipfs.layer.fs.digest", with(good.clone(), diff_id, "sha256:abc")),
        ("layer", with(good.clone(), "/layer", json!(null))),
        ("layer", with(good.clone(), "/layer", json!([1, 2, 3]))),
    ] {
        cases.push((fault, offline.put(manifest.to_string(), UnixfsV1).await));
    }
    drop(offline);
    let node = Serve::start_in(dir.path(), &[]);
    for (fault, cid) in cases {
        for rest in ["manifests/latest", "tags/list", &format!("blobs/{}", zeros())] {
            let answer = get(&node.url(&format!("/v2/layer/{cid}/{rest}"))).await;
            answer.refused(502, "MANIFEST_INVALID", &["a malformed layer manifest", fault]);
        }
        node.command(&["layer", "inspect", &cid.to_string()]).failed(1, &["malformed", fault]);
    }
}

async fn a_cid_that_is_not_a_layer_manifest_is_rejected_with_its_kind() {
    let dir = tempfile::tempdir().unwrap();
    let offline = Offline::open(dir.path()).await;
    let bytes = noise(100);
    let directory = offline.put_in_directory("foo.tar", &bytes).await;
    let other = with(layer_manifest(&bytes, directory), "/mediaType", "application/json");
    let mut cases = vec![(directory, "is a directory, expected a file")];
    for (document, told) in [
        (bytes.clone(), "not a layer manifest"),
        (Vec::new(), "not a layer manifest"),
        (b"{\"mediaType\": \"application/vnd.ocipfs".to_vec(), "not a layer manifest"),
        (other.to_string().into_bytes(), "media type is \"application/json\""),
        (vec![b' '; (1 << 20) + 1], "limit 1048576"),
    ] {
        cases.push((offline.put(document, UnixfsV1).await, told));
    }
    // Valid documents whose layer is not a file, and is not known by its digest.
    let layer = noise(200);
    let to_directory = layer_manifest(&layer, directory);
    let to_nothing = layer_manifest(&layer, format!("{directory}/bar.tar"));
    let below_a_file = layer_manifest(&layer, format!("{directory}/foo.tar/deeper"));
    let mut layers = Vec::new();
    for (manifest, told) in [
        (to_directory, "is a directory, expected a file"),
        (to_nothing, "the directory has no entry \"bar.tar\""),
        (below_a_file, "\"deeper\""),
    ] {
        layers.push((offline.put(manifest.to_string(), UnixfsV1).await, told));
    }
    drop(offline);
    let node = Serve::start_in(dir.path(), &[]);
    for (cid, told) in cases {
        let url = |rest: &str| node.url(&format!("/v2/layer/{cid}/{rest}"));
        get(&url("manifests/latest")).await.refused(404, "MANIFEST_UNKNOWN", &[told]);
        get(&url(&format!("blobs/{}", zeros()))).await.refused(404, "BLOB_UNKNOWN", &[told]);
        node.command(&["layer", "inspect", &cid.to_string()]).failed(1, &[told, "hint: "]);
    }
    let digest = ocipfs_oci::Digest::sha256_of(&layer);
    for (cid, told) in layers {
        let url = node.url(&format!("/v2/layer/{cid}/blobs/{digest}"));
        get(&url).await.refused(404, "BLOB_UNKNOWN", &[told]);
        assert_eq!(ask("HEAD", &url, &[]).await.status, 404);
    }
}
