use libtest_mimic::Trial;

use crate::{
    harness::{Layer, Serve, noise, trials},
    http::{ask, get},
};

pub fn trials() -> Vec<Trial> {
    trials![
        a_push_or_delete_under_a_cid_or_ipns_name_is_rejected,
        a_push_to_a_name_that_cannot_exist_is_denied_by_its_first_request,
        unsupported_methods_are_405_with_an_allow_header,
        unknown_paths_are_404_with_the_error_body_of_the_specification,
        invalid_and_unknown_names_are_rejected_with_the_expected_form,
    ]
}

async fn a_push_or_delete_under_a_cid_or_ipns_name_is_rejected() {
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(1000));
    const V1: &str = "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu";
    let hash = "1220".to_string() + &"0".repeat(64);
    for name in [&layer.name, "layer", "layer/a/b", &format!("ipfs/{V1}/a"), &format!("{hash}/a"), "ipns"] {
        for (method, path) in [
            ("PUT", "manifests/latest"),
            ("DELETE", "manifests/latest"),
            ("POST", "blobs/uploads/"),
            ("PATCH", "blobs/uploads/id"),
            ("DELETE", &format!("blobs/{}", layer.digest)),
        ] {
            ask(method, &node.url(&format!("/v2/{name}/{path}")), &[]).await.refused(403, "DENIED", &[name]);
        }
    }
    assert_eq!(get(&node.url(&layer.blob_path())).await.status, 200);
}

/// Clients first look for the blob, and go on only where that answers 404.
async fn a_push_to_a_name_that_cannot_exist_is_denied_by_its_first_request() {
    let node = Serve::start(&[]);
    let digest = format!("sha256:{}", "0".repeat(64));
    for name in ["ipfs/kubo", "layer/foo", "ipns/nonsense", "layer", "a/blobs/b", "a/index.json"] {
        for path in [format!("blobs/{digest}"), "manifests/1".into()] {
            let head = ask("HEAD", &node.url(&format!("/v2/{name}/{path}")), &[]).await;
            assert_eq!(head.status, 404, "{name}/{path}");
        }
        for query in ["", "?mount=", "?digest="] {
            let query = if query.is_empty() { String::new() } else { format!("{query}{digest}&from=b") };
            let begun = ask("POST", &node.url(&format!("/v2/{name}/blobs/uploads/{query}")), &[]).await;
            begun.refused(403, "DENIED", &[name, "push to another name"]);
        }
    }
}

async fn unsupported_methods_are_405_with_an_allow_header() {
    let node = Serve::start(&[]);
    for (method, path, allowed) in [
        ("PUT", "/v2/", "GET, HEAD"),
        ("DELETE", "/v2/_catalog", "GET, HEAD"),
        ("POST", "/v2/a/tags/list", "GET, HEAD"),
        ("GET", "/v2/a/blobs/uploads/", "POST"),
        ("PUT", "/v2/a/blobs/sha256:00", "GET, HEAD, DELETE"),
        ("PATCH", "/v2/a/manifests/b", "GET, HEAD, PUT, DELETE"),
    ] {
        let answer = ask(method, &node.url(path), &[]).await;
        answer.refused(405, "UNSUPPORTED", &[method]);
        assert_eq!(answer.header("allow"), allowed, "{method} {path}");
    }
}

async fn unknown_paths_are_404_with_the_error_body_of_the_specification() {
    let node = Serve::start(&[]);
    for path in [
        "/v1/",
        "/v3/_ping",
        "/v2/nowhere",
        "/v2/_unknown",
        "/v2/a/tags/other",
        "/v2/a/manifests",
        "/v2/manifests/latest",
        "/v2//",
        "/v2/%",
        "/v2/%ff/%fe",
        "/%2e%2e/etc/passwd",
    ] {
        get(&node.url(path)).await.refused(404, "UNSUPPORTED", &["/v2/<name>/"]);
    }
}

async fn invalid_and_unknown_names_are_rejected_with_the_expected_form() {
    const V0: &str = "QmPgRXXDD193VeyEQMgxY2RkNFZ7Ni2cNd3w43Srm59hJc";
    const V1: &str = "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu";
    let node = Serve::start(&[]);
    let digest = format!("sha256:{}", "0".repeat(64));
    for (name, status, code, told) in [
        (format!("layer/{V0}"), 400, "NAME_INVALID", V1),
        (format!("Layer/{V1}"), 400, "NAME_INVALID", "upper-case"),
        ("layer/nonsense".into(), 400, "NAME_INVALID", "invalid CID"),
        ("layer/%41".into(), 400, "NAME_INVALID", ""),
        ("layer".into(), 404, "NAME_UNKNOWN", "layer/<cid>"),
        ("library/busybox".into(), 404, "NAME_UNKNOWN", "layer/<cid>"),
        (format!("layer/{V1}/more"), 404, "NAME_UNKNOWN", "expected layer/"),
        ("a//b".into(), 400, "NAME_INVALID", "single slashes"),
        ("a".repeat(256), 400, "NAME_INVALID", "255"),
    ] {
        for rest in ["manifests/latest", "tags/list", &format!("blobs/{digest}")] {
            get(&node.url(&format!("/v2/{name}/{rest}"))).await.refused(status, code, &[told]);
        }
    }
}
