use std::{ops::Range, time::Duration};

use libtest_mimic::Trial;
use ocipfs_oci::Digest;

use crate::{
    harness::{Layer, Serve, finish, noise, ocipfs, tar_of, trials},
    http::{ask, begin, get},
};

/// Far more than a node that is not held up needs.
const IN_TIME: Duration = Duration::from_secs(20);
/// New readers until one of them receives no block twice. Each asks again after 3 s of silence, which a busy machine may take.
pub const READERS: usize = 4;

pub fn trials() -> Vec<Trial> {
    trials![
        a_stored_blob_is_served_whole_and_by_range_request,
        a_range_request_for_a_cold_blob_does_not_fetch_the_whole_blob,
        the_synthesised_config_of_a_layer_image_is_served_as_a_blob,
        an_unknown_blob_is_404_and_an_invalid_digest_400,
        clients_that_do_not_read_do_not_block_other_clients,
    ]
}

/// Asks for a blob in every way that a `Range` can be meant.
async fn check_range_requests(url: &str, bytes: &[u8], digest: &str) {
    let size = bytes.len();
    let middle = format!("bytes={}-{}", size / 2, size / 2 + 9);
    let etag = format!("\"{digest}\"");
    let other = format!("\"sha256:{}\"", "0".repeat(64));
    let part = |range: Range<usize>| Some(range);
    for (range, if_range, expected) in [
        ("bytes=-10", None, part(size - 10..size)),
        ("bytes=0-0", None, part(0..1)),
        (middle.as_str(), None, part(size / 2..size / 2 + 10)),
        (&format!("bytes={}-", size - 3), None, part(size - 3..size)),
        (&format!("bytes=0-{}", size * 2), None, part(0..size)),
        (&format!("bytes=-{}", size * 2), None, part(0..size)),
        (&middle, Some(etag.as_str()), part(size / 2..size / 2 + 10)),
        (&middle, Some(&other), None),
        (&middle, Some("Thu, 01 Jan 1970 00:00:00 GMT"), None),
        ("bytes=0-5,5-9", None, part(0..10)),
        ("lines=0-1", None, None),
        ("nonsense", None, None),
    ] {
        let mut headers = vec![("range", range)];
        headers.extend(if_range.map(|validator| ("if-range", validator)));
        let answer = ask("GET", url, &headers).await;
        let said = format!("{range} with {if_range:?}");
        assert_eq!(answer.status, if expected.is_some() { 206 } else { 200 }, "{said}");
        let content_range =
            expected.clone().map(|part| format!("bytes {}-{}/{size}", part.start, part.end - 1));
        assert_eq!(answer.header("content-range"), content_range.unwrap_or_default(), "{said}");
        let expected = &bytes[expected.unwrap_or(0..size)];
        assert!(answer.body == expected, "{said}: {} bytes", answer.body.len());
        assert_eq!(answer.header("content-length"), expected.len().to_string(), "{said}");
        assert_eq!(answer.header("docker-content-digest"), digest);
        assert_eq!(answer.header("etag"), etag);
        assert_eq!(answer.header("accept-ranges"), "bytes");
    }
    for range in [
        format!("bytes={size}-"),
        format!("bytes={}-{}", size, size + 5),
        "bytes=-0".into(),
        "bytes=9-0".into(),
    ] {
        let answer = ask("GET", url, &[("range", &range)]).await;
        answer.refused(416, "RANGE_INVALID", &[&size.to_string()]);
        assert_eq!(answer.header("content-range"), format!("bytes */{size}"), "{range}");
    }
}

async fn a_stored_blob_is_served_whole_and_by_range_request() {
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(3 << 20));
    for query in ["", "?ns=docker.io"] {
        let answer = get(&node.url(&format!("{}{query}", layer.blob_path()))).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body == layer.bytes);
        for (header, value) in [
            ("docker-content-digest", layer.digest.as_str()),
            ("etag", &format!("\"{}\"", layer.digest)),
            ("accept-ranges", "bytes"),
            ("content-type", "application/octet-stream"),
            ("content-length", &layer.bytes.len().to_string()),
            ("docker-distribution-api-version", "registry/2.0"),
        ] {
            assert_eq!(answer.header(header), value, "{header}");
        }
    }
    check_range_requests(&node.url(&layer.blob_path()), &layer.bytes, &layer.digest).await;
}

async fn a_range_request_for_a_cold_blob_does_not_fetch_the_whole_blob() {
    let source = Serve::start(&[]);
    let layer = Layer::add(&source, &noise(12 << 20));
    let mut received = Vec::new();
    // The document, the directory, the root and two windows of one block each.
    let reader = loop {
        let (reader, blocks) = two_ranges(&source, &layer).await;
        received.push(blocks);
        if blocks == 5 {
            break reader;
        }
        assert!(received.len() < READERS, "{received:?} blocks");
    };
    assert_eq!(reader.status()["cached_layers"], 0, "a range is not the whole");
    check_range_requests(&reader.url(&layer.blob_path()), &layer.bytes, &layer.digest).await;
    assert_eq!(reader.status()["cached_layers"], 1);
}

/// Asks a new node for two ranges of a layer. Returns it, and the blocks that it has received.
async fn two_ranges(source: &Serve, layer: &Layer) -> (Serve, u64) {
    let reader = Serve::start(&["--peer", source.address()]);
    let url = reader.url(&layer.blob_path());
    for (range, part) in [("bytes=-10", layer.bytes.len() - 10..layer.bytes.len()), ("bytes=5-8", 5..9)] {
        let answer = ask("GET", &url, &[("range", range)]).await;
        assert_eq!(answer.status, 206);
        assert!(answer.body == layer.bytes[part], "{range}");
    }
    let blocks = reader.status()["received_blocks"].as_u64().expect("a number");
    (reader, blocks)
}

async fn the_synthesised_config_of_a_layer_image_is_served_as_a_blob() {
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(1000));
    let config = get(&node.url(&layer.manifest_path())).await.json()["config"].clone();
    let digest = config["digest"].as_str().expect("a digest");
    let url = node.url(&format!("/v2/{}/blobs/{digest}", layer.name));
    let answer = get(&url).await;
    assert_eq!(Digest::sha256_of(&answer.body).to_string(), digest);
    assert_eq!(config["size"], answer.body.len());
    let json = answer.json();
    assert_eq!((&json["architecture"], &json["os"]), (&"amd64".into(), &"linux".into()));
    // A plain tar is its own diff id.
    assert_eq!(json["rootfs"]["diff_ids"][0], layer.digest.as_str());
    check_range_requests(&url, &answer.body, digest).await;
}

async fn an_unknown_blob_is_404_and_an_invalid_digest_400() {
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(1000));
    for (digest, status, code, told) in [
        (format!("sha256:{}", "0".repeat(64)), 404, "BLOB_UNKNOWN", "blob sha256:0000"),
        (format!("sha512:{}", "0".repeat(128)), 404, "BLOB_UNKNOWN", "blob sha512:0000"),
        ("latest".into(), 400, "DIGEST_INVALID", "latest"),
        ("sha256:".into(), 400, "DIGEST_INVALID", "64"),
        (format!("{}0", layer.digest), 400, "DIGEST_INVALID", "64"),
        (format!("sha3:{}", "0".repeat(64)), 400, "DIGEST_INVALID", "sha3"),
    ] {
        let answer = get(&node.url(&format!("/v2/{}/blobs/{digest}", layer.name))).await;
        answer.refused(status, code, &[told]);
    }
}

async fn clients_that_do_not_read_do_not_block_other_clients() {
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(48 << 20));
    let _idle: Vec<_> = (0..8).map(|_| begin(node.registry(), &layer.blob_path())).collect();
    let url = node.url(&layer.blob_path());
    let ranged = tokio::spawn(async move { ask("GET", &url, &[("range", "bytes=-9")]).await });
    let answer = tokio::time::timeout(IN_TIME, ranged).await.expect("another client is served").unwrap();
    assert_eq!(answer.status, 206);
    let small = tar_of(node.data_dir(), "small.tar", &noise(1000));
    let mut add = ocipfs(node.data_dir());
    let adding = tokio::task::spawn_blocking(move || finish(add.args(["layer", "add"]).arg(small)));
    let said = tokio::time::timeout(IN_TIME, adding).await.expect("a layer is added").unwrap();
    assert_eq!(said.code, Some(0), "{said:?}");
}
