//! Log lines about clients: pushes, deletions and failed logins; each request with `--access-log`.

use libtest_mimic::Trial;
use serde_json::Value;

use super::{basic, users};
use crate::{
    harness::{Serve, trials, until},
    http::{ask, get, send},
    names::image::Image,
    push::Repository,
};

pub fn trials() -> Vec<Trial> {
    trials![
        pushes_deletions_and_failed_logins_are_logged_with_client_and_user,
        the_access_log_has_one_json_line_for_each_request,
    ]
}

/// Pushes an image to `app:1` and deletes it, as a user.
async fn push_and_delete(node: &Serve, login: &str) {
    let image = Image::of("logged", 1000);
    let headers = [("authorization", login)];
    for bytes in image.blobs() {
        let digest = ocipfs_oci::Digest::sha256_of(bytes);
        let url = node.url(&format!("/v2/app/blobs/uploads/?digest={digest}"));
        assert_eq!(send("POST", &url, &headers, bytes.to_vec()).await.status, 201);
    }
    let manifest = [("authorization", login), ("content-type", "application/vnd.oci.image.manifest.v1+json")];
    let url = node.url("/v2/app/manifests/1");
    assert_eq!(send("PUT", &url, &manifest, image.manifest.clone()).await.status, 201);
    assert_eq!(ask("DELETE", &url, &headers).await.status, 202);
}

fn lines<'a>(log: &'a str, what: &str) -> Vec<&'a str> {
    log.lines().filter(|line| line.contains(what)).collect()
}

async fn pushes_deletions_and_failed_logins_are_logged_with_client_and_user() {
    let dir = tempfile::tempdir().unwrap();
    let users = users(&dir.path().join("users"), &[("me", "secret")]);
    let node = Serve::start(&["--htpasswd", &users]);
    push_and_delete(&node, &basic("me", "secret")).await;
    let wrong = basic("me\u{1b}[31m", "wrong");
    assert_eq!(ask("GET", &node.url("/v2/"), &[("authorization", &wrong)]).await.status, 401);
    assert_eq!(get(&node.url("/v2/")).await.status, 401, "no login, so none that failed");
    until("all is logged", || lines(&node.log(), "login failed").len() == 1).await;
    let log = node.log();
    for what in ["pushed", "deleted"] {
        let lines = lines(&log, &format!(": {what} client="));
        assert_eq!(lines.len(), 1, "{what}: {log}");
        for field in ["client=127.0.0.1:", "user=\"me\"", "repository=\"app\"", "reference=\"1\""] {
            assert!(lines[0].contains(field), "{field}: {}", lines[0]);
        }
    }
    assert!(!log.contains('\u{1b}'), "escapes in a log that is not a terminal: {log:?}");
    assert!(lines(&log, "ocipfs::access").is_empty(), "requests are logged with --access-log only");
}

async fn the_access_log_has_one_json_line_for_each_request() {
    let node = Serve::start(&["--access-log", "--log-format", "json"]);
    let repository = Repository::new(&node, "app");
    let digest = ocipfs_oci::Digest::sha256_of(b"blob");
    let url = repository.url(&format!("blobs/uploads/?digest={digest}"));
    assert_eq!(send("POST", &url, &[], "blob").await.status, 201);
    let blob = repository.url(&format!("blobs/{digest}"));
    assert_eq!(get(&blob).await.body, b"blob"[..]);
    let requests = || -> Vec<Value> {
        let log = node.log();
        let all = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON on each line"));
        all.filter(|line| line["target"] == "ocipfs::access").collect()
    };
    until("both are logged", || requests().len() == 2).await;
    let pull = requests().remove(1);
    assert_eq!((&pull["method"], &pull["status"], &pull["bytes"]), (&"GET".into(), &200.into(), &4.into()));
    assert_eq!(pull["path"], format!("/v2/app/blobs/{digest}"));
    assert!(pull["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{pull}");
    assert!(pull["duration_ms"].is_u64(), "{pull}");
}
