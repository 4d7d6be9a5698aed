//! Several ranges in one request, as stargz and `zstd:chunked` clients send them.

use std::{fs, ops::Range};

use libtest_mimic::Trial;

use super::blobs::READERS;
use crate::{
    clients::Podman,
    following::{current, name_of},
    harness::{Layer, Serve, blocking, noise, trials},
    http::{Answer, ask, get},
};

pub fn trials() -> Vec<Trial> {
    let mut all = trials![
        several_ranges_are_a_multipart_answer_in_the_order_of_the_request,
        several_ranges_of_a_cold_blob_fetch_only_their_blocks,
        several_ranges_of_a_blob_larger_than_the_store_are_streamed_in_any_order,
        more_than_1000_ranges_are_400_and_malformed_ones_are_ignored,
    ];
    all.extend(trials![needs Podman::pulls_in_parts();
        podman_fetches_the_changed_files_of_a_chunked_layer_through_a_cold_node]);
    all
}

/// The parts of a `multipart/byteranges` answer: their ranges and bytes.
fn parts(answer: &Answer, size: usize) -> Vec<(Range<usize>, Vec<u8>)> {
    assert_eq!(answer.status, 206, "{answer:?}");
    assert_eq!(answer.header("content-length"), answer.body.len().to_string());
    assert_eq!(answer.header("content-range"), "", "only the parts have one");
    let boundary = answer.header("content-type").strip_prefix("multipart/byteranges; boundary=");
    let boundary = boundary.expect("a multipart answer").to_string();
    let mut rest = &answer.body[..];
    let mut found = Vec::new();
    loop {
        rest = rest.strip_prefix(format!("\r\n--{boundary}").as_bytes()).expect("a boundary");
        if rest == b"--\r\n" {
            return found;
        }
        let end = rest.windows(4).position(|four| four == b"\r\n\r\n").expect("the end of a head");
        let head = std::str::from_utf8(&rest[..end]).expect("a head");
        let range = head.split_once("Content-Range: bytes ").expect("a range").1;
        let range = range.strip_suffix(&format!("/{size}")).expect("the size");
        let (first, last) = range.split_once('-').expect("two positions");
        let range = first.parse().unwrap()..last.parse::<usize>().unwrap() + 1;
        assert!(head.contains("\r\nContent-Type: application/octet-stream\r\n"), "{head}");
        let (bytes, after) = rest[end + 4..].split_at(range.len());
        found.push((range, bytes.to_vec()));
        rest = after;
    }
}

/// Asks for ranges, and holds that these come.
async fn check(url: &str, bytes: &[u8], header: &str, expected: &[Range<usize>]) {
    let answer = ask("GET", url, &[("range", header)]).await;
    let parts = parts(&answer, bytes.len());
    assert!(parts.iter().map(|(range, _)| range).eq(expected), "{header}");
    for (range, part) in parts {
        assert!(part == bytes[range.clone()], "{range:?} of {header}");
    }
}

/// What several ranges can mean, for a blob of at least 200 bytes.
async fn check_all(url: &str, bytes: &[u8]) {
    let size = bytes.len();
    check(url, bytes, "bytes=0-9,100-109", &[0..10, 100..110]).await;
    check(url, bytes, "bytes=100-109,0-9", &[100..110, 0..10]).await;
    check(url, bytes, "bytes=0-9,10-19", &[0..10, 10..20]).await;
    check(url, bytes, "bytes= 0-0 , -1 ,", &[0..1, size - 1..size]).await;
    check(url, bytes, "bytes=50-59,0-9,55-69", &[50..70, 0..10]).await;
    check(url, bytes, &format!("bytes=0-9,{size}-,20-29"), &[0..10, 20..30]).await;
    for (header, part) in
        [("bytes=0-9,5-14".to_string(), 0..15), (format!("bytes=7-8,{size}-{}", size + 9), 7..9)]
    {
        let single = ask("GET", url, &[("range", &header)]).await;
        let content_range = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        assert_eq!((single.status, single.header("content-range")), (206, &*content_range), "{header}");
        assert!(single.body == bytes[part], "{header}");
    }
    let outside = ask("GET", url, &[("range", &format!("bytes={size}-,-0"))]).await;
    outside.refused(416, "RANGE_INVALID", &[&size.to_string()]);
    assert_eq!(outside.header("content-range"), format!("bytes */{size}"));
    let other = [("range", "bytes=0-9,20-29"), ("if-range", "\"other\"")];
    let whole = ask("GET", url, &other).await;
    assert!(whole.status == 200 && whole.body == bytes);
    let head = ask("HEAD", url, &[("range", "bytes=0-9,20-29")]).await;
    assert_eq!((head.status, head.header("content-length")), (200, &*size.to_string()));
}

async fn several_ranges_are_a_multipart_answer_in_the_order_of_the_request() {
    let node = Serve::start(&[]);
    // Of one block, of several, and made here.
    for size in [1_000, 3 << 20] {
        let layer = Layer::add(&node, &noise(size));
        check_all(&node.url(&layer.blob_path()), &layer.bytes).await;
    }
    let layer = Layer::add(&node, &noise(100));
    let manifest = crate::http::get(&node.url(&layer.manifest_path())).await.json();
    let config = manifest["config"]["digest"].as_str().expect("a digest");
    let url = node.url(&format!("/v2/{}/blobs/{config}", layer.name));
    let bytes = crate::http::get(&url).await.body;
    check_all(&url, &bytes).await;
    let url = node.url(&Layer::add(&node, &noise(1_000)).blob_path());
    let etag = ask("HEAD", &url, &[]).await.header("etag").to_string();
    let answer = ask("GET", &url, &[("range", "bytes=0-9,20-29"), ("if-range", &etag)]).await;
    assert_eq!((answer.status, answer.header("etag")), (206, &*etag));
    assert_eq!(answer.header("accept-ranges"), "bytes");
}

async fn several_ranges_of_a_cold_blob_fetch_only_their_blocks() {
    let source = Serve::start(&[]);
    let layer = Layer::add(&source, &noise(24 << 20));
    let mut received = Vec::new();
    let reader = loop {
        let (reader, blocks) = few_and_many_ranges(&source, &layer).await;
        received.push(blocks);
        // The document, the directory, the root and one block for each range. A thousand ranges take at most all blocks.
        if blocks[0] == 6 && blocks[1] <= 3 + 25 {
            break reader;
        }
        assert!(received.len() < READERS, "{received:?} blocks");
    };
    check_all(&reader.url(&layer.blob_path()), &layer.bytes).await;
}

/// Asks a new node for three ranges of a layer of 24 MiB, then for a thousand all over it. Returns it, and the blocks that it had
/// received after each.
async fn few_and_many_ranges(source: &Serve, layer: &Layer) -> (Serve, [u64; 2]) {
    let reader = Serve::start(&["--peer", source.address()]);
    let (url, size) = (reader.url(&layer.blob_path()), layer.bytes.len());
    let received = || reader.status()["received_blocks"].as_u64().expect("a number");
    let far = 20 << 20;
    let header = format!("bytes={far}-{},5-8,-10", far + 3);
    check(&url, &layer.bytes, &header, &[far..far + 4, 5..9, size - 10..size]).await;
    let few = received();
    assert_eq!(reader.status()["cached_layers"], 0, "ranges are not the whole");
    let many: Vec<Range<usize>> = (0..1_000).map(|n| n * 24_000..n * 24_000 + 7).collect();
    let texts: Vec<String> = many.iter().map(|range| format!("{}-{}", range.start, range.end - 1)).collect();
    check(&url, &layer.bytes, &format!("bytes={}", texts.join(",")), &many).await;
    let blocks = [few, received()];
    (reader, blocks)
}

async fn several_ranges_of_a_blob_larger_than_the_store_are_streamed_in_any_order() {
    let source = Serve::start(&[]);
    let layer = Layer::add(&source, &noise(24 << 20));
    let reader = Serve::start(&["--max-size", "8MiB", "--peer", source.address()]);
    let (url, mib) = (reader.url(&layer.blob_path()), 1 << 20);
    for (header, expected) in [
        (format!("bytes={}-,0-{}", 12 * mib, 6 * mib - 1), [12 * mib..layer.bytes.len(), 0..6 * mib]),
        (format!("bytes=0-{},{}-", 6 * mib - 1, 12 * mib), [0..6 * mib, 12 * mib..layer.bytes.len()]),
    ] {
        check(&url, &layer.bytes, &header, &expected).await;
    }
    assert!(reader.stored("used_bytes") <= 8 << 20);
}

async fn more_than_1000_ranges_are_400_and_malformed_ones_are_ignored() {
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(1_000));
    let url = node.url(&layer.blob_path());
    for count in [1_001, 5_000] {
        let header = format!("bytes={}", vec!["0-0"; count].join(","));
        ask("GET", &url, &[("range", &header)]).await.refused(400, "RANGE_INVALID", &["1000"]);
    }
    // As long as no head of a request may be.
    let header = format!("bytes={}", vec!["0-0"; 10_000].join(","));
    assert_eq!(ask("GET", &url, &[("range", &header)]).await.status, 431);
    let most = format!("bytes={}", vec!["0-0"; 1_000].join(","));
    assert_eq!(ask("GET", &url, &[("range", &most)]).await.body, layer.bytes[..1]);
    for header in ["bytes=0-9,x", "bytes=0-9,1 - 2", "bytes=,", "bytes=0-9;20-29", "bytes=0-1-2,5-6"] {
        let answer = ask("GET", &url, &[("range", header)]).await;
        assert!(answer.status == 200 && answer.body == layer.bytes, "{header}");
    }
    let huge = "9".repeat(1_000);
    let answer = ask("GET", &url, &[("range", &format!("bytes=0-{huge},{huge}-,-{huge}"))]).await;
    assert!(answer.status == 206 && answer.body == layer.bytes);
    let size = layer.bytes.len().to_string();
    ask("GET", &url, &[("range", "bytes=0-9,9-0")]).await.refused(416, "RANGE_INVALID", &[&size]);
}

/// Files of a layer that podman fetches in parts, and the bytes of each.
const FILES: usize = 96;
const FILE_BYTES: usize = 256 << 10;

/// A folder with a Dockerfile of files that no encoder makes shorter; `changed` is the one that is different.
fn program(dir: &std::path::Path, changed: Option<usize>) {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    fs::create_dir_all(dir.join("data")).unwrap();
    for number in 0..FILES {
        let mut bytes = Vec::with_capacity(FILE_BYTES);
        while bytes.len() < FILE_BYTES {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend(state.to_le_bytes());
        }
        if changed == Some(number) {
            bytes.iter_mut().for_each(|byte| *byte ^= 0xff);
        }
        fs::write(dir.join(format!("data/{number:02}")), bytes).unwrap();
    }
    fs::write(dir.join("Dockerfile"), "FROM scratch\nCOPY data /data\n").unwrap();
}

async fn podman_fetches_the_changed_files_of_a_chunked_layer_through_a_cold_node() {
    let source = Serve::start(&[]);
    let reader = Serve::start(&["--peer", source.address(), "--follow", &name_of(&source)]);
    let podman = blocking({
        let registry = source.registry().to_string();
        move || {
            let (builder, podman) = (Podman::new().unwrap(), Podman::in_parts().unwrap());
            let dir = tempfile::tempdir().unwrap();
            for (tag, changed) in [("1", None), ("2", Some(FILES / 2))] {
                program(dir.path(), changed);
                let reference = format!("{registry}/app:{tag}");
                builder.build(dir.path(), &reference).unwrap();
                builder.push_chunked(&reference).unwrap();
            }
            podman.pull(&format!("{registry}/app:1")).unwrap();
            podman
        }
    })
    .await;
    let manifest = get(&source.url("/v2/app/manifests/2")).await.json();
    let size = manifest["layers"][0]["size"].as_u64().expect("a size");
    current(&reader, &source).await;
    let count = |what: &str| reader.status()[what].as_u64().expect("a number");
    let before = (count("received_blocks"), count("received_bytes"));
    let registry = reader.registry().to_string();
    blocking(move || podman.pull(&format!("{registry}/app:2")).unwrap()).await;
    let (blocks, bytes) = (count("received_blocks") - before.0, count("received_bytes") - before.1);
    println!("of a layer of {size} bytes, podman made the node fetch {bytes} bytes in {blocks} blocks");
    // The configuration, the root of the layer, the list of its files, and the changed file: each of the last two may lie in
    // two blocks.
    assert!((4..=6).contains(&blocks), "{blocks} blocks of {size} bytes");
    assert!(bytes <= 4 * (1 << 20) + (64 << 10) && bytes * 5 < size, "{bytes} of {size} bytes");
}
