//! What peers get: content of repositories that not everybody may pull is not for them, but in a private swarm that says so.

use std::{
    fs,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;

use super::{RULES, Ruled, cid_of, files};
use crate::{
    following::{name_of, published},
    harness::{Layer, Serve, finish, noise, ocipfs, trials, within},
    http::get,
    push::Repository,
};

pub fn trials() -> Vec<Trial> {
    trials![
        restricted_content_is_not_given_to_peers_by_bitswap,
        restricted_repositories_are_not_published_to_followers,
        repositories_are_published_and_withdrawn_when_access_rules_change,
        a_private_swarm_gets_restricted_content_only_with_share_restricted,
        a_bundle_does_not_make_restricted_content_public,
        content_of_peers_is_pulled_although_a_restricted_repository_has_it,
    ]
}

/// Starts a node that asks this one.
fn reader(of: &Serve, arguments: &[&str]) -> Serve {
    Serve::start(
        &[&["--peer", of.address(), "--find-timeout", "2s", "--rpc-listen", "127.0.0.1:0"], arguments]
            .concat(),
    )
}

/// Asks a node for a block, which it fetches from its peers.
async fn fetched(node: &Serve, cid: &str) -> Option<Vec<u8>> {
    let api = fs::read_to_string(node.data_dir().join("api")).unwrap();
    let parts: Vec<&str> = api.split('/').collect();
    let url = format!("http://{}:{}/api/v0/block/get?arg={cid}", parts[2], parts[4]);
    let answer = reqwest::Client::new().post(url).send().await.unwrap();
    let is_found = answer.status().is_success();
    let bytes = answer.bytes().await.unwrap();
    is_found.then(|| bytes.to_vec())
}

/// Asks for a block that the peer gives, until it is connected and has answered.
async fn gets(node: &Serve, cid: &str) -> Vec<u8> {
    let start = Instant::now();
    loop {
        match fetched(node, cid).await {
            Some(block) => return block,
            None => assert!(start.elapsed() < Duration::from_secs(60), "{cid} is not given"),
        }
    }
}

async fn restricted_content_is_not_given_to_peers_by_bitswap() {
    let ruled = Ruled::start(&["--share", "all"]);
    ruled.of("alice").push("public/app", "1", b"public layer").await;
    let peer = reader(&ruled.node, &[]);
    for secret in [b"a secret layer".to_vec(), noise(3 << 20)] {
        ruled.of("alice").push("team/app", "1", &secret).await;
        let first = cid_of(&secret[..secret.len().min(1 << 20)]);
        assert_eq!(fetched(&peer, &first).await, None);
    }
    assert_eq!(gets(&peer, &cid_of(b"public layer")).await, b"public layer");
    // A block of a public and of a restricted repository is public.
    ruled.of("alice").push("team/app", "2", b"shared layer").await;
    ruled.of("alice").push("public/app", "2", b"shared layer").await;
    assert_eq!(gets(&peer, &cid_of(b"shared layer")).await, b"shared layer");
}

async fn restricted_repositories_are_not_published_to_followers() {
    let ruled = Ruled::start(&["--share", "all"]);
    ruled.of("alice").push("team/app", "1", b"a secret layer").await;
    ruled.of("alice").push("public/app", "1", b"public layer").await;
    let follower = reader(&ruled.node, &["--follow", &name_of(&ruled.node)]);
    served(&follower, &["public/app"]).await;
    ruled.of("alice").push("team/app", "2", b"another secret layer").await;
    ruled.of("alice").push("public/app", "2", b"another public layer").await;
    published(&ruled.node).await;
    let app = Repository::new(&follower, "public/app");
    within(Duration::from_secs(30), async {
        while app.get("manifests/2").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    served(&follower, &["public/app"]).await;
    assert_eq!(get(&follower.url("/v2/team/app/manifests/1")).await.status, 404);
}

/// Waits until a node has these repositories.
async fn served(node: &Serve, names: &[&str]) {
    let listed = async || get(&node.url("/v2/_catalog")).await.json()["repositories"].clone();
    within(Duration::from_secs(30), async {
        while listed().await != serde_json::json!(names) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

async fn repositories_are_published_and_withdrawn_when_access_rules_change() {
    let dir = tempfile::tempdir().unwrap();
    let [users, rules] = files(dir.path(), RULES);
    let data_dir = dir.path().join("node");
    let arguments = ["--share", "all", "--htpasswd", &users, "--access-rules", &rules];
    let ruled = Ruled { node: Serve::start_in(&data_dir, &arguments), dir };
    ruled.of("alice").push("team/app", "1", b"a secret layer").await;
    ruled.of("alice").push("public/app", "1", b"public layer").await;
    let follower = reader(&ruled.node, &["--follow", &name_of(&ruled.node)]);
    served(&follower, &["public/app"]).await;
    ruled.write("[[rule]]\nusers = ['anonymous']\nrepositories = ['*']\nactions = ['pull']\n");
    served(&follower, &["public/app", "team/app"]).await;
    assert_eq!(get(&follower.url("/v2/team/app/manifests/1")).await.status, 200);
    ruled.write(RULES);
    served(&follower, &["public/app"]).await;
    // Without rules all is published again.
    let Ruled { node, dir: _dir } = ruled;
    node.stop();
    let again = Serve::start_in(&data_dir, &["--share", "all", "--peer", follower.address()]);
    published(&again).await;
    served(&follower, &["public/app", "team/app"]).await;
}

async fn a_private_swarm_gets_restricted_content_only_with_share_restricted() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("swarm.key");
    fs::write(&key, finish(ocipfs(dir.path()).args(["swarm", "key"])).stdout).unwrap();
    let key = ["--swarm-key", key.to_str().unwrap()];
    for (setting, is_shared) in [("never", false), ("private-swarm", true)] {
        let more = ["--gateway", "--share-restricted", setting];
        let ruled = Ruled::start(&[&key[..], &more].concat());
        ruled.of("alice").push("team/app", "1", b"a secret layer").await;
        let member = reader(&ruled.node, &key);
        let cid = cid_of(b"a secret layer");
        member.until("the peer is connected", |status| status["peers"] == 1).await;
        match is_shared {
            true => assert_eq!(gets(&member, &cid).await, b"a secret layer"),
            false => assert_eq!(fetched(&member, &cid).await, None, "{setting}"),
        }
        // Clients of HTTP are not members of the swarm.
        let path = format!("/ipfs/{cid}?format=raw");
        for (user, status) in [("anonymous", 404), ("bob", 404)] {
            assert_eq!(ruled.of(user).get(&path).await.status, status, "{setting} {user}");
        }
    }
    // Outside a private swarm the setting changes nothing.
    let ruled = Ruled::start(&["--share", "all", "--share-restricted", "private-swarm"]);
    ruled.of("alice").push("team/app", "1", b"a secret layer").await;
    assert_eq!(fetched(&reader(&ruled.node, &[]), &cid_of(b"a secret layer")).await, None);
}

async fn a_bundle_does_not_make_restricted_content_public() {
    let source = Serve::start(&[]);
    Repository::new(&source, "team/app").push_image("1", b"a secret layer").await;
    let large = noise(3 << 20);
    Repository::new(&source, "team/app").push_image("2", &large).await;
    let bundle = source.data_dir().join("team.car");
    let path = bundle.to_str().unwrap();
    let said = source.command(&["bundle", "export", path, "team/app:1", "team/app:2"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let ruled = Ruled::start(&["--share", "all", "--gateway"]);
    let said = ruled.node.command(&["bundle", "import", path]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(ruled.of("alice").get("/v2/team/app/manifests/1").await.status, 200);
    let peer = reader(&ruled.node, &[]);
    for secret in [b"a secret layer".as_slice(), &large[..1 << 20]] {
        let cid = cid_of(secret);
        assert_eq!(fetched(&peer, &cid).await, None);
        assert_eq!(ruled.of("bob").get(&format!("/ipfs/{cid}?format=raw")).await.status, 404);
    }
}

async fn content_of_peers_is_pulled_although_a_restricted_repository_has_it() {
    let source = Serve::start(&[]);
    for (tag, length) in [("1", 1000), ("2", 3 << 20)] {
        let layer = Layer::add(&source, &noise(length));
        let ruled = Ruled::start(&["--peer", source.address(), "--find-timeout", "5s"]);
        ruled.of("alice").push("team/app", tag, &layer.bytes).await;
        for _ in 0..2 {
            let answer = ruled.of("bob").get(&layer.blob_path()).await;
            assert!(answer.status == 200 && answer.body == layer.bytes, "{}", answer.status);
        }
        // From then on it is known to be public.
        source.signal("STOP");
        let answer = ruled.of("bob").get(&layer.blob_path()).await;
        source.signal("CONT");
        assert!(answer.status == 200 && answer.body == layer.bytes, "{}", answer.status);
    }
}
