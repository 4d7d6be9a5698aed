use libtest_mimic::Trial;

use crate::{
    harness::{Layer, Serve, noise, trials},
    http::{ask, get},
};

pub fn trials() -> Vec<Trial> {
    trials![
        what_would_change_something_is_refused_everywhere,
        paths_that_are_no_endpoint_are_refused_in_the_specifications_form,
        names_that_mean_nothing_here_are_refused_with_what_would,
    ]
}

async fn what_would_change_something_is_refused_everywhere() {
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(1000));
    let repository = format!("/v2/{}", layer.name);
    for path in [
        "/v2/",
        "/v2",
        &layer.manifest_path(),
        &layer.blob_path(),
        &format!("{repository}/tags/list"),
        &format!("{repository}/blobs/uploads/"),
        &format!("{repository}/blobs/uploads/?mount={}&from=other", layer.digest),
        &format!("{repository}/blobs/uploads/some-session"),
        "/v2/library/busybox/manifests/latest",
    ] {
        for method in ["PUT", "POST", "PATCH", "DELETE"] {
            let answer = ask(method, &node.url(path), &[]).await;
            answer.refused(405, "UNSUPPORTED", &[method]);
            assert_eq!(answer.header("allow"), "GET, HEAD", "{method} {path}");
        }
    }
    assert_eq!(get(&node.url(&layer.blob_path())).await.status, 200);
}

async fn paths_that_are_no_endpoint_are_refused_in_the_specifications_form() {
    let node = Serve::start(&[]);
    for path in [
        "/",
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

async fn names_that_mean_nothing_here_are_refused_with_what_would() {
    const V0: &str = "QmPgRXXDD193VeyEQMgxY2RkNFZ7Ni2cNd3w43Srm59hJc";
    const V1: &str = "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu";
    let node = Serve::start(&[]);
    let digest = format!("sha256:{}", "0".repeat(64));
    for (name, status, code, told) in [
        (format!("layer/{V0}"), 400, "NAME_INVALID", V1),
        (format!("Layer/{V1}"), 400, "NAME_INVALID", "upper-case"),
        ("layer/nonsense".into(), 400, "NAME_INVALID", "is no CID"),
        ("layer/%41".into(), 400, "NAME_INVALID", ""),
        ("layer".into(), 404, "NAME_UNKNOWN", "layer/<cid>"),
        ("library/busybox".into(), 404, "NAME_UNKNOWN", "layer/<cid>"),
        (format!("layer/{V1}/more"), 404, "NAME_UNKNOWN", "layer/<cid>"),
        ("a//b".into(), 400, "NAME_INVALID", "empty component"),
        ("a".repeat(256), 400, "NAME_INVALID", "255"),
    ] {
        for rest in ["manifests/latest", "tags/list", &format!("blobs/{digest}")] {
            get(&node.url(&format!("/v2/{name}/{rest}"))).await.refused(status, code, &[told]);
        }
    }
}
