//! A follower is a replica of what the name means, from the moment that `status` says it is current.

use libtest_mimic::Trial;
use ocipfs_oci::Digest;
use serde_json::{Value, json};

use super::{known, name_of, published, pulls, push};
use crate::{
    harness::{Serve, noise, trials, until},
    http::get,
    names::image::Image,
    push::{Repository, descriptor},
};

/// Nothing has this CID.
pub const NOWHERE: &str = "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";

pub fn trials() -> Vec<Trial> {
    trials![
        a_follower_with_prefetch_manifests_serves_manifests_and_tags_without_its_publisher,
        a_follower_with_prefetch_all_serves_images_without_its_publisher,
        manifests_of_any_kind_are_prefetched_with_their_blobs,
        an_unreachable_new_root_leaves_the_last_complete_root_served,
        an_ipns_record_with_the_same_value_and_a_higher_sequence_is_current,
        without_prefetch_cached_content_is_served_while_the_new_root_is_unreachable,
        a_tag_of_the_newest_root_that_is_not_prefetched_is_streamed_through,
        status_counts_the_missing_repositories_and_missing_bytes_of_a_follower,
        a_follower_with_share_added_serves_followed_content_to_peers,
    ]
}

/// Whether the first followed name is complete in its newest version.
pub fn is_current(status: &Value) -> bool {
    let name = &status["followed"][0];
    !name["sequence"].is_null() && name["served"]["sequence"] == name["sequence"]
}

/// Waits until the follower is complete in the version that the publisher has published.
pub async fn current(follower: &Serve, publisher: &Serve) {
    let root = published(publisher).await;
    follower
        .until("the follower is current", |status| {
            is_current(status) && status["followed"][0]["served"]["root"] == root.as_str()
        })
        .await;
}

pub fn tags(status: &Value, repository: &str) -> Value {
    let all = status["followed"][0]["repositories"].as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|one| one["name"] == repository);
    found.map(|one| one["tags"].clone()).unwrap_or_default()
}

pub fn arguments<'a>(name: &'a str, address: &'a str, prefetch: &'a str) -> Vec<&'a str> {
    let timeouts = ["--find-timeout", "1s", "--stall-timeout", "2s"];
    [&["--follow", name, "--peer", address, "--prefetch", prefetch], &timeouts[..]].concat()
}

async fn a_follower_with_prefetch_manifests_serves_manifests_and_tags_without_its_publisher() {
    let publisher = Serve::start(&[]);
    let (name, dir) = (name_of(&publisher), tempfile::tempdir().unwrap());
    let address = publisher.address().to_string();
    let arguments = arguments(&name, &address, "manifests");
    let follower = Serve::start_in(dir.path(), &arguments);
    let images = [Image::of("one", 3000), Image::of("two", 70_000)];
    for (repository, image) in ["app", "team/app"].iter().zip(&images) {
        push(&publisher, repository, "1", image).await;
        push(&publisher, repository, "latest", image).await;
    }
    current(&follower, &publisher).await;
    publisher.kill();
    serves_prefetched_manifests(&follower, &images).await;
    follower.ask(&["store", "gc"]);
    serves_prefetched_manifests(&follower, &images).await;
    follower.kill();
    let follower = Serve::start_in(dir.path(), &arguments);
    serves_prefetched_manifests(&follower, &images).await;
    follower.ask(&["store", "gc"]);
    serves_prefetched_manifests(&follower, &images).await;
    assert_eq!(tags(&follower.status(), "team/app"), json!(["1", "latest"]));
}

/// Holds that everything is known that prefetching manifests promises.
async fn serves_prefetched_manifests(follower: &Serve, images: &[Image; 2]) {
    for (repository, image) in ["app", "team/app"].iter().zip(images) {
        let listed = get(&follower.url(&format!("/v2/{repository}/tags/list"))).await.json();
        assert_eq!(listed["tags"], json!(["1", "latest"]));
        for reference in ["1", "latest", &image.digest()] {
            let path = format!("/v2/{repository}/manifests/{reference}");
            let answer = get(&follower.url(&path)).await;
            assert!(answer.status == 200 && answer.body == image.manifest, "{path}: {answer:?}");
        }
        // What is not there is known not to be there.
        get(&follower.url(&format!("/v2/{repository}/manifests/2"))).await.refused(
            404,
            "MANIFEST_UNKNOWN",
            &["2"],
        );
        let none = Digest::sha256_of(b"none");
        let path = format!("/v2/{repository}/blobs/{none}");
        get(&follower.url(&path)).await.refused(404, "BLOB_UNKNOWN", &[]);
    }
    let catalog = get(&follower.url("/v2/_catalog")).await.json();
    assert_eq!(catalog["repositories"], json!(["app", "team/app"]));
    get(&follower.url("/v2/team/manifests/1")).await.refused(404, "NAME_UNKNOWN", &["team"]);
}

async fn a_follower_with_prefetch_all_serves_images_without_its_publisher() {
    let publisher = Serve::start(&[]);
    let (name, dir) = (name_of(&publisher), tempfile::tempdir().unwrap());
    let address = publisher.address().to_string();
    let arguments = arguments(&name, &address, "all");
    let follower = Serve::start_in(dir.path(), &arguments);
    let image = Image::of("kept", 3 << 20);
    push(&publisher, "app", "1", &image).await;
    current(&follower, &publisher).await;
    // The same image under another tag is another root, of which nothing else is new.
    push(&publisher, "app", "2", &image).await;
    push(&publisher, "other/app", "1", &Image::of("small", 1000)).await;
    current(&follower, &publisher).await;
    publisher.kill();
    for round in ["at once", "after a collection", "after a restart"] {
        let follower = match round {
            "after a restart" => break,
            _ => &follower,
        };
        for tag in ["1", "2"] {
            pulls(follower, "app", tag, &image).await;
        }
        follower.ask(&["store", "gc"]);
    }
    follower.kill();
    let follower = Serve::start_in(dir.path(), &arguments);
    pulls(&follower, "app", "2", &image).await;
    pulls(&follower, "other/app", "1", &Image::of("small", 1000)).await;
    // Others who follow the name learn it from there.
    let late = Serve::start(&["--follow", &name, "--peer", follower.address()]);
    pulls(&late, "app", "1", &image).await;
}

/// Publishes under a key of its own: first a tree of repositories, then a root that does not exist.
pub struct Pointed {
    pub publisher: Serve,
    pub name: String,
}

impl Pointed {
    pub async fn start(image: &Image) -> Self {
        let publisher = Serve::start(&[]);
        push(&publisher, "app", "1", image).await;
        let root = published(&publisher).await;
        let name = publisher.ask(&["-q", "name", "publish", "--key", "team", &root]);
        Self { publisher, name }
    }

    pub fn point(&self, root: &str) {
        self.publisher.ask(&["name", "publish", "--key", "team", root]);
    }
}

async fn manifests_of_any_kind_are_prefetched_with_their_blobs() {
    let publisher = Serve::start(&[]);
    let (name, address) = (name_of(&publisher), publisher.address().to_string());
    let (image, a) = (Image::of("image", 3000), Repository::new(&publisher, "a"));
    push(&publisher, "a", "plain", &image).await;
    let mut odd: Value = serde_json::from_slice(&image.manifest).unwrap();
    odd["artifactType"] = json!("sbom");
    odd["annotations"] = json!({ "a": null });
    odd["layers"][0]["mediaType"] = json!("text/plain; charset=utf-8");
    let blob = a.push(&noise(5000)[1..]).await;
    odd["layers"].as_array_mut().unwrap().push(json!({ "mediaType": "", "digest": blob, "size": 4999 }));
    assert_eq!(a.put("odd", &odd).await.status, 201);
    // A cache of BuildKit: an index whose entries are layers.
    let cached = noise(6000)[2..].to_vec();
    a.push(&cached).await;
    let entry = descriptor(ocipfs_oci::media_type::OCI_LAYER_TAR_GZIP, &cached);
    let cache =
        json!({ "schemaVersion": 2, "mediaType": ocipfs_oci::media_type::OCI_INDEX, "manifests": [entry] });
    assert_eq!(a.put("cache", &cache).await.status, 201);
    let headers = [("content-type", "text/x-mine")];
    let pushed = crate::http::send("PUT", &a.url("manifests/text"), &headers, "no JSON").await;
    assert_eq!(pushed.status, 201);
    let follower = Serve::start(&arguments(&name, &address, "all"));
    current(&follower, &publisher).await;
    publisher.kill();
    let b = Repository::new(&follower, "a");
    let expected = [
        ("odd", ocipfs_oci::media_type::OCI_MANIFEST, odd.to_string().into_bytes()),
        ("text", "text/x-mine", b"no JSON".to_vec()),
    ];
    for (tag, kind, bytes) in expected {
        for reference in [tag, &Digest::sha256_of(&bytes).to_string()] {
            let found = b.get(&format!("manifests/{reference}")).await;
            assert_eq!((found.status, found.header("content-type")), (200, kind), "{reference}: {found:?}");
            assert!(found.body == bytes, "{reference}");
        }
    }
    b.has(&noise(5000)[1..]).await;
    b.has(&cached).await;
    assert_eq!(b.get("manifests/cache").await.json(), cache);
    for other in [&image.config, &image.layer] {
        let digest = Digest::sha256_of(other);
        b.has(other).await;
        b.get(&format!("manifests/{digest}")).await.refused(404, "MANIFEST_UNKNOWN", &[]);
    }
}

async fn an_unreachable_new_root_leaves_the_last_complete_root_served() {
    for prefetch in ["manifests", "all"] {
        let image = Image::of("kept", 100_000);
        let pointed = Pointed::start(&image).await;
        let arguments = arguments(&pointed.name, pointed.publisher.address(), prefetch);
        let follower = Serve::start(&arguments);
        follower.until("the follower is current", is_current).await;
        let answer = get(&follower.url("/v2/app/manifests/1")).await;
        assert!(answer.status == 200 && answer.header("warning").is_empty(), "{answer:?}");
        pointed.point(NOWHERE);
        follower
            .until("the new root is heard of", |status| {
                let name = &status["followed"][0];
                let is_behind = name["lag_seconds"].as_u64() > Some(0);
                name["newest"] == NOWHERE
                    && name["failing"].is_string()
                    && name["served"]["sequence"] == 0
                    && is_behind
            })
            .await;
        assert!(follower.command(&["status"]).stdout.contains("behind for "));
        let answer = get(&follower.url("/v2/app/manifests/1")).await;
        assert!(answer.status == 200 && answer.body == image.manifest, "{answer:?}");
        assert_eq!(answer.header("warning"), "110 - \"Response is Stale\"");
        if prefetch == "all" {
            pulls(&follower, "app", "1", &image).await;
        }
        assert_eq!(tags(&follower.status(), "app"), json!(["1"]));
        // What the old root does not have may be in the new one.
        get(&follower.url("/v2/app/manifests/2")).await.refused(404, "MANIFEST_UNKNOWN", &[]);
        // A root that can be had is served again without a warning.
        push(&pointed.publisher, "app", "2", &image).await;
        pointed.point(&published(&pointed.publisher).await);
        known(&follower, "app", "2", &image).await;
        let is_current = |status: &Value| is_current(status) && status["followed"][0]["lag_seconds"] == 0;
        follower.until("the follower is current", is_current).await;
        assert_eq!(get(&follower.url("/v2/app/manifests/1")).await.header("warning"), "");
    }
}

async fn an_ipns_record_with_the_same_value_and_a_higher_sequence_is_current() {
    let image = Image::of("kept", 1000);
    let pointed = Pointed::start(&image).await;
    let root = published(&pointed.publisher).await;
    let arguments = arguments(&pointed.name, pointed.publisher.address(), "all");
    let follower = Serve::start(&arguments);
    follower.until("the follower is current", is_current).await;
    // Signed by a machine that took the key over, above the earlier records.
    let (dir, key) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let key = key.path().join("team.key");
    pointed.publisher.ask(&["name", "key", "export", "team", key.to_str().unwrap()]);
    crate::harness::last_line(crate::harness::ocipfs(dir.path()).args([
        "name",
        "key",
        "import",
        "team",
        key.to_str().unwrap(),
    ]));
    let other = Serve::start_in(dir.path(), &["--peer", follower.address()]);
    other.until("it is connected", |status| status["peers"] != 0).await;
    other.ask(&["name", "publish", "--key", "team", NOWHERE]);
    other.ask(&["name", "publish", "--key", "team", &root]);
    follower
        .until("the follower is current with the newest record", |status| {
            is_current(status) && status["followed"][0]["sequence"].as_u64() > Some(1)
        })
        .await;
    pulls(&follower, "app", "1", &image).await;
}

async fn without_prefetch_cached_content_is_served_while_the_new_root_is_unreachable() {
    let image = Image::of("pulled", 100_000);
    let pointed = Pointed::start(&image).await;
    let arguments = arguments(&pointed.name, pointed.publisher.address(), "none");
    let follower = Serve::start(&arguments);
    follower.until("the name is known", |status| status["followed"][0]["sequence"] == 0).await;
    pulls(&follower, "app", "1", &image).await;
    assert_eq!(get(&follower.url("/v2/_catalog")).await.json()["repositories"], json!(["app"]));
    follower.ask(&["store", "gc"]);
    pointed.point(NOWHERE);
    follower.until("the new root is heard of", |status| status["followed"][0]["sequence"] == 1).await;
    pulls(&follower, "app", "1", &image).await;
    let answer = get(&follower.url("/v2/app/manifests/1")).await;
    assert_eq!(answer.header("warning"), "110 - \"Response is Stale\"");
    // Not each request waits for the root that cannot be had.
    follower.ask(&["store", "gc"]);
    pulls(&follower, "app", "1", &image).await;
}

async fn a_tag_of_the_newest_root_that_is_not_prefetched_is_streamed_through() {
    let (small, large) = (Image::of("small", 1000), Image::of("large", 24 << 20));
    let publisher = Serve::start(&[]);
    push(&publisher, "app", "small", &small).await;
    let name = name_of(&publisher);
    let arguments = arguments(&name, publisher.address(), "all");
    // There is no room for the large one, so the repository stays as it was.
    let follower = Serve::start(&[&arguments[..], &["--max-size", "8MiB"]].concat());
    current(&follower, &publisher).await;
    push(&publisher, "app", "large", &large).await;
    known(&follower, "app", "large", &large).await;
    let path = format!("/v2/app/blobs/{}", Digest::sha256_of(&large.layer));
    let answer = get(&follower.url(&path)).await;
    assert!(answer.status == 200 && answer.body == large.layer, "{}", answer.status);
    let status = follower.status();
    assert_eq!(tags(&status, "app"), json!(["small"]), "{status}");
    pulls(&follower, "app", "small", &small).await;
}

async fn status_counts_the_missing_repositories_and_missing_bytes_of_a_follower() {
    let dir = tempfile::tempdir().unwrap();
    let publisher = Serve::start_in(dir.path(), &[]);
    let name = name_of(&publisher);
    let (small, large) = (Image::of("small", 1000), Image::of("large", 3 << 20));
    push(&publisher, "app", "1", &small).await;
    push(&publisher, "team/app", "1", &large).await;
    // Another node has the manifests of both images, and the layer of one.
    let between = Serve::start(&arguments(&name, publisher.address(), "manifests"));
    current(&between, &publisher).await;
    pulls(&between, "app", "1", &small).await;
    publisher.kill();
    let follower = Serve::start(&arguments(&name, between.address(), "all"));
    let missing = |status: &Value| {
        let name = &status["followed"][0];
        [&name["complete_repositories"], &name["missing_repositories"], &name["missing_bytes"]]
            .map(Value::as_u64)
    };
    let bytes = large.config.len() + large.layer.len();
    follower
        .until("the config and the layer of one image are missing", |status| {
            status["followed"][0]["failing"].is_string()
                && missing(status) == [Some(1), Some(1), Some(bytes as u64)]
        })
        .await;
    let status = follower.status();
    assert!(status["followed"][0]["served"].is_null() && !is_current(&status), "{status}");
    assert_eq!((tags(&status, "app"), tags(&status, "team/app")), (json!(["1"]), Value::Null));
    until("the text says so, too", || {
        follower.command(&["status"]).stdout.contains("missing of the newest: 1 repositories, at least 3.0")
    })
    .await;
    // It is fetched once a peer has it.
    let publisher = Serve::start_in(dir.path(), &[]);
    follower.ask(&["swarm", "connect", publisher.address()]);
    let is_whole = |status: &Value| is_current(status) && missing(status) == [Some(2), Some(0), Some(0)];
    follower.until("nothing is missing", is_whole).await;
    publisher.kill();
    pulls(&follower, "team/app", "1", &large).await;
}

async fn a_follower_with_share_added_serves_followed_content_to_peers() {
    let publisher = Serve::start(&["--share", "all"]);
    let name = name_of(&publisher);
    let image = Image::of("public", 3 << 20);
    push(&publisher, "app", "1", &image).await;
    let shared = [&arguments(&name, publisher.address(), "all")[..], &["--share", "added"]].concat();
    let follower = Serve::start(&shared);
    current(&follower, &publisher).await;
    publisher.kill();
    let late = Serve::start(&arguments(&name, follower.address(), "all"));
    late.until("the late follower is current", is_current).await;
    pulls(&late, "app", "1", &image).await;
}
