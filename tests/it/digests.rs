//! A digest alone is enough: manifests and blobs under names that are not local repositories, found among peers.

use std::time::Instant;

use libtest_mimic::Trial;
use ocipfs_oci::{Digest, media_type};
use serde_json::json;

use crate::{
    following::{pulls, push},
    harness::{Layer, Serve, noise, trials},
    http::{Answer, ask, ask_found, get, get_found},
    names::image::{Image, descriptor},
    push::Repository,
};

pub fn trials() -> Vec<Trial> {
    trials![
        an_image_is_pulled_by_digest_alone_and_again_after_its_source_is_gone,
        a_digest_is_found_at_a_peer_that_only_announces_it,
        an_unknown_digest_is_not_found_within_the_digest_timeout,
        head_of_a_blob_is_not_answered_by_peers_and_a_push_uploads_everything,
        an_index_is_pushed_whose_manifests_were_seen_among_peers,
        private_pushes_are_found_by_no_digest,
        pushed_content_is_served_under_its_own_names_only,
        a_digest_is_a_raw_block_of_at_most_two_mebibytes_to_peers,
    ]
}

/// Enough for a slow machine.
const PATIENT: [&str; 2] = ["--digest-timeout", "20s"];

fn reader(of: &Serve) -> Serve {
    Serve::start(&[&["--peer", of.address()], &PATIENT[..]].concat())
}

async fn connected(node: &Serve) {
    node.until("a peer is connected", |status| status["peers"] != 0).await;
}

async fn manifest(node: &Serve, method: &str, name: &str, digest: &str) -> Answer {
    ask(method, &node.url(&format!("/v2/{name}/manifests/{digest}")), &[]).await
}

async fn blob(node: &Serve, method: &str, name: &str, bytes: &[u8]) -> Answer {
    ask(method, &node.url(&format!("/v2/{name}/blobs/{}", Digest::sha256_of(bytes))), &[]).await
}

/// Holds that an image is pulled by its digest, under a name that no repository has.
async fn pulled(node: &Serve, name: &str, image: &Image) {
    for method in ["HEAD", "GET"] {
        let url = node.url(&format!("/v2/{name}/manifests/{}", image.digest()));
        let answer = ask_found(method, &url, &[]).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, image.media_type), "{answer:?}");
        assert_eq!(answer.header("docker-content-digest"), image.digest());
        assert_eq!(answer.body == image.manifest, method == "GET");
    }
    for bytes in image.blobs() {
        let answer = get_found(&node.url(&format!("/v2/{name}/blobs/{}", Digest::sha256_of(bytes)))).await;
        assert!(answer.status == 200 && answer.body == bytes, "{}", answer.status);
    }
}

async fn an_image_is_pulled_by_digest_alone_and_again_after_its_source_is_gone() {
    let source = Serve::start(&[]);
    let image = Image::of("alone", 5 << 20);
    push(&source, "team/app", "1", &image).await;
    let (first, second) = (reader(&source), reader(&source));
    for node in [&first, &second] {
        connected(node).await;
        let list = get(&node.url("/v2/some/name/tags/list")).await;
        assert_eq!(list.status, 404, "the name itself is unknown");
    }
    // A range of a blob of which only a peer says where it is: the whole is verified first.
    let (digest, range) = (Digest::sha256_of(&image.layer), "bytes=3000000-3000099");
    let url = second.url(&format!("/v2/some/name/blobs/{digest}"));
    let part = ask("GET", &url, &[("range", range)]).await;
    assert_eq!((part.status, &part.body[..]), (206, &image.layer[3_000_000..3_000_100]), "{part:?}");
    pulled(&first, "some/name", &image).await;
    pulled(&second, "some/name", &image).await;
    source.kill();
    // What came from peers is here under any name, and for peers.
    pulled(&first, "another", &image).await;
    let third = reader(&first);
    connected(&third).await;
    pulled(&third, "some/name", &image).await;
    // The configuration is not a manifest.
    let config = Digest::sha256_of(&image.config).to_string();
    assert_eq!(manifest(&third, "GET", "some/name", &config).await.status, 404);
}

async fn a_digest_is_found_at_a_peer_that_only_announces_it() {
    let router = Serve::start(&[]);
    let source = Serve::start(&["--bootstrap", router.address()]);
    let image = Image::of("announced", 5 << 20);
    push(&source, "team/app", "1", &image).await;
    let is_announced = |status: &serde_json::Value| {
        status["announcing"] == 0 && status["published"]["behind"] == 0 && status["announced"] != 0
    };
    source.until("all is announced", is_announced).await;
    let node = Serve::start(&[&["--bootstrap", router.address()], &PATIENT[..]].concat());
    connected(&node).await;
    pulled(&node, "some/name", &image).await;
}

async fn an_unknown_digest_is_not_found_within_the_digest_timeout() {
    let source = Serve::start(&[]);
    let image = Image::of("here", 10_000);
    push(&source, "app", "1", &image).await;
    let unknown = |n: usize| Digest::sha256_of(format!("unknown {n}").as_bytes()).to_string();
    // The peer is connected and silent: nothing but the digest timeout ends a search before the story has to end.
    let others = ["--find-timeout", "1h", "--stall-timeout", "1h"];
    let node = Serve::start(&[&["--peer", source.address()], &others[..]].concat());
    connected(&node).await;
    source.signal("STOP");
    let (all, begun) = (20, Instant::now());
    for n in 0..all {
        assert_eq!(manifest(&node, "GET", "some/name", &unknown(n)).await.status, 404);
        // It was just searched for.
        assert_eq!(manifest(&node, "HEAD", "other/name", &unknown(n)).await.status, 404);
    }
    eprintln!("an unknown digest is not found after {:?} on average", begun.elapsed() / all as u32);
    source.signal("CONT");
    // Searches are off.
    let silent = Serve::start(&["--peer", source.address(), "--digest-timeout", "0s"]);
    connected(&silent).await;
    assert_eq!(manifest(&silent, "GET", "some/name", &image.digest()).await.status, 404);
    assert_eq!(blob(&silent, "GET", "some/name", &image.layer).await.status, 404);
}

async fn head_of_a_blob_is_not_answered_by_peers_and_a_push_uploads_everything() {
    let source = Serve::start(&[]);
    let image = Image::of("pushed twice", 3 << 20);
    push(&source, "app", "1", &image).await;
    let node = reader(&source);
    connected(&node).await;
    pulled(&node, "seen", &image).await;
    for name in ["seen", "new/app"] {
        for bytes in image.blobs() {
            assert_eq!(blob(&node, "HEAD", name, bytes).await.status, 404);
        }
    }
    push(&node, "new/app", "1", &image).await;
    source.kill();
    pulls(&node, "new/app", "1", &image).await;
    assert_eq!(blob(&node, "HEAD", "new/app", &image.layer).await.status, 200);
    // A repository that is here has what was pushed to it.
    let other = Image::of("not in it", 1000);
    let source = Serve::start(&[]);
    push(&source, "app", "1", &other).await;
    node.ask(&["swarm", "connect", source.address()]);
    assert_eq!(manifest(&node, "GET", "new/app", &other.digest()).await.status, 404);
    pulled(&node, "seen", &other).await;
}

/// As clients push that ask for each manifest first, and leave out those that are there with all that they need.
async fn an_index_is_pushed_whose_manifests_were_seen_among_peers() {
    let source = Serve::start(&[]);
    let images = [Image::of("amd64", 3 << 20), Image::of("arm64", 100_000)];
    for (n, image) in images.iter().enumerate() {
        push(&source, "app", &n.to_string(), image).await;
    }
    let node = reader(&source);
    connected(&node).await;
    for image in &images {
        assert_eq!(manifest(&node, "HEAD", "multi", &image.digest()).await.status, 200);
    }
    let entries = images.each_ref().map(|image| descriptor(image.media_type, &image.manifest));
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries });
    let put = Repository::new(&node, "multi").put("1", &index).await;
    assert_eq!(put.status, 201, "{put:?}");
    source.kill();
    for image in &images {
        pulls(&node, "multi", &image.digest(), image).await;
    }
    // Under a name where none was seen the index is taken without them.
    let put = Repository::new(&node, "unseen").put("1", &index).await;
    assert_eq!(put.status, 201, "{put:?}");
    assert_eq!(manifest(&node, "GET", "unseen", &images[0].digest()).await.status, 404);
}

async fn private_pushes_are_found_by_no_digest() {
    let source = Serve::start(&["--share", "added"]);
    let image = Image::of("private", 3 << 20);
    push(&source, "app", "1", &image).await;
    let added = Layer::add(&source, &noise(2 << 20));
    let node = Serve::start(&["--peer", source.address(), "--digest-timeout", "2s"]);
    connected(&node).await;
    assert_eq!(manifest(&node, "GET", "some/name", &image.digest()).await.status, 404);
    for bytes in image.blobs() {
        assert_eq!(blob(&node, "GET", "some/name", bytes).await.status, 404);
    }
    // What a command added is shared.
    let found = get_found(&node.url(&format!("/v2/some/name/blobs/{}", added.digest))).await;
    assert!(found.status == 200 && found.body == added.bytes, "{}", found.status);
}

async fn pushed_content_is_served_under_its_own_names_only() {
    let source = Serve::start(&[]);
    let image = Image::of("elsewhere", 3 << 20);
    push(&source, "app", "1", &image).await;
    let follower = reader(&source);
    connected(&follower).await;
    pulled(&follower, "some/name", &image).await;
    // A peer has it too; still the client has to name the repository.
    source.until("they are connected", |status| status["peers"] == 1).await;
    assert_eq!(manifest(&source, "GET", "some/name", &image.digest()).await.status, 404);
    for bytes in image.blobs() {
        assert_eq!(blob(&source, "GET", "some/name", bytes).await.status, 404);
    }
    pulls(&source, "app", "1", &image).await;
}

async fn a_digest_is_a_raw_block_of_at_most_two_mebibytes_to_peers() {
    let source = Serve::start(&[]);
    let node = Serve::start(&["--peer", source.address(), "--find-timeout", "2s"]);
    connected(&node).await;
    // More than a chunk of the profile, and not more than a block; then more than a block.
    for (length, is_block) in [(1_500_000, true), (3_000_000, false)] {
        let bytes = noise(length);
        let digest = Repository::new(&source, "app").push(&bytes).await;
        Repository::new(&source, "app").push_image("1", &bytes).await;
        let sha256 = hex::decode(digest.trim_start_matches("sha256:")).unwrap();
        let cid = ocipfs_node::Cid::try_from([&[1, 0x55, 0x12, 32], &sha256[..]].concat()).unwrap();
        let said = node.command(&["store", "pin", &cid.to_string()]);
        assert_eq!(said.code == Some(0), is_block, "{said:?}");
    }
}
