//! A page in a browser reads nothing: neither from its own origin nor by DNS rebinding.

use libtest_mimic::Trial;

use crate::{
    harness::{Layer, Serve, noise, trials},
    http::{ask, raw},
    push::Repository,
};

pub fn trials() -> Vec<Trial> {
    trials![
        dns_rebinding_requests_are_rejected_with_421,
        a_cross_site_request_is_rejected_before_any_peer_is_asked,
        cross_site_navigation_to_the_front_page_is_allowed,
        the_host_header_must_match_public_url_and_may_be_any_on_public_listeners,
    ]
}

async fn dns_rebinding_requests_are_rejected_with_421() {
    let node = Serve::start(&[]);
    let a = Repository::new(&node, "a");
    let digest = a.push_image("x", b"layer").await;
    let blob = ocipfs_oci::Digest::sha256_of(b"layer");
    let rebound = [("host", "evil.example:5050"), ("sec-fetch-site", "same-origin")];
    for path in [
        "/".into(),
        "/token".into(),
        "/nothing".into(),
        "/v2/".into(),
        "/v2/_catalog".into(),
        "/v2/a/tags/list".into(),
        "/v2/a/manifests/x".into(),
        format!("/v2/a/blobs/{blob}"),
        format!("/v2/a/referrers/{digest}"),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = ask(method, &node.url(&path), &rebound).await;
            assert_eq!(answer.status, 421, "{method} {path}");
            if method == "GET" {
                answer.refused(421, "DENIED", &["evil.example:5050", "--public-url"]);
            }
        }
    }
    ask("DELETE", &a.url("manifests/x"), &rebound).await.refused(421, "DENIED", &[]);
    // The request line says it, too, and a second header does not help.
    for request in [
        "GET http://evil.example/v2/_catalog HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /v2/_catalog HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    ] {
        let answer = raw(node.registry(), request);
        assert!(answer.starts_with("HTTP/1.1 421") || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    a.has(b"layer").await;
}

async fn a_cross_site_request_is_rejected_before_any_peer_is_asked() {
    let source = Serve::start(&[]);
    let layer = Layer::add(&source, &noise(1000));
    let node = Serve::start(&["--peer", source.address()]);
    node.until("they meet", |status| status["peers"] == 1).await;
    for header in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        for path in [layer.manifest_path(), layer.blob_path()] {
            let image = [header, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")];
            ask("GET", &node.url(&path), &image).await.refused(403, "DENIED", &["web pages"]);
            let link = [header, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
            ask("GET", &node.url(&path), &link).await.refused(403, "DENIED", &["web pages"]);
        }
    }
    assert_eq!((source.status()["sent_blocks"].clone(), node.stored("blobs")), (0.into(), 0));
    // The address bar of a browser is not a page.
    let typed = [("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")];
    assert_eq!(ask("GET", &node.url(&layer.manifest_path()), &typed).await.status, 200);
}

async fn cross_site_navigation_to_the_front_page_is_allowed() {
    let node = Serve::start(&[]);
    let link =
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    assert_eq!(ask("GET", &node.url("/"), &link).await.status, 200);
    ask("POST", &node.url("/"), &link).await.refused(403, "DENIED", &["web pages"]);
    ask("GET", &node.url("/"), &link[..1]).await.refused(403, "DENIED", &["web pages"]);
}

async fn the_host_header_must_match_public_url_and_may_be_any_on_public_listeners() {
    let proxied = Serve::start(&["--public-url", "https://r.example"]);
    for (host, status) in [("r.example", 200), ("R.example:443", 200), ("evil.example", 421)] {
        assert_eq!(ask("GET", &proxied.url("/v2/"), &[("host", host)]).await.status, status, "{host}");
    }
    let open = Serve::start(&["--listen", "0.0.0.0:0"]);
    assert_eq!(ask("GET", &open.url("/v2/"), &[("host", "registry.lan:5050")]).await.status, 200);
    let page = [("sec-fetch-site", "cross-site")];
    ask("GET", &open.url("/v2/_catalog"), &page).await.refused(403, "DENIED", &["web pages"]);
}
