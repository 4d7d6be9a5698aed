//! Changes of the file of users reach a running registry.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::{Command, Stdio},
    time::Duration,
};

use libtest_mimic::Trial;
use ocipfs_oci::Digest;

use super::{basic, users};
use crate::{
    harness::{Serve, blocking, ocipfs, trials, within},
    http::{ask, get, send},
};

const SOON: Duration = Duration::from_secs(30);

pub fn trials() -> Vec<Trial> {
    trials![
        htpasswd_changes_revoke_passwords_and_tokens_without_a_restart,
        sighup_reloads_the_htpasswd_file,
        a_sighup_before_the_node_is_ready_is_obeyed_when_it_is,
        a_sighup_without_anything_to_reload_stops_the_node_like_sigterm,
        a_password_beyond_the_72_byte_limit_of_bcrypt_is_rejected,
    ]
}

/// Whether a login, or a token, pushes.
async fn pushes(node: &Serve, authorization: &str) -> bool {
    let url = node.url(&format!("/v2/a/blobs/uploads/?digest={}", Digest::sha256_of(b"blob")));
    let answer = send("POST", &url, &[("authorization", authorization)], "blob").await;
    assert!([201, 401].contains(&answer.status), "{answer:?}");
    answer.status == 201
}

async fn token(node: &Serve, login: &str) -> String {
    let answer = ask("GET", &node.url("/token"), &[("authorization", login)]).await;
    format!("Bearer {}", answer.json()["token"].as_str().expect("a token"))
}

/// Waits until the registry looks at the file, which it does once a second.
async fn is_rejected_soon(node: &Serve, authorization: &str) {
    within(SOON, async { while pushes(node, authorization).await {} }).await;
}

async fn htpasswd_changes_revoke_passwords_and_tokens_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users");
    let node = Serve::start(&["--htpasswd", &users(&path, &[("me", "secret"), ("gone", "secret")])]);
    let (me, gone) = (basic("me", "secret"), basic("gone", "secret"));
    let (my_token, gone_token) = (token(&node, &me).await, token(&node, &gone).await);
    for good in [&me, &gone, &my_token, &gone_token] {
        assert!(pushes(&node, good).await);
    }
    users(&path, &[("me", "other")]);
    for old in [&gone_token, &gone, &me, &my_token] {
        is_rejected_soon(&node, old).await;
    }
    assert!(pushes(&node, &basic("me", "other")).await);
    let refused = ask("GET", &node.url("/token"), &[("authorization", &gone)]).await;
    refused.refused(401, "UNAUTHORIZED", &[]);
}

async fn sighup_reloads_the_htpasswd_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("users");
    let node = Serve::start(&["--htpasswd", &users(&path, &[("me", "secret")])]);
    users(&path, &[("you", "secret")]);
    node.signal("HUP");
    // Read without any login that would look at the file.
    crate::harness::until("the users are read again", || node.log().contains("reloaded the users")).await;
    assert!(!pushes(&node, &basic("me", "secret")).await && pushes(&node, &basic("you", "secret")).await);
    assert_eq!(get(&node.url("/v2/_catalog")).await.status, 200);
}

async fn a_sighup_before_the_node_is_ready_is_obeyed_when_it_is() {
    blocking(|| {
        let dir = tempfile::tempdir().unwrap();
        let (path, log) = (dir.path().join("users"), dir.path().join("log"));
        let users_file = users(&path, &[("me", "secret")]);
        // The node fetches a list of peers while it starts, and waits for it.
        let list = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/peers", list.local_addr().unwrap());
        let mut node = ocipfs(&dir.path().join("node"))
            .args(["--json", "serve", "--listen", "127.0.0.1:0", "--swarm-listen", "/ip4/127.0.0.1/tcp/0"])
            .args(["--htpasswd", &users_file, "--bootstrap-from", &url])
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let (mut asked, _) = list.accept().unwrap();
        users(&path, &[("you", "secret")]);
        let signal = |name: &str, pid: u32| {
            assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
        };
        signal("HUP", node.id());
        let mut request = [0; 1024];
        let _ = asked.read(&mut request).unwrap();
        asked.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        let mut ready = String::new();
        let mut stdout = BufReader::new(node.stdout.take().unwrap());
        stdout.read_line(&mut ready).unwrap();
        let text = || fs::read_to_string(&log).unwrap();
        assert!(ready.starts_with('{'), "{ready:?} {}", text());
        let begin = std::time::Instant::now();
        while !text().contains("reloaded the users") {
            assert!(begin.elapsed() < SOON, "{}", text());
            std::thread::sleep(Duration::from_millis(20));
        }
        signal("TERM", node.id());
        assert!(node.wait().unwrap().success());
    })
    .await;
}

async fn a_sighup_without_anything_to_reload_stops_the_node_like_sigterm() {
    let node = Serve::start(&[]);
    node.signal("HUP");
    assert!(blocking(move || node.ended()).await.success());
}

async fn a_password_beyond_the_72_byte_limit_of_bcrypt_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let longest = "x".repeat(72);
    let node = Serve::start(&["--htpasswd", &users(&dir.path().join("users"), &[("me", &longest)])]);
    assert!(pushes(&node, &basic("me", &longest)).await);
    let longer = basic("me", &format!("{longest}y"));
    let answer = ask("GET", &node.url("/token"), &[("authorization", &longer)]).await;
    answer.refused(401, "UNAUTHORIZED", &["73 bytes", "limit 72"]);
}
