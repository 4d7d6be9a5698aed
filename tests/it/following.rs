//! Push here, pull there: what is pushed to one node is published under its name, and known by its own name where that is
//! followed.

mod changes;
mod full;
pub mod standby;
mod tools;
mod union;
mod waiting;

use std::time::Duration;

use libtest_mimic::Trial;
use ocipfs_oci::Digest;
use serde_json::Value;

use crate::{
    clients::Skopeo,
    harness::{Serve, trials, until},
    http::{get, get_found},
    names::image::Image,
    peers::boxo,
    push::{self, Repository, descriptor},
};

pub use standby::current;

pub fn trials() -> Vec<Trial> {
    [
        trials![
            a_node_follows_two_publishers_and_serves_their_pushes,
            a_follower_serves_an_ipns_name_after_its_publisher_is_gone,
            the_published_root_does_not_depend_on_push_order,
            an_ipns_key_moves_to_another_node_and_conflicting_writers_are_reported,
            names_are_followed_and_unfollowed_by_command,
            pushes_stay_published_after_a_kill,
            referrers_of_an_image_are_listed_by_a_follower,
            a_published_root_is_not_republished_after_sharing_of_pushes_is_turned_off,
        ],
        standby::trials(),
        changes::trials(),
        full::trials(),
        tools::trials(),
        union::trials(),
        waiting::trials(),
        trials![needs Skopeo::available(); skopeo_pulls_a_published_image_by_ipns_name],
        trials![needs boxo::available(); the_sharing_policy_decides_whether_boxo_fetches_pushed_content],
    ]
    .into_iter()
    .flatten()
    .collect()
}

async fn send(request: reqwest::RequestBuilder) {
    let answer = request.send().await.expect("an answer");
    let status = answer.status();
    assert_eq!(status, 201, "{}", answer.text().await.unwrap_or_default());
}

/// Pushes an image as a client does.
pub async fn push(node: &Serve, name: &str, tag: &str, image: &Image) {
    let client = reqwest::Client::new();
    for blob in image.blobs() {
        let digest = Digest::sha256_of(blob);
        let url = node.url(&format!("/v2/{name}/blobs/uploads/?digest={digest}"));
        send(client.post(url).header("content-type", "application/octet-stream").body(blob.to_vec())).await;
    }
    let url = node.url(&format!("/v2/{name}/manifests/{tag}"));
    send(client.put(url).header("content-type", image.media_type).body(image.manifest.clone())).await;
}

/// Waits until a tag is this image at `node`.
pub async fn known(node: &Serve, name: &str, tag: &str, image: &Image) {
    let mut last = None;
    let known = async {
        loop {
            let answer = get(&node.url(&format!("/v2/{name}/manifests/{tag}"))).await;
            if answer.body == image.manifest {
                return;
            }
            last = Some(answer);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), known).await;
    assert!(waited.is_ok(), "{name}:{tag} is not known at the follower: {last:?}");
}

/// Holds that `node` has the image, all of it.
pub async fn pulls(node: &Serve, name: &str, tag: &str, image: &Image) {
    known(node, name, tag, image).await;
    for blob in image.blobs() {
        let answer = get_found(&node.url(&format!("/v2/{name}/blobs/{}", Digest::sha256_of(blob)))).await;
        assert!(answer.status == 200 && answer.body == blob, "{name}: {}", answer.status);
    }
}

/// The name that a node publishes under.
pub fn name_of(node: &Serve) -> String {
    node.status()["published"]["name"].as_str().expect("a name").into()
}

/// Waits until all that was pushed is published; its root.
pub async fn published(node: &Serve) -> String {
    let is_published =
        |status: &Value| status["published"]["behind"] == 0 && !status["published"]["root"].is_null();
    node.until("all is published", is_published).await;
    node.status()["published"]["root"].as_str().expect("a root").into()
}

pub fn follower(of: &[&Serve], arguments: &[&str]) -> Serve {
    let names: Vec<String> = of.iter().map(|node| name_of(node)).collect();
    let mut all = arguments.to_vec();
    for (node, name) in of.iter().zip(&names) {
        all.extend(["--peer", node.address(), "--follow", name]);
    }
    Serve::start(&all)
}

async fn a_node_follows_two_publishers_and_serves_their_pushes() {
    let [one, two] = [(); 2].map(|()| Serve::start(&[]));
    let third = follower(&[&one, &two], &[]);
    let [first, second, third_image] = [1, 2, 3].map(|n| Image::of(&format!("{n}"), n << 20));
    push(&one, "team/app", "1", &first).await;
    push(&two, "tools", "latest", &second).await;
    pulls(&third, "team/app", "1", &first).await;
    pulls(&third, "tools", "latest", &second).await;
    // A tag that moves is another image at once, whatever the time to live of the record says.
    push(&one, "team/app", "1", &third_image).await;
    pulls(&third, "team/app", "1", &third_image).await;
    let tags = get(&third.url("/v2/team/app/tags/list")).await.json();
    assert_eq!(tags["tags"], serde_json::json!(["1"]));
    // It is read-only, and what is pushed here goes before it.
    push(&third, "team/app", "own", &second).await;
    pulls(&third, "team/app", "own", &second).await;
    get(&third.url("/v2/nothing/manifests/1")).await.refused(404, "NAME_UNKNOWN", &["nothing"]);
    let names = one.json(&["name", "ls"]);
    assert_eq!((&names[0]["key"], &names[0]["name"]), (&"self".into(), &name_of(&one).into()));
    assert_eq!(names[0]["value"], format!("/ipfs/{}", published(&one).await));
    assert!(one.log().contains("published"), "{}", one.log());
}

async fn a_follower_serves_an_ipns_name_after_its_publisher_is_gone() {
    let publisher = Serve::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let name = name_of(&publisher);
    let arguments = ["--follow", &name, "--prefetch", "all", "--find-timeout", "2s"];
    let follower = Serve::start_in(dir.path(), &[&arguments[..], &["--peer", publisher.address()]].concat());
    let image = Image::of("kept", 3 << 20);
    push(&publisher, "app", "1", &image).await;
    known(&follower, "app", "1", &image).await;
    until("all of it is fetched before anybody asks", || {
        follower.stored("blobs") >= 3 && follower.stored("partial") == 0
    })
    .await;
    publisher.kill();
    drop(follower);
    let follower = Serve::start_in(dir.path(), &arguments);
    pulls(&follower, "app", "1", &image).await;
    // Others who follow the name learn it from there.
    let late = Serve::start(&["--follow", &name, "--peer", follower.address()]);
    pulls(&late, "app", "1", &image).await;
}

async fn the_published_root_does_not_depend_on_push_order() {
    let images: Vec<Image> = (0..5).map(|n| Image::of(&format!("{n}"), 100_000 * n)).collect();
    let [one, other] = [(); 2].map(|()| Serve::start(&[]));
    let place = |n: usize| (["app", "team/app", "team"][n % 3], format!("v{n}"));
    for (n, image) in images.iter().enumerate() {
        push(&one, place(n).0, &place(n).1, image).await;
    }
    for (n, image) in images.iter().enumerate().rev() {
        push(&other, place(n).0, &place(n).1, &images[0]).await;
        push(&other, place(n).0, &place(n).1, image).await;
        published(&other).await;
    }
    for n in 1..images.len() {
        // What it had in between goes again, but where it is meant to be.
        if place(n).0 != place(0).0 {
            let client = reqwest::Client::new();
            let digests = images[0].blobs().map(|blob| format!("blobs/{}", Digest::sha256_of(blob)));
            for path in [format!("manifests/{}", images[0].digest())].into_iter().chain(digests) {
                let _ = client.delete(other.url(&format!("/v2/{}/{path}", place(n).0))).send().await;
            }
        }
    }
    until("both have the same root", || {
        let root = |node: &Serve| node.status()["published"].clone();
        let (one, other) = (root(&one), root(&other));
        one["behind"] == 0 && other["behind"] == 0 && one["root"] == other["root"]
    })
    .await;
}

async fn an_ipns_key_moves_to_another_node_and_conflicting_writers_are_reported() {
    // The first one has asked a peer when it publishes: what it hears later is written at the same time.
    let peer = Serve::start(&[]);
    let first = Serve::start(&["--peer", peer.address()]);
    let name = name_of(&first);
    let images = [Image::of("first", 1000), Image::of("second", 2000), Image::of("third", 3000)];
    push(&first, "app", "1", &images[0]).await;
    published(&first).await;
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("team.key");
    first.ask(&["name", "key", "export", "self", key.to_str().unwrap()]);
    let second_dir = tempfile::tempdir().unwrap();
    let import = ["-q", "name", "key", "import", "team", key.to_str().unwrap()];
    assert_eq!(crate::harness::last_line(crate::harness::ocipfs(second_dir.path()).args(import)), name);
    let second = Serve::start_in(second_dir.path(), &["--publish-key", "team", "--peer", first.address()]);
    let follower = Serve::start(&["--peer", first.address(), "--peer", second.address(), "--follow", &name]);
    known(&follower, "app", "1", &images[0]).await;
    let sequence = |node: &Serve| node.status()["published"]["sequence"].as_u64();
    let before = sequence(&first).unwrap();
    until("the second machine knows how far the first was", || {
        second.log().contains("another machine published under this name before")
    })
    .await;
    push(&second, "app", "1", &images[1]).await;
    known(&follower, "app", "1", &images[1]).await;
    assert!(sequence(&second).unwrap() > before);
    assert_eq!(second.status()["published"]["conflicting_writers"], serde_json::json!([]));
    first
        .until("the first one says that another writes", |status| {
            status["published"]["conflicting_writers"][0]["name"] == name.as_str()
        })
        .await;
    assert!(first.log().contains("two nodes write this name"), "{}", first.log());
    push(&first, "app", "1", &images[2]).await;
    known(&follower, "app", "1", &images[2]).await;
    second
        .until("so does the second", |status| {
            status["published"]["conflicting_writers"][0]["name"] == name.as_str()
        })
        .await;
}

async fn names_are_followed_and_unfollowed_by_command() {
    let publisher = Serve::start(&[]);
    let name = name_of(&publisher);
    let image = Image::of("any", 1000);
    push(&publisher, "app", "1", &image).await;
    let node = Serve::start(&["--peer", publisher.address()]);
    get(&node.url("/v2/app/manifests/1")).await.refused(404, "NAME_UNKNOWN", &["app"]);
    assert_eq!(node.ask(&["-q", "name", "follow", &format!("/ipns/{name}")]), name);
    pulls(&node, "app", "1", &image).await;
    assert_eq!(node.status()["followed"][0]["name"], name.as_str());
    node.ask(&["name", "unfollow", &name]);
    get(&node.url("/v2/app/manifests/1")).await.refused(404, "NAME_UNKNOWN", &["app"]);
    node.command(&["name", "unfollow", &name]).failed(1, &["is not followed"]);
    node.command(&["name", "follow", "nonsense"]).failed(1, &["invalid IPNS name"]);
    node.command(&["name", "key", "export", "none", "/dev/null"]).failed(1, &["key \"none\" not found"]);
    let told = Serve::start(&["--follow", &name]);
    told.command(&["name", "unfollow", &name]).failed(1, &["is followed by configuration"]);
}

async fn pushes_stay_published_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let images: Vec<Image> = (0..6).map(|n| Image::of(&format!("{n}"), 10_000 * n)).collect();
    let mut last = 0;
    for (n, image) in images.iter().enumerate() {
        let node = Serve::start_in(dir.path(), &[]);
        push(&node, "app", &format!("v{n}"), image).await;
        if n % 2 == 0 {
            published(&node).await;
            let sequence = node.status()["published"]["sequence"].as_u64().unwrap();
            assert!(sequence >= last, "{sequence} after {last}");
            last = sequence;
        }
        node.kill();
    }
    let node = Serve::start_in(dir.path(), &[]);
    let root = published(&node).await;
    assert!(node.status()["published"]["sequence"].as_u64().unwrap() > last);
    for (n, image) in images.iter().enumerate() {
        pulls(&node, &format!("ipfs/{root}/app"), &format!("v{n}"), image).await;
    }
}

async fn referrers_of_an_image_are_listed_by_a_follower() {
    let publisher = Serve::start(&[]);
    let follower = follower(&[&publisher], &[]);
    let image = Image::of("signed", 1000);
    push(&publisher, "app", "1", &image).await;
    let subject = descriptor(image.media_type, &image.manifest);
    let app = Repository::new(&publisher, "app");
    app.push(b"{}").await;
    for kind in ["application/vnd.sbom", "application/vnd.signature"] {
        let mut artifact = push::manifest(b"{}", &[]);
        artifact["artifactType"] = kind.into();
        artifact["subject"] = subject.clone();
        artifact["annotations"] = serde_json::json!({ "of": kind });
        let digest = Digest::sha256_of(artifact.to_string().as_bytes()).to_string();
        assert_eq!(app.put(&digest, &artifact).await.status, 201);
    }
    let root = published(&publisher).await;
    let path = format!("referrers/{}", image.digest());
    let own = app.get(&path).await.json();
    assert_eq!(own["manifests"].as_array().map(Vec::len), Some(2));
    known(&follower, "app", "1", &image).await;
    let name = name_of(&publisher);
    for at in ["app".into(), format!("ipfs/{root}/app"), format!("ipns/{name}/app")] {
        let at = Repository::new(&follower, &at);
        let is_known = async || at.get(&path).await.json() == own;
        let waited = tokio::time::timeout(Duration::from_secs(30), async {
            while !is_known().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        assert!(waited.await.is_ok(), "{:?}", at.get(&path).await);
        let sbom = at.get(&format!("{path}?artifactType=application/vnd.sbom")).await;
        assert_eq!(sbom.header("oci-filters-applied"), "artifactType");
        assert_eq!(
            sbom.json()["manifests"],
            serde_json::json!([own["manifests"]
                .as_array()
                .and_then(|all| all.iter().find(|one| one["artifactType"] == "application/vnd.sbom"))])
        );
        let page = at.get(&format!("{path}?n=1")).await;
        assert_eq!(page.json()["manifests"].as_array().map(Vec::len), Some(1));
        assert!(page.header("link").contains("rel=\"next\""), "{page:?}");
    }
    let none = Digest::sha256_of(b"none");
    let answer = get(&follower.url(&format!("/v2/app/referrers/{none}"))).await;
    assert_eq!((answer.status, &answer.json()["manifests"]), (200, &serde_json::json!([])));
}

async fn a_published_root_is_not_republished_after_sharing_of_pushes_is_turned_off() {
    let dir = tempfile::tempdir().unwrap();
    let node = Serve::start_in(dir.path(), &[]);
    push(&node, "app", "1", &Image::of("1", 10_000)).await;
    published(&node).await;
    let before = node.status()["published"]["sequence"].clone();
    assert!(before.is_u64());
    node.stop();
    let node = Serve::start_in(dir.path(), &["--share", "added"]);
    assert!(node.log().contains("peers know it until it expires"), "{}", node.log());
    assert!(node.status()["published"]["sequence"].is_null());
    // A version that was never published, so that the one before is not here any more when it starts again.
    push(&node, "app", "1", &Image::of("2", 10_000)).await;
    published(&node).await;
    node.stop();
    let node = Serve::start_in(dir.path(), &["--share", "added"]);
    assert!(node.status()["published"]["sequence"].is_null());
    node.stop();
    // Shared again, the sequence counts on.
    let node = Serve::start_in(dir.path(), &[]);
    published(&node).await;
    node.until("it is published", |status| status["published"]["sequence"].as_u64() > before.as_u64()).await;
}

async fn skopeo_pulls_a_published_image_by_ipns_name() {
    let publisher = Serve::start(&[]);
    let image = Image::of("any", 100_000);
    push(&publisher, "team/app", "1", &image).await;
    published(&publisher).await;
    let reader = Serve::start(&["--peer", publisher.address()]);
    reader.until("the publisher is connected", |status| status["peers"] == 1).await;
    let reference = format!("{}/ipns/{}/team/app:1", reader.registry(), name_of(&publisher));
    let skopeo = Skopeo::new().unwrap();
    assert_eq!(skopeo.inspect_raw(&reference).unwrap().as_bytes(), image.manifest);
    skopeo.copy(&reference, &format!("dir:{}", reader.data_dir().join("out").display())).unwrap();
}

async fn the_sharing_policy_decides_whether_boxo_fetches_pushed_content() {
    let image = Image::of("pushed", 3 << 20);
    for (share, given) in [("added", false), ("all", true)] {
        let node = Serve::start(&["--share", share]);
        assert_eq!(node.ready["published"]["share"], share);
        push(&node, "app", "1", &image).await;
        let root = published(&node).await;
        assert_eq!(node.status()["published"]["sequence"].is_null(), !given);
        let layer = format!("{root}/app/blobs/sha256/{}", Digest::sha256_of(&image.layer).hex());
        let out = node.data_dir().join("out");
        let patience = Duration::from_secs(if given { 60 } else { 5 });
        let fetched = boxo::fetch(&[], &layer, node.address(), &out, patience).await;
        assert_eq!(fetched.is_ok(), given, "{share}: {:?}", fetched.err());
        // What a command adds is given in any case, and the pushed blob where it is the same.
        let tar = crate::harness::tar_of(node.data_dir(), "added.tar", b"added");
        let added = node.json(&["layer", "add", tar.to_str().unwrap()]);
        boxo::fetch(&[], added["layers"][0]["layer"].as_str().unwrap(), node.address(), &out, 12 * patience)
            .await
            .unwrap();
    }
}
