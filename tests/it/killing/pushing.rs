use std::time::Duration;

use ocipfs_oci::{Digest, Manifest};

use super::{all_kills, chance::Chance};
use crate::{
    harness::{Serve, files_below},
    http::{get, send},
    push::{self, Repository},
};

/// Clients that push at one time.
const CLIENTS: u64 = 8;
/// Where they push.
const REPOSITORIES: [&str; 3] = ["r0", "r1", "team/r2"];
/// Within which a node is killed after they begin.
const WITHIN: Duration = Duration::from_millis(600);

/// Content that a client pushed, and how much of it was acknowledged.
struct Pushing {
    name: String,
    tag: String,
    layer: Vec<u8>,
    blobs: Vec<Vec<u8>>,
    tagged: bool,
}

#[derive(Debug, Default)]
struct Counts {
    kills: u32,
    acknowledged_blobs: usize,
    acknowledged_images: usize,
    unacknowledged_but_whole: usize,
    images_in_published_roots: usize,
}

/// Pushes an image of one layer until the node is gone: in one request, in two, or in parts.
async fn push(base: String, mut pushing: Pushing, way: u64) -> Pushing {
    let config = pushing.layer[..16].to_vec();
    for bytes in [config.clone(), pushing.layer.clone()] {
        if push_blob(&base, &pushing.name, &bytes, way).await.is_none() {
            return pushing;
        }
        pushing.blobs.push(bytes);
    }
    let manifest = push::manifest(&config, &[&pushing.layer]);
    let url = format!("{base}/v2/{}/manifests/{}", pushing.name, pushing.tag);
    let kind = [("content-type", ocipfs_oci::media_type::OCI_MANIFEST)];
    let client = reqwest::Client::new().put(url).header(kind[0].0, kind[0].1).body(manifest.to_string());
    let answer = client.send().await.ok();
    pushing.tagged = answer.is_some_and(|answer| answer.status() == 201);
    pushing
}

/// None where the node does not answer any more.
async fn push_blob(base: &str, name: &str, bytes: &[u8], way: u64) -> Option<()> {
    let client = reqwest::Client::new();
    let digest = Digest::sha256_of(bytes);
    let uploads = format!("{base}/v2/{name}/blobs/uploads/");
    let end = match way % 3 {
        0 => client.post(format!("{uploads}?digest={digest}")).body(bytes.to_vec()),
        way => {
            let begun = client.post(uploads).send().await.ok()?;
            let at = format!("{base}{}", begun.headers()["location"].to_str().expect("ASCII"));
            let first = if way == 1 { 0 } else { bytes.len() / 2 };
            if first > 0 {
                let range = format!("0-{}", first - 1);
                let part = client.patch(&at).header("content-range", range).body(bytes[..first].to_vec());
                assert_eq!(part.send().await.ok()?.status(), 202);
            }
            client.put(format!("{at}?digest={digest}")).body(bytes[first..].to_vec())
        }
    };
    assert_eq!(end.send().await.ok()?.status(), 201);
    Some(())
}

/// Holds that all that was acknowledged is there, and nothing half.
async fn acknowledged_content_is_stored(node: &Serve, pushing: &Pushing, counts: &mut Counts) {
    let repository = Repository::new(node, &pushing.name);
    for bytes in &pushing.blobs {
        repository.has(bytes).await;
    }
    counts.acknowledged_blobs += pushing.blobs.len();
    let image = get(&repository.url(&format!("manifests/{}", pushing.tag))).await;
    assert!(image.status == 200 || (image.status == 404 && !pushing.tagged), "{image:?}");
    if image.status == 200 {
        // A tag leads to a whole image.
        repository.has(&pushing.layer).await;
        repository.has(&pushing.layer[..16]).await;
        counts.acknowledged_images += usize::from(pushing.tagged);
        counts.unacknowledged_but_whole += usize::from(!pushing.tagged);
        return;
    }
    let blob = repository.url(&format!("blobs/{}", Digest::sha256_of(&pushing.layer)));
    let blob = get(&blob).await;
    assert!(blob.status == 404 || blob.body == pushing.layer, "half of it is served");
}

/// The root that is published, if there is one.
fn published(node: &Serve) -> Option<String> {
    node.status()["published"]["root"].as_str().map(String::from)
}

/// Holds that each image of a root that was published is whole.
async fn root_is_whole(node: &Serve, root: &str, counts: &mut Counts) {
    for name in REPOSITORIES {
        let published = Repository::new(node, &format!("ipfs/{root}/{name}"));
        let tags = published.get("tags/list").await;
        // The root may be older than a repository.
        if tags.status == 404 {
            assert!(format!("{tags:?}").contains("has no entry"), "{tags:?}");
            continue;
        }
        let tags = tags.json();
        for tag in tags["tags"].as_array().expect("a list of tags") {
            let tag = tag.as_str().expect("a tag");
            let answer = published.get(&format!("manifests/{tag}")).await;
            assert_eq!(answer.status, 200, "{tag}: {answer:?}");
            let manifest = Manifest::parse(&answer.body).expect("a manifest");
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                let answer = published.get(&format!("blobs/{}", blob.digest)).await;
                let is_whole = answer.status == 200 && Digest::sha256_of(&answer.body) == blob.digest;
                assert!(is_whole, "{tag}: {} {}", blob.digest, answer.status);
            }
            counts.images_in_published_roots += 1;
        }
    }
}

pub async fn a_pushed_image_survives_sigkill_and_no_partial_image_is_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut chance = Chance::new("killed while pushing");
    let mut counts = Counts::default();
    for kill in 0..all_kills() {
        let node = Serve::start_in(dir.path(), &[]);
        let pushes: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let size = 17 + chance.below(6 << 20) as usize;
                let pushing = Pushing {
                    name: REPOSITORIES[n as usize % REPOSITORIES.len()].into(),
                    tag: format!("t{kill}-{n}"),
                    layer: chance.bytes(size),
                    blobs: Vec::new(),
                    tagged: false,
                };
                tokio::spawn(push(node.url(""), pushing, n))
            })
            .collect();
        tokio::time::sleep(chance.moment(WITHIN)).await;
        let before = published(&node);
        node.kill();
        counts.kills += 1;
        let node = Serve::start_in(dir.path(), &[]);
        if let Some(root) = before {
            root_is_whole(&node, &root, &mut counts).await;
        }
        node.until("what came is published", |status| status["published"]["behind"] == 0).await;
        if let Some(root) = published(&node) {
            root_is_whole(&node, &root, &mut counts).await;
        }
        for push in pushes {
            let pushing = push.await.expect("it holds");
            acknowledged_content_is_stored(&node, &pushing, &mut counts).await;
            delete_pushed(&node, &pushing).await;
        }
        // Else deleted content may go from under the root, which does not keep it.
        node.until("the root is of what is left", |status| status["published"]["behind"] == 0).await;
        assert!(!node.log().contains("panicked"), "{}", node.log());
        node.stop();
    }
    assert!(counts.images_in_published_roots >= counts.acknowledged_images, "{counts:?}");
    // Uploads that were saved in parts may go on; nothing else is left.
    let node = Serve::start_in(dir.path(), &[]);
    let left = files_below(dir.path(), "incoming");
    assert!(left <= (CLIENTS as usize) * all_kills() as usize, "{left}");
    let again = send("POST", &node.url("/v2/r0/blobs/uploads/"), &[], "").await;
    assert_eq!(again.status, 202);
    eprintln!("killed while pushing: {counts:?}");
}

/// Deletes the checked content, so that the next round is no longer than the first.
async fn delete_pushed(node: &Serve, pushing: &Pushing) {
    let repository = Repository::new(node, &pushing.name);
    let image = repository.get(&format!("manifests/{}", pushing.tag)).await;
    if image.status == 200 {
        let digest = image.header("docker-content-digest");
        assert_eq!(repository.delete(&format!("manifests/{digest}")).await.status, 202);
    }
    for bytes in &pushing.blobs {
        repository.delete(&format!("blobs/{}", Digest::sha256_of(bytes))).await;
    }
}
