//! Requests through a proxy are not treated as local.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
};

use libtest_mimic::Trial;

use crate::{
    harness::{Serve, ocipfs, trials},
    http::{ask, raw},
    push::Repository,
};

pub fn trials() -> Vec<Trial> {
    trials![
        public_url_without_htpasswd_makes_the_registry_read_only,
        an_anonymous_push_or_delete_through_a_proxy_is_denied,
        an_anonymous_push_needs_a_loopback_host_header,
        the_ready_line_shows_a_read_only_registry,
    ]
}

const PROXIED: [&str; 2] = ["--public-url", "https://r.example"];

async fn public_url_without_htpasswd_makes_the_registry_read_only() {
    let node = Serve::start(&PROXIED);
    assert!(node.log().contains("read-only (--public-url is set)"), "{}", node.log());
    let a = Repository::new(&node, "a");
    for host in ["r.example", "localhost"] {
        let host = [("host", host)];
        for (method, path) in [("POST", "blobs/uploads/"), ("PUT", "manifests/x"), ("DELETE", "manifests/x")]
        {
            let answer = ask(method, &a.url(path), &host).await;
            answer.refused(403, "DENIED", &["--public-url", "--htpasswd"]);
        }
        assert_eq!(ask("GET", &node.url("/v2/"), &host).await.status, 200);
        assert_eq!(ask("GET", &node.url("/v2/_catalog"), &host).await.status, 200);
    }
}

async fn an_anonymous_push_or_delete_through_a_proxy_is_denied() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    let headers =
        ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];
    for header in headers {
        for (method, path) in [("POST", "blobs/uploads/"), ("DELETE", "manifests/x")] {
            let answer = ask(method, &a.url(path), &[(header, "203.0.113.9")]).await;
            answer.refused(403, "DENIED", &[header, "--htpasswd"]);
        }
        assert_eq!(ask("GET", &node.url("/v2/"), &[(header, "203.0.113.9")]).await.status, 200);
    }
    assert_eq!(ask("POST", &a.url("blobs/uploads/"), &[]).await.status, 202);
}

async fn an_anonymous_push_needs_a_loopback_host_header() {
    let node = Serve::start(&[]);
    let url = node.url("/v2/a/blobs/uploads/");
    for host in ["localhost", "LOCALHOST:1", "registry.localhost", "127.0.0.1", "127.9.9.9:80", "[::1]:5050"]
    {
        assert_eq!(ask("POST", &url, &[("host", host)]).await.status, 202, "{host}");
    }
    for host in ["192.0.2.1:5050", "r.example", "localhost.example", "0.0.0.0"] {
        ask("POST", &url, &[("host", host)]).await.refused(421, "DENIED", &[host, "--public-url"]);
    }
    // HTTP/1.0 may leave it out: enough to read.
    let lengthless = raw(node.registry(), "POST /v2/a/blobs/uploads/ HTTP/1.0\r\nContent-Length: 0\r\n\r\n");
    assert!(lengthless.starts_with("HTTP/1.0 403"), "{lengthless}");
    assert!(raw(node.registry(), "GET /v2/ HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 200"));
}

async fn the_ready_line_shows_a_read_only_registry() {
    for (flags, told) in [
        (&[][..], None),
        (&PROXIED, Some("--public-url is set")),
        (&["--listen", "0.0.0.0:0"], Some("listens on other addresses than loopback")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut serve = ocipfs(dir.path());
        serve.args(["serve", "--swarm-listen", "/ip4/127.0.0.1/tcp/0"]).args(flags);
        if !flags.contains(&"--listen") {
            serve.args(["--listen", "127.0.0.1:0"]);
        }
        let mut child = serve.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(line.starts_with("ready: registry http://127.0.0.1:"), "{line}");
        assert_eq!(line.contains("read-only"), told.is_some(), "{line}");
        assert!(told.is_none_or(|told| line.contains(told) && line.contains("--htpasswd")), "{line}");
    }
}
