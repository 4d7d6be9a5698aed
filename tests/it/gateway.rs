//! The trustless gateway: requests as HTTP clients of IPFS make them, and clients of other projects.

use std::{fs, io::Write, net::TcpStream};

use libtest_mimic::Trial;
use ocipfs_oci::Digest;
use serde_json::Value;

mod clients;

use crate::{
    harness::{Layer, Serve, noise, tar_of, trials, until},
    http::{Answer, ask, get, raw},
    push::Repository,
};

pub fn trials() -> Vec<Trial> {
    let own = trials![
        the_gateway_is_off_by_default,
        blocks_and_cars_have_the_headers_of_the_specification,
        the_probe_path_is_answered_as_block_and_as_car,
        the_format_comes_from_the_query_or_the_accept_header,
        bad_requests_are_refused_with_the_expected_form,
        absent_content_is_404_or_412_and_no_peer_is_asked,
        pushed_content_is_served_only_if_it_is_shared,
        a_gateway_with_users_requires_a_login,
        pages_of_browsers_read_nothing_from_the_gateway,
        slow_clients_take_bounded_memory_and_further_requests_get_429,
    ];
    [own, clients::trials()].into_iter().flatten().collect()
}

const RAW: &str = "application/vnd.ipld.raw";
const CAR: &str = "application/vnd.ipld.car";

/// A layer of three blocks at a node.
struct Added {
    node: Serve,
    /// The CID of the directory with its file.
    directory: String,
    /// The path of the file.
    path: String,
    bytes: Vec<u8>,
}

impl Added {
    /// Adds one at a node with a gateway.
    fn new() -> Self {
        Self::of(2_500_000)
    }

    /// Adds one of another length.
    fn of(length: usize) -> Self {
        let node = Serve::start(&["--gateway"]);
        let tar = tar_of(node.data_dir(), "layer.tar", &noise(length));
        let said = node.command(&["--json", "layer", "add", tar.to_str().unwrap()]);
        let added: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"));
        let path = added["layers"][0]["layer"].as_str().expect("a path").to_owned();
        let (directory, _) = path.split_once('/').expect("a directory");
        Self { directory: directory.into(), bytes: fs::read(tar).unwrap(), node, path }
    }
}

async fn at(node: &Serve, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask("GET", &node.url(&format!("/ipfs/{path}")), headers).await
}

#[track_caller]
fn refused(answer: &Answer, status: u16, text: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(String::from_utf8_lossy(&answer.body).contains(text), "{text:?} is not in {answer:?}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert!(answer.header("content-type").starts_with("text/plain"));
}

async fn the_gateway_is_off_by_default() {
    let node = Serve::start(&[]);
    get(&node.url("/ipfs/bafkqaaa?format=raw")).await.refused(404, "UNSUPPORTED", &["unknown endpoint"]);
}

async fn blocks_and_cars_have_the_headers_of_the_specification() {
    let Added { node, directory, path, bytes } = Added::new();
    let block = at(&node, &format!("{directory}?format=raw"), &[]).await;
    assert_eq!(block.status, 200, "{block:?}");
    let immutable = "public, max-age=29030400, immutable";
    let disposition = format!("attachment; filename=\"{directory}.bin\"");
    for (name, value) in [
        ("content-type", RAW),
        ("content-disposition", &disposition),
        ("etag", &format!("\"{directory}.raw\"")),
        ("cache-control", immutable),
        ("x-content-type-options", "nosniff"),
        ("content-length", &block.body.len().to_string()),
        ("x-ipfs-path", &format!("/ipfs/{directory}")),
        ("x-ipfs-roots", &directory),
        ("content-location", ""),
        ("docker-distribution-api-version", ""),
    ] {
        assert_eq!(block.header(name), value, "{name}");
    }
    let head = ask("HEAD", &node.url(&format!("/ipfs/{directory}?format=raw")), &[]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), block.body.len().to_string());
    let car =
        at(&node, &format!("{path}?format=car&dag-scope=entity&car-dups=y&filename=a%22b.car"), &[]).await;
    assert_eq!(car.status, 200, "{car:?}");
    assert!(car.body.len() as u64 > bytes.len() as u64);
    for (name, value) in [
        ("content-type", "application/vnd.ipld.car; version=1; order=dfs; dups=y"),
        ("content-disposition", "attachment; filename=\"a_b.car\"; filename*=UTF-8''a%22b%2Ecar"),
        ("cache-control", immutable),
        ("x-content-type-options", "nosniff"),
        ("accept-ranges", "none"),
        ("x-ipfs-path", &format!("/ipfs/{path}")),
    ] {
        assert_eq!(car.header(name), value, "{name}");
    }
    let roots: Vec<&str> = car.header("x-ipfs-roots").split(',').collect();
    assert!(roots.len() == 2 && roots[0] == directory, "{roots:?}");
    let etag = car.header("etag");
    assert!(etag.starts_with(&format!("W/\"{}.car.entity.", roots[1])), "{etag}");
    let head = ask("HEAD", &node.url(&format!("/ipfs/{path}?format=car")), &[]).await;
    assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, ""));
    // Each form and each part has a tag of its own, and a client that has it is told so.
    let other = at(&node, &format!("{path}?format=car&entity-bytes=0:9"), &[]).await;
    assert_ne!(other.header("etag"), etag);
    for (query, tag, status) in [
        ("format=car&dag-scope=entity&car-dups=y", etag, 304),
        ("format=car&dag-scope=entity&car-dups=n", etag, 200),
        ("format=car", "*", 304),
        ("format=car", "\"other\"", 200),
    ] {
        let answer = at(&node, &format!("{path}?{query}"), &[("if-none-match", tag)]).await;
        assert_eq!(answer.status, status, "{query} {tag}");
    }
}

async fn the_probe_path_is_answered_as_block_and_as_car() {
    let node = Serve::start(&["--gateway"]);
    for method in ["GET", "HEAD"] {
        let block = ask(method, &node.url("/ipfs/bafkqaaa?format=raw"), &[]).await;
        assert_eq!((block.status, block.body.len()), (200, 0), "{method}");
        let car = ask(method, &node.url("/ipfs/bafkqaaa?format=car"), &[]).await;
        assert_eq!(car.status, 200, "{method}");
        // A header with one root, and nothing behind it.
        let length = if method == "GET" { 1 + 25 } else { 0 };
        assert_eq!(car.body.len(), length, "{car:?}");
    }
}

async fn the_format_comes_from_the_query_or_the_accept_header() {
    let Added { node, directory, .. } = Added::new();
    let car = |parameters: &str| format!("{CAR}; version=1; order=dfs; {parameters}");
    for (query, accept, content_type, location) in [
        ("", RAW, RAW.to_owned(), "?format=raw"),
        ("", CAR, car("dups=n"), "?format=car&car-version=1&car-order=dfs&car-dups=n"),
        (
            "?dag-scope=block",
            "text/html, application/vnd.ipld.car; order=dfs; dups=y;q=0.9",
            car("dups=y"),
            "?format=car&dag-scope=block&car-version=1&car-order=dfs&car-dups=y",
        ),
        (
            "",
            "application/vnd.ipld.car;version=2, application/vnd.ipld.raw;q=0.1",
            RAW.to_owned(),
            "?format=raw",
        ),
        (
            "",
            "application/vnd.ipld.car;order=other, application/vnd.ipld.car;order=unk",
            car("dups=n"),
            "?format=car&car-version=1&car-order=dfs&car-dups=n",
        ),
        ("?format=raw", CAR, RAW.to_owned(), ""),
        ("?format=car", "application/vnd.ipld.car; dups=y", car("dups=y"), ""),
        ("?format=car&car-dups=n", "application/vnd.ipld.car; dups=y", car("dups=n"), ""),
        ("?format=raw", "text/html", RAW.to_owned(), ""),
    ] {
        let answer = at(&node, &format!("{directory}{query}"), &[("accept", accept)]).await;
        assert_eq!(answer.status, 200, "{query} {accept}: {answer:?}");
        assert_eq!(answer.header("content-type"), content_type, "{query} {accept}");
        let expected =
            if location.is_empty() { String::new() } else { format!("/ipfs/{directory}{location}") };
        assert_eq!(answer.header("content-location"), expected, "{query} {accept}");
    }
}

async fn bad_requests_are_refused_with_the_expected_form() {
    let Added { node, directory, path, bytes } = Added::new();
    let key = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";
    for (path, status, text) in [
        (directory.clone(), 400, "no format is requested: expected ?format=raw or ?format=car"),
        (format!("{directory}?format=tar"), 406, "format \"tar\" is not served"),
        (format!("{directory}?format={}", "x".repeat(5000)), 406, "is not served"),
        ("nonsense?format=raw".into(), 400, "does not begin with a CID"),
        (format!("{}?format=raw", "b".repeat(5000)), 400, "does not begin with a CID"),
        ("bafkqaaa/%ff?format=car".into(), 400, "expected UTF-8"),
        (format!("{directory}/a%2Fb?format=car"), 400, "cannot contain a slash"),
        (format!("{directory}/../x?format=car"), 400, ""),
        (format!("{key}?format=raw"), 400, "is an IPNS name"),
        (format!("{path}?format=raw"), 400, "by its CID alone"),
        (format!("{directory}/other?format=car"), 404, "no entry \"other\""),
        (format!("{path}/below?format=car"), 404, "no entry \"below\""),
        (format!("{path}?format=car&dag-scope=other"), 400, "expected block, entity or all"),
        (format!("{path}?format=car&entity-bytes=10:5"), 400, "ends before it begins"),
        (format!("{path}?format=car&entity-bytes=x"), 400, "expected FROM:TO"),
        (format!("{path}?format=car&entity-bytes=99999999999999999999:*"), 400, "expected FROM:TO"),
        (format!("{path}?format=car&entity-bytes=9223372036854775807:*"), 400, "outside of the file"),
        (format!("{path}?format=car&car-version=2"), 406, "version \"2\" is not served"),
        (format!("{path}?format=car&car-order=bfs"), 406, "order \"bfs\" is not served"),
        (format!("{path}?format=car&car-dups=x"), 406, "dups \"x\" is not served"),
    ] {
        let request = format!("GET /ipfs/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = raw(node.registry(), &request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
        assert!(answer.contains(text), "{path}: {answer}");
    }
    let accept = |text: &'static str| [("accept", text)];
    refused(
        &at(&node, &directory, &accept("text/html,application/xhtml+xml")).await,
        406,
        "none of the accepted",
    );
    refused(&at(&node, &directory, &accept("*/*")).await, 400, "no format is requested");
    refused(&at(&node, &directory, &accept("application/vnd.ipld.car;version=2")).await, 406, "expected 1");
    let worker = [("accept", RAW), ("service-worker", "script")];
    refused(&at(&node, &directory, &worker).await, 400, "service worker");
    for method in ["POST", "PUT", "DELETE"] {
        let answer = ask(method, &node.url(&format!("/ipfs/{directory}?format=raw")), &[]).await;
        assert_eq!(answer.status, 405, "{method}");
    }
    // A huge range is cut to the file.
    let all = at(&node, &format!("{path}?format=car&entity-bytes=0:9223372036854775807"), &[]).await;
    assert!(all.status == 200 && all.body.len() as u64 > bytes.len() as u64);
}

async fn absent_content_is_404_or_412_and_no_peer_is_asked() {
    let source = Serve::start(&[]);
    let layer = Layer::add(&source, &noise(1000));
    let node = Serve::start(&["--gateway", "--peer", source.address()]);
    node.until("a peer", |status| status["peers"] == 1).await;
    let cid = layer.cid();
    for query in ["format=raw", "format=car"] {
        refused(&at(&node, &format!("{cid}?{query}"), &[]).await, 404, "does not fetch content");
        let cached =
            at(&node, &format!("{cid}?{query}"), &[("cache-control", "max-age=0, only-if-cached")]).await;
        assert_eq!((cached.status, cached.body.len()), (412, 0));
        let head = ask("HEAD", &node.url(&format!("/ipfs/{cid}?{query}")), &[]).await;
        assert_eq!(head.status, 404);
    }
    assert_eq!(node.status()["received_blocks"], 0);
    // What was pulled is here.
    assert_eq!(get(&node.url(&layer.blob_path())).await.status, 200);
    for query in ["format=raw", "format=car"] {
        let cached = at(&node, &format!("{cid}?{query}"), &[("cache-control", "only-if-cached")]).await;
        assert_eq!(cached.status, 200);
    }
}

async fn pushed_content_is_served_only_if_it_is_shared() {
    for (share, status) in [("added", 404), ("all", 200)] {
        let node = Serve::start(&["--gateway", "--share", share]);
        Repository::new(&node, "app").push_image("1", b"a layer that was pushed").await;
        let digest = Digest::sha256_of(b"a layer that was pushed");
        let cid = format!("f01551220{}", digest.hex());
        for query in ["format=raw", "format=car"] {
            assert_eq!(at(&node, &format!("{cid}?{query}"), &[]).await.status, status, "{share} {query}");
        }
    }
}

async fn a_gateway_with_users_requires_a_login() {
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("users");
    // The password is "secret".
    let made = std::process::Command::new("htpasswd").args(["-nbBC", "4", "me", "secret"]).output();
    fs::write(&users, made.expect("htpasswd").stdout).unwrap();
    let node = Serve::start(&["--gateway", "--htpasswd", users.to_str().unwrap(), "--pull", "users"]);
    let anonymous = at(&node, "bafkqaaa?format=raw", &[]).await;
    assert_eq!(anonymous.status, 401);
    let login = [("authorization", "Basic bWU6c2VjcmV0")];
    let answer = at(&node, "bafkqaaa?format=raw", &login).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), "private, max-age=29030400, immutable");
}

async fn slow_clients_take_bounded_memory_and_further_requests_get_429() {
    // More than what the kernel holds of a connection.
    let Added { node, directory, path, .. } = Added::of(64 << 20);
    let before = node.rss_anon();
    let slow: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(node.registry()).unwrap();
            write!(stream, "GET /ipfs/{path}?format=car HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream
        })
        .collect();
    let block = || {
        let request = format!(
            "GET /ipfs/{directory}?format=raw HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        );
        raw(node.registry(), &request).to_ascii_lowercase()
    };
    until("a request is refused", || {
        let answer = block();
        let refused = answer.starts_with("http/1.1 429");
        assert!(!refused || answer.contains("retry-after: 5"), "{answer}");
        refused
    })
    .await;
    let grown = node.rss_anon().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
    drop(slow);
    until("a request is answered", || block().starts_with("http/1.1 200")).await;
}

async fn pages_of_browsers_read_nothing_from_the_gateway() {
    let node = Serve::start(&["--gateway"]);
    for (name, value) in
        [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("host", "evil.example")]
    {
        let answer = at(&node, "bafkqaaa?format=raw", &[(name, value)]).await;
        assert!(matches!(answer.status, 403 | 421), "{name}: {answer:?}");
    }
}
