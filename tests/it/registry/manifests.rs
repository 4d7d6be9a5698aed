use libtest_mimic::Trial;
use ocipfs_oci::Digest;

use crate::{
    harness::{Layer, Serve, noise, trials},
    http::{Answer, ask, get, raw},
    push::Repository,
};

pub fn trials() -> Vec<Trial> {
    trials![
        the_version_endpoint_returns_the_api_version_header,
        a_layer_image_manifest_is_pulled_by_file_name_latest_or_digest,
        an_unknown_reference_is_404_with_the_expected_one,
        a_percent_encoded_path_is_decoded,
        if_none_match_with_a_known_etag_is_304,
        tag_list_pagination_has_a_link_to_the_next_page,
        head_has_the_headers_of_get_and_no_body,
    ]
}

async fn the_version_endpoint_returns_the_api_version_header() {
    let node = Serve::start(&[]);
    for path in ["/v2/", "/v2", "/v2/?ns=docker.io"] {
        for method in ["GET", "HEAD"] {
            let answer = ask(method, &node.url(path), &[]).await;
            assert_eq!(answer.status, 200, "{method} {path}");
            assert_eq!(answer.header("docker-distribution-api-version"), "registry/2.0");
            assert_eq!(answer.header("content-type"), "application/json");
            assert_eq!(answer.body, if method == "GET" { &b"{}"[..] } else { b"" });
        }
    }
}

/// The manifest by its tag, and its digest.
async fn manifest(node: &Serve, layer: &Layer) -> (Answer, String) {
    let answer = get(&node.url(&layer.manifest_path())).await;
    assert_eq!(answer.status, 200);
    let digest = Digest::sha256_of(&answer.body).to_string();
    (answer, digest)
}

async fn a_layer_image_manifest_is_pulled_by_file_name_latest_or_digest() {
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(1000));
    let (by_tag, digest) = manifest(&node, &layer).await;
    for reference in ["layer.tar", "latest", &digest] {
        for query in ["", "?ns=docker.io"] {
            let answer = get(&node.url(&format!("/v2/{}/manifests/{reference}{query}", layer.name))).await;
            assert_eq!(answer.status, 200, "{reference}{query}");
            assert!(answer.body == by_tag.body);
            for (header, value) in [
                ("content-type", "application/vnd.oci.image.manifest.v1+json"),
                ("content-length", &by_tag.body.len().to_string()),
                ("docker-content-digest", &digest),
                ("etag", &format!("\"{digest}\"")),
                ("docker-distribution-api-version", "registry/2.0"),
            ] {
                assert_eq!(answer.header(header), value, "{header} of {reference}{query}");
            }
        }
    }
    let json = by_tag.json();
    assert_eq!(json["schemaVersion"], 2);
    assert_eq!(json["layers"][0]["digest"], layer.digest.as_str());
    assert_eq!(json["layers"][0]["size"], layer.bytes.len());
}

async fn an_unknown_reference_is_404_with_the_expected_one() {
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(1000));
    let (_, digest) = manifest(&node, &layer).await;
    let (zeros, long) = ("0".repeat(64), "0".repeat(128));
    for (reference, status, code, told) in [
        ("other.tar", 404, "MANIFEST_UNKNOWN", "expected layer.tar"),
        ("LATEST", 404, "MANIFEST_UNKNOWN", "expected layer.tar"),
        (&format!("sha256:{zeros}"), 404, "MANIFEST_UNKNOWN", digest.as_str()),
        (&format!("sha512:{long}"), 404, "MANIFEST_UNKNOWN", &digest),
        (&"a".repeat(129), 400, "TAG_INVALID", "invalid tag"),
        ("-dash", 400, "TAG_INVALID", "invalid tag"),
        ("a%20b", 400, "TAG_INVALID", "invalid tag"),
        ("sha256:abc", 400, "DIGEST_INVALID", "64"),
        (&format!("sha256:{}", "A".repeat(64)), 400, "DIGEST_INVALID", "hex"),
        (&format!("md5:{}", "0".repeat(32)), 400, "DIGEST_INVALID", "md5"),
        (":", 400, "DIGEST_INVALID", ""),
    ] {
        let answer = get(&node.url(&format!("/v2/{}/manifests/{reference}", layer.name))).await;
        answer.refused(status, code, &[told]);
    }
}

async fn a_percent_encoded_path_is_decoded() {
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(1000));
    let (_, digest) = manifest(&node, &layer).await;
    for (method, kind, digest) in
        [("GET", "manifests", &digest), ("HEAD", "manifests", &digest), ("GET", "blobs", &layer.digest)]
    {
        for colon in ["%3A", "%3a", ":"] {
            let path = format!("/v2/{}/{kind}/{}", layer.name, digest.replace(':', colon));
            let answer = ask(method, &node.url(&path), &[]).await;
            assert_eq!(
                (answer.status, answer.header("docker-content-digest")),
                (200, digest.as_str()),
                "{path}"
            );
        }
    }
    let pushed = Repository::new(&node, "a");
    let digest = pushed.push_image("1", b"layer").await.replace(':', "%3A");
    assert_eq!(pushed.delete(&format!("manifests/{digest}")).await.status, 202);
    for path in
        ["layer%2Fx/tags/list", "a%2fb/tags/list", "a/manifests/%zz", "a/manifests/%", "a/manifests/%f%"]
    {
        let request = format!("GET /v2/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = raw(node.registry(), &request);
        assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("UNSUPPORTED"), "{path}: {answer}");
    }
    get(&node.url("/v2/a/manifests/x%0ay")).await.refused(400, "TAG_INVALID", &[]);
}

async fn if_none_match_with_a_known_etag_is_304() {
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(1000));
    let (_, manifest) = manifest(&node, &layer).await;
    for (path, digest) in [(layer.manifest_path(), &manifest), (layer.blob_path(), &layer.digest)] {
        let url = node.url(&path);
        for (known, status) in [
            (format!("\"{digest}\""), 304),
            (format!("W/\"{digest}\""), 304),
            (format!("\"other\", \"{digest}\""), 304),
            ("*".into(), 304),
            ("\"other\"".into(), 200),
            (digest.clone(), 200),
        ] {
            for method in ["GET", "HEAD"] {
                let answer = ask(method, &url, &[("if-none-match", &known)]).await;
                assert_eq!(answer.status, status, "{method} {path} where {known} is known");
                assert_eq!(answer.body.is_empty(), status == 304 || method == "HEAD");
                assert_eq!(answer.header("etag"), format!("\"{digest}\""));
                assert_eq!(answer.header("docker-content-digest"), digest);
            }
        }
    }
}

async fn tag_list_pagination_has_a_link_to_the_next_page() {
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(1000));
    let list = format!("/v2/{}/tags/list", layer.name);
    for (query, tags) in [
        ("", &["latest", "layer.tar"][..]),
        ("?ns=docker.io", &["latest", "layer.tar"]),
        ("?n=5", &["latest", "layer.tar"]),
        ("?last=latest", &["layer.tar"]),
        ("?last=layer.tar", &[]),
    ] {
        let answer = get(&node.url(&format!("{list}{query}"))).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json(), serde_json::json!({ "name": layer.name, "tags": tags }), "{query}");
        assert_eq!(answer.header("link"), "", "{query} is all there is");
    }
    let first = get(&node.url(&format!("{list}?n=1"))).await;
    assert_eq!(first.json()["tags"], serde_json::json!(["latest"]));
    let link = first.header("link").strip_suffix("; rel=\"next\"").expect("a link");
    let second = get(&node.url(link.trim_matches(['<', '>']))).await;
    assert_eq!(second.json()["tags"], serde_json::json!(["layer.tar"]));
    assert_eq!(second.header("link"), "");
}

async fn head_has_the_headers_of_get_and_no_body() {
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(1000));
    let (manifest, _) = manifest(&node, &layer).await;
    let config = manifest.json()["config"]["digest"].as_str().expect("a digest").to_string();
    let unknown = format!("sha256:{}", "0".repeat(64));
    for path in [
        layer.manifest_path(),
        layer.blob_path(),
        format!("/v2/{}/blobs/{config}", layer.name),
        format!("/v2/{}/tags/list", layer.name),
        format!("/v2/{}/blobs/{unknown}", layer.name),
        format!("/v2/{}/manifests/wrong", layer.name),
        "/v2/nowhere".into(),
    ] {
        let get = ask("GET", &node.url(&path), &[]).await;
        let head = ask("HEAD", &node.url(&path), &[]).await;
        assert_eq!(head.status, get.status, "{path}");
        let all = |answer: &Answer| {
            let mut headers = answer.headers.clone();
            headers.remove("date");
            headers
        };
        assert_eq!(all(&head), all(&get), "{path}");
        let request = format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = raw(node.registry(), &request);
        assert!(answer.ends_with("\r\n\r\n") && answer.matches("\r\n\r\n").count() == 1, "{answer:?}");
    }
}
