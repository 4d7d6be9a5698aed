//! Followed names: a version that is not signed as the policies say does not take the place of the one that is.

use std::fs;

use libtest_mimic::Trial;
use ocipfs_oci::Digest;
use tempfile::TempDir;

use super::{Key, sign};
use crate::{
    access::Ruled,
    following::{name_of, published},
    harness::{Serve, trials, until},
    http::get,
};

pub fn trials() -> Vec<Trial> {
    trials![
        an_unsigned_version_of_a_followed_repository_is_not_taken_as_complete,
        a_signed_image_of_a_followed_repository_is_served_after_a_restart,
        a_name_below_ipfs_needs_a_signature_where_a_policy_is_about_it,
    ]
}

/// Every client may push and sign at the publisher, which has no policy.
const OPEN: &str = r#"
[[rule]]
users = ["anonymous"]
repositories = ["*"]
actions = ["pull", "push", "sign"]
"#;

/// A policy about some repositories.
fn policy(key: &Key, repositories: &str) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.toml");
    let text = format!(
        "[keys.release]\ncosign = '''{}'''\n[[policy]]\nrepositories = ['{repositories}']\nkeys = ['release']\n",
        key.pem()
    );
    fs::write(&path, text).unwrap();
    (dir, path.to_str().unwrap().into())
}

async fn status(node: &Serve, path: &str) -> u16 {
    get(&node.url(path)).await.status
}

async fn served(node: &Serve, path: &str) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while status(node, path).await != 200 {
        assert!(tokio::time::Instant::now() < deadline, "{path} is not served");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn an_unsigned_version_of_a_followed_repository_is_not_taken_as_complete() {
    let publisher = Ruled::with(OPEN, &["--share", "all"]);
    let pusher = publisher.of("anonymous");
    let key = Key::make();
    let first = pusher.push("team/app", "1", b"a layer").await;
    sign(&pusher, &key, "team/app", &first).await;
    published(&publisher.node).await;
    let (_dir, path) = policy(&key, "team/*");
    let (name, address) = (name_of(&publisher.node), publisher.node.address());
    let arguments = [
        "--policy",
        &path,
        "--follow",
        &name,
        "--peer",
        address,
        "--prefetch",
        "all",
        "--find-timeout",
        "2s",
    ];
    let follower = Serve::start(&arguments);
    served(&follower, "/v2/team/app/manifests/1").await;
    let layer = format!("/v2/team/app/blobs/{}", Digest::sha256_of(b"a layer"));
    assert_eq!(status(&follower, &layer).await, 200);
    // The same tag means an unsigned image now.
    let second = pusher.push("team/app", "1", b"an unsigned layer").await;
    published(&publisher.node).await;
    until("the unsigned version is seen", || {
        follower.status().to_string().contains("team/app:1 is not served")
    })
    .await;
    let answer = get(&follower.url("/v2/team/app/manifests/1")).await;
    assert_eq!(answer.header("docker-content-digest"), first);
    let unsigned = get(&follower.url(&format!("/v2/team/app/manifests/{second}"))).await;
    unsigned.refused(403, "DENIED", &["\"release\""]);
    sign(&pusher, &key, "team/app", &second).await;
    let by_digest = format!("/v2/team/app/manifests/{second}");
    served(&follower, &by_digest).await;
    let newest = async || get(&follower.url("/v2/team/app/manifests/1")).await;
    for _ in 0..600 {
        if newest().await.header("docker-content-digest") == second {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the signed version is not served: {}", follower.status());
}

async fn a_signed_image_of_a_followed_repository_is_served_after_a_restart() {
    let publisher = Ruled::with(OPEN, &["--share", "all"]);
    let pusher = publisher.of("anonymous");
    let key = Key::make();
    let image = pusher.push("team/app", "1", b"a layer").await;
    sign(&pusher, &key, "team/app", &image).await;
    pusher.push("other/app", "1", b"an unsigned layer").await;
    published(&publisher.node).await;
    let (dir, path) = policy(&key, "*");
    let (name, address) = (name_of(&publisher.node), publisher.node.address());
    let arguments = ["--policy", &path, "--follow", &name, "--peer", address, "--prefetch", "all"];
    let data_dir = dir.path().join("node");
    let follower = Serve::start_in(&data_dir, &arguments);
    served(&follower, "/v2/team/app/manifests/1").await;
    assert_eq!(status(&follower, "/v2/other/app/manifests/1").await, 403);
    follower.stop();
    // A client that has the manifest asks for the blob alone.
    let follower = Serve::start_in(&data_dir, &arguments);
    let layer = |bytes| format!("blobs/{}", Digest::sha256_of(bytes));
    assert_eq!(status(&follower, &format!("/v2/team/app/{}", layer(b"a layer".as_slice()))).await, 200);
    assert_eq!(
        status(&follower, &format!("/v2/other/app/{}", layer(b"an unsigned layer".as_slice()))).await,
        403
    );
}

async fn a_name_below_ipfs_needs_a_signature_where_a_policy_is_about_it() {
    let publisher = Ruled::with(OPEN, &["--share", "all"]);
    let pusher = publisher.of("anonymous");
    let key = Key::make();
    let image = pusher.push("team/app", "1", b"a layer").await;
    sign(&pusher, &key, "team/app", &image).await;
    pusher.push("team/app", "2", b"an unsigned layer").await;
    let root = published(&publisher.node).await;
    let (_dir, path) = policy(&key, "ipfs/*");
    let address = publisher.node.address();
    let arguments = ["--policy", &path, "--peer", address, "--gateway", "--find-timeout", "10s"];
    let reader = Serve::start(&arguments);
    let name = format!("/v2/ipfs/{root}/team/app");
    assert_eq!(status(&reader, &format!("{name}/manifests/1")).await, 200);
    assert_eq!(status(&reader, &format!("{name}/blobs/{}", Digest::sha256_of(b"a layer"))).await, 200);
    get(&reader.url(&format!("{name}/manifests/2"))).await.refused(403, "DENIED", &["\"release\""]);
    let unsigned = Digest::sha256_of(b"an unsigned layer");
    assert_eq!(status(&reader, &format!("{name}/blobs/{unsigned}")).await, 403);
    // No signature is about a block.
    assert_eq!(status(&reader, &format!("/ipfs/{root}?format=raw")).await, 403);
}
