//! The rules of the wire, by raw requests.

use std::fs;

use libtest_mimic::Trial;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::Rpc;
use crate::harness::{Serve, finish, noise, ocipfs, trials, within};

pub fn trials() -> Vec<Trial> {
    trials![
        rpc_is_off_unless_it_has_an_address,
        rpc_on_other_addresses_than_loopback_needs_users,
        rpc_api_files_are_written_at_the_start_and_removed_at_the_end,
        rpc_refuses_pages_of_browsers_on_every_path,
        rpc_asks_for_a_password_where_it_has_users,
        rpc_authorizations_of_kubo_allow_paths_by_bearer_tokens,
        rpc_cat_announces_its_length_and_serves_ranges,
        rpc_of_an_unknown_cid_fails_within_the_find_timeout,
        rpc_cat_that_breaks_off_closes_the_connection,
        rpc_add_keeps_no_body_in_memory,
        rpc_add_of_a_file_with_too_many_chunks_for_the_memory_budget_is_refused,
    ]
}

async fn rpc_is_off_unless_it_has_an_address() {
    let node = Serve::start(&[]);
    assert!(!node.data_dir().join("api").exists());
}

async fn rpc_on_other_addresses_than_loopback_needs_users() {
    let dir = tempfile::tempdir().unwrap();
    let serve = |arguments: &[&str]| {
        finish(ocipfs(dir.path()).args(["serve", "--listen", "127.0.0.1:0"]).args(arguments))
    };
    serve(&["--rpc-listen", "0.0.0.0:0"]).failed(2, &["--rpc-listen 0.0.0.0:0", "--rpc-htpasswd"]);
    serve(&["--ipfs-path", "/tmp"]).failed(2, &["--ipfs-path needs --rpc-listen"]);
    serve(&["--rpc-authorizations", "/tmp/x"]).failed(2, &["--rpc-authorizations needs --rpc-listen"]);
    let file = dir.path().join("authorizations");
    fs::write(&file, "{}").unwrap();
    let arguments = ["--rpc-listen", "127.0.0.1:0", "--rpc-authorizations", file.to_str().unwrap()];
    serve(&arguments).failed(2, &["has no authorizations", "hint: it holds what"]);
}

async fn rpc_api_files_are_written_at_the_start_and_removed_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let ipfs_path = dir.path().join("ipfs");
    let rpc = Rpc::start(&["--ipfs-path", ipfs_path.to_str().unwrap()]);
    assert!(rpc.api().starts_with("/ip4/127.0.0.1/tcp/"), "{}", rpc.api());
    assert_eq!(fs::read_to_string(ipfs_path.join("api")).unwrap(), rpc.api());
    let file = rpc.api_file();
    let dir = rpc.node.data_dir().to_owned();
    rpc.node.signal("TERM");
    crate::harness::until("the files are removed", || !file.exists() && !ipfs_path.join("api").exists())
        .await;
    assert!(!dir.join("api.new").exists());
}

async fn rpc_refuses_pages_of_browsers_on_every_path() {
    let rpc = Rpc::start(&[]);
    for path in ["/api/v0/version", "/api/v0/add", "/api/v0/nope", "/", "/webui"] {
        for (name, value) in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("referer", "https://evil.example/page"),
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)"),
            ("host", "evil.example"),
        ] {
            let request = rpc.client.post(format!("{}{path}", rpc.url())).header(name, value);
            assert_eq!(request.send().await.unwrap().status().as_u16(), 403, "{path} {name}: {value}");
        }
    }
    let get = rpc.client.get(format!("{}/api/v0/version", rpc.url())).send().await.unwrap();
    assert_eq!(get.status().as_u16(), 405);
    assert_eq!(rpc.post("nope").await.status().as_u16(), 404);
}

async fn rpc_asks_for_a_password_where_it_has_users() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users");
    fs::write(&file, format!("me:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
    let rpc = Rpc::start(&["--rpc-htpasswd", file.to_str().unwrap()]);
    let version = || rpc.client.post(format!("{}/api/v0/version", rpc.url()));
    assert_eq!(version().send().await.unwrap().status().as_u16(), 401);
    let login = |password: &'static str| version().header("authorization", basic("me", password)).send();
    assert_eq!(login("wrong").await.unwrap().status().as_u16(), 401);
    assert_eq!(login("secret").await.unwrap().status().as_u16(), 200);
}

async fn rpc_authorizations_of_kubo_allow_paths_by_bearer_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let (file, users) = (dir.path().join("authorizations"), dir.path().join("users"));
    let scope =
        |secret: &str, path: &str| serde_json::json!({ "AuthSecret": secret, "AllowedPaths": [path] });
    let scopes = serde_json::json!({ "all": scope("bearer:one", "/api/v0"), "some": scope("basic:me:secret", "/api/v0/id") });
    fs::write(&file, scopes.to_string()).unwrap();
    let rpc = Rpc::start(&["--rpc-authorizations", file.to_str().unwrap()]);
    let status = async |rpc: &Rpc, command: &str, header: &str| {
        let request = rpc.client.post(format!("{}/api/v0/{command}", rpc.url()));
        let request = if header.is_empty() { request } else { request.header("authorization", header) };
        request.send().await.unwrap().status().as_u16()
    };
    let (me, other) = (basic("me", "secret"), basic("me", "wrong"));
    for (command, header, expected) in [
        ("repo/stat", "Bearer one", 200),
        ("id", "Bearer one", 200),
        ("id", &me, 200),
        ("version", &me, 200),
        ("repo/stat", &me, 403),
        ("id", &other, 403),
        ("id", "Bearer two", 403),
        ("version", "", 403),
    ] {
        assert_eq!(status(&rpc, command, header).await, expected, "{command} {header}");
    }
    // A token that is taken away is refused at once.
    fs::write(&file, serde_json::json!({ "some": scope("bearer:two", "/api/v0") }).to_string()).unwrap();
    let refused = async {
        while status(&rpc, "id", "Bearer one").await != 403 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    within(std::time::Duration::from_secs(30), refused).await;
    assert_eq!(status(&rpc, "id", "Bearer two").await, 200);
    // Beside users, who may do everything.
    fs::write(&users, format!("me:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
    let (file, users) = (file.to_str().unwrap(), users.to_str().unwrap());
    let rpc = Rpc::start(&["--rpc-authorizations", file, "--rpc-htpasswd", users]);
    assert_eq!(status(&rpc, "repo/stat", &me).await, 200);
    assert_eq!(status(&rpc, "repo/stat", "Bearer two").await, 200);
    assert_eq!(status(&rpc, "repo/stat", "Bearer one").await, 401);
}

fn basic(user: &str, password: &str) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

async fn rpc_cat_announces_its_length_and_serves_ranges() {
    let rpc = Rpc::start(&[]);
    let bytes = noise(1_000_000);
    let cid = rpc.add("cid-version=1", &bytes).await;
    for (query, range) in [
        ("", 0..1_000_000),
        ("&offset=0&length=0", 0..0),
        ("&offset=999990", 999_990..1_000_000),
        ("&offset=262143&length=2", 262_143..262_145),
        ("&offset=2000000", 0..0),
        ("&length=9999999999", 0..1_000_000),
    ] {
        let answer = rpc.post(&format!("cat?arg=/ipfs/{cid}{query}")).await;
        let length = range.len().to_string();
        assert_eq!(answer.headers()["content-length"], *length, "{query}");
        assert_eq!(answer.headers()["x-content-length"], *length, "{query}");
        assert_eq!(answer.headers()["x-stream-output"], "1");
        assert!(answer.bytes().await.unwrap() == bytes[range], "{query}");
    }
    assert_eq!(rpc.failure(&format!("cat?arg={cid}&offset=-1")).await, "cannot specify negative offset");
    let stat = rpc.post(&format!("files/stat?arg=/ipfs/{cid}")).await;
    assert!(stat.headers().contains_key("content-length"));
    // Connections that clients leave open, with the body of an answer unread.
    let mut left_open = Vec::new();
    for _ in 0..200 {
        let mut connection = TcpStream::connect(rpc.url().strip_prefix("http://").unwrap()).await.unwrap();
        let request = format!("POST /api/v0/cat?arg={cid}&length=10 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), b'H');
        left_open.push(connection);
    }
    assert_eq!(rpc.bytes(&format!("cat?arg={cid}")).await.len(), bytes.len());
}

async fn rpc_of_an_unknown_cid_fails_within_the_find_timeout() {
    let rpc = Rpc::start(&["--find-timeout", "1s"]);
    let unknown = "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
    for command in ["cat", "files/stat", "block/get", "dag/export", "get", "refs", "ls", "pin/add"] {
        let message = rpc.failure(&format!("{command}?arg=/ipfs/{unknown}")).await;
        assert!(message.contains("no provider found"), "{command}: {message}");
    }
}

async fn rpc_cat_that_breaks_off_closes_the_connection() {
    let one = Rpc::start(&[]);
    let length = 96 << 20;
    let cid = one.add("cid-version=1", &noise(length)).await;
    // Slow enough that most of it has not come when its provider is killed.
    let slow = ["--stall-timeout", "2s", "--max-download-rate", "4MiB"];
    let other = Rpc::start(&[&slow[..], &["--peer", one.node.address()]].concat());
    let mut answer = other.post(&format!("cat?arg={cid}")).await;
    assert_eq!(answer.content_length(), Some(length as u64));
    let mut received = answer.chunk().await.unwrap().expect("the first bytes").len();
    one.node.kill();
    let ended = loop {
        match answer.chunk().await {
            Ok(Some(bytes)) => received += bytes.len(),
            ended => break ended,
        }
    };
    assert!(ended.is_err() && received < length, "{received} bytes came, and the answer ended in peace");
}

async fn rpc_add_keeps_no_body_in_memory() {
    let rpc = Rpc::start(&[]);
    rpc.add("", &noise(1 << 20)).await;
    let before = rpc.node.rss_anon();
    rpc.add("", &noise(192 << 20)).await;
    let grown = rpc.node.rss_anon().saturating_sub(before);
    assert!(grown < 64 << 20, "{} MiB more than before", grown >> 20);
}

async fn rpc_add_of_a_file_with_too_many_chunks_for_the_memory_budget_is_refused() {
    let rpc = Rpc::start(&["--max-memory", "48MiB"]);
    let bytes = noise(24 << 20);
    let file = [("file", "application/octet-stream", &bytes[..])];
    let refused = rpc.send("add?chunker=size-1000", &file).await;
    assert_eq!(refused.status().as_u16(), 500);
    let message = refused.text().await.unwrap();
    assert!(message.contains("--max-memory") && message.contains("size-1048576"), "{message}");
    // The memory is given back, and many small files are stored as it gets scarce.
    let cid = rpc.add("chunker=size-4000", &bytes).await;
    assert!(rpc.bytes(&format!("cat?arg={cid}")).await == bytes);
    let names: Vec<String> = (0..200).map(|n| format!("d%2F{n}")).collect();
    let files: Vec<_> =
        names.iter().map(|name| (name.as_str(), "application/octet-stream", &bytes[..60_000])).collect();
    assert_eq!(rpc.upload("add", &files).await.len(), 201);
}
