//! What changes at a publisher changes at its followers, whatever they had of it.

use std::time::Duration;

use libtest_mimic::Trial;
use ocipfs_oci::Digest;
use serde_json::{Value, json};

use super::{
    known, name_of, published, pulls, push,
    standby::{Pointed, arguments, current, is_current, tags},
};
use crate::{
    harness::{Serve, noise, trial_within, trials, until},
    http::get,
    names::image::Image,
    ports::free_port,
};

pub fn trials() -> Vec<Trial> {
    let mut all = trials![
        old_versions_of_followed_images_are_garbage_collected_at_the_follower,
        unfollow_releases_all_followed_content,
        a_revert_to_an_earlier_root_after_an_incomplete_one_is_served,
        repositories_removed_at_the_publisher_are_removed_at_the_follower,
        a_new_tag_among_ten_thousand_costs_a_follower_less_than_64_kib,
        a_push_during_the_prefetch_of_hundreds_of_repositories_loses_nothing,
    ];
    all.push(trial_within(
        "following::changes::tags_complete_in_status_are_served_after_sigkill_of_the_publisher",
        Duration::from_secs(3600),
        tags_complete_in_status_are_served_after_sigkill_of_the_publisher,
    ));
    all
}

async fn old_versions_of_followed_images_are_garbage_collected_at_the_follower() {
    const KEPT: usize = 4;
    let publisher = Serve::start(&[]);
    let name = name_of(&publisher);
    let follower = Serve::start(&arguments(&name, publisher.address(), "all"));
    let image = |n: usize| Image::with_layer(&n.to_string(), noise(1000 + n));
    let blocks = || {
        follower.ask(&["store", "gc"]);
        follower.stored("blocks")
    };
    for n in 0..2 * KEPT {
        push_twice(&publisher, n % KEPT, &image(n)).await;
        current(&follower, &publisher).await;
        if n >= KEPT {
            remove(&publisher, &image(n - KEPT)).await;
        }
    }
    current(&follower, &publisher).await;
    let before = blocks();
    for n in 2 * KEPT..50 {
        push_twice(&publisher, n % KEPT, &image(n)).await;
        current(&follower, &publisher).await;
        remove(&publisher, &image(n - KEPT)).await;
    }
    current(&follower, &publisher).await;
    until("old roots are released", || blocks() <= before).await;
    for n in 50 - KEPT..50 {
        pulls(&follower, "app", &format!("v{}", n % KEPT), &image(n)).await;
    }
}

async fn push_twice(publisher: &Serve, tag: usize, image: &Image) {
    push(publisher, "app", &format!("v{tag}"), image).await;
    push(publisher, "app", "latest", image).await;
}

/// Deletes an image at the publisher.
async fn remove(publisher: &Serve, image: &Image) {
    let client = reqwest::Client::new();
    let path = format!("/v2/app/manifests/{}", image.digest());
    assert_eq!(client.delete(publisher.url(&path)).send().await.unwrap().status(), 202);
    for blob in image.blobs() {
        let path = format!("/v2/app/blobs/{}", Digest::sha256_of(blob));
        client.delete(publisher.url(&path)).send().await.unwrap();
    }
}

async fn a_revert_to_an_earlier_root_after_an_incomplete_one_is_served() {
    let image = Image::of("kept", 1000);
    let pointed = Pointed::start(&image).await;
    let first = published(&pointed.publisher).await;
    push(&pointed.publisher, "b", "1", &image).await;
    let second = published(&pointed.publisher).await;
    let large = Image::of("large", 64 << 20);
    push(&pointed.publisher, "c", "1", &large).await;
    push(&pointed.publisher, "d", "1", &image).await;
    let third = published(&pointed.publisher).await;
    let arguments = arguments(&pointed.name, pointed.publisher.address(), "all");
    let follower = Serve::start(&arguments);
    pointed.point(&second);
    let serves = |root: String| {
        move |status: &Value| is_current(status) && status["followed"][0]["served"]["root"] == root.as_str()
    };
    follower.until("the second root is served", serves(second.clone())).await;
    // Some of the third is taken up before the name means the first again.
    pointed.point(&third);
    follower
        .until("a repository of the third root is complete", |status| {
            let all = status["followed"][0]["repositories"].as_array();
            all.is_some_and(|all| all.iter().any(|one| one["name"] == "d" || one["name"] == "c"))
        })
        .await;
    pointed.point(&first);
    follower.until("the first root is served", serves(first)).await;
    let listed = get(&follower.url("/v2/_catalog")).await.json();
    assert_eq!(listed["repositories"], json!(["app"]));
    get(&follower.url("/v2/d/manifests/1")).await.refused(404, "NAME_UNKNOWN", &["d"]);
    pointed.point(&second);
    follower.until("the second root is served again", serves(second)).await;
    pulls(&follower, "b", "1", &image).await;
}

async fn unfollow_releases_all_followed_content() {
    let publisher = Serve::start(&[]);
    let name = name_of(&publisher);
    push(&publisher, "app", "1", &Image::of("any", 1 << 20)).await;
    let follower = Serve::start(&["--peer", publisher.address(), "--prefetch", "all"]);
    follower.ask(&["name", "follow", &name]);
    current(&follower, &publisher).await;
    follower.ask(&["store", "gc"]);
    assert!(follower.stored("blobs") >= 3);
    follower.ask(&["name", "unfollow", &name]);
    until("it is released", || {
        follower.ask(&["store", "gc"]);
        (follower.stored("blobs"), follower.stored("blocks")) == (0, 0)
    })
    .await;
}

async fn repositories_removed_at_the_publisher_are_removed_at_the_follower() {
    let publisher = Serve::start(&[]);
    let name = name_of(&publisher);
    let follower = Serve::start(&arguments(&name, publisher.address(), "manifests"));
    let image = Image::of("any", 1000);
    for repository in ["app", "app/sub", "team/app"] {
        push(&publisher, repository, "1", &image).await;
    }
    current(&follower, &publisher).await;
    let client = reqwest::Client::new();
    for repository in ["app", "team/app"] {
        let digests = image.blobs().map(|blob| format!("blobs/{}", Digest::sha256_of(blob)));
        for path in [format!("manifests/{}", image.digest())].into_iter().chain(digests) {
            let _ = client.delete(publisher.url(&format!("/v2/{repository}/{path}"))).send().await;
        }
    }
    current(&follower, &publisher).await;
    assert_eq!(get(&follower.url("/v2/_catalog")).await.json()["repositories"], json!(["app/sub"]));
    get(&follower.url("/v2/app/manifests/1")).await.refused(404, "NAME_UNKNOWN", &["app"]);
    known(&follower, "app/sub", "1", &image).await;
}

async fn a_new_tag_among_ten_thousand_costs_a_follower_less_than_64_kib() {
    const TAGS: usize = 10_000;
    let publisher = Serve::start(&[]);
    let image = Image::of("any", 1000);
    push(&publisher, "app", "0", &image).await;
    let client = reqwest::Client::new();
    let put = |tags: std::ops::Range<usize>| {
        let tags: Vec<String> = tags.map(|n| format!("tag=v{n}")).collect();
        let url = publisher.url(&format!("/v2/app/manifests/{}?{}", image.digest(), tags.join("&")));
        client.put(url).header("content-type", image.media_type).body(image.manifest.clone()).send()
    };
    // Each tag is a header of the answer, and clients take a hundred.
    for first in (0..TAGS).step_by(50) {
        assert_eq!(put(first..first + 50).await.unwrap().status(), 201);
    }
    published(&publisher).await;
    let name = name_of(&publisher);
    let follower = Serve::start(&arguments(&name, publisher.address(), "all"));
    current(&follower, &publisher).await;
    let received = || follower.status()["received_bytes"].as_u64().unwrap_or_default();
    let before = received();
    push(&publisher, "app", "one-more", &Image::of("other", 1000)).await;
    current(&follower, &publisher).await;
    let bytes = received() - before;
    assert!(bytes < 64 << 10, "{bytes} bytes came for one tag");
    known(&follower, "app", "one-more", &Image::of("other", 1000)).await;
}

async fn a_push_during_the_prefetch_of_hundreds_of_repositories_loses_nothing() {
    const REPOSITORIES: usize = 400;
    let publisher = Serve::start(&[]);
    let image = Image::of("any", 100);
    let client = reqwest::Client::new();
    for blob in image.blobs() {
        let url = publisher.url(&format!("/v2/r/0/blobs/uploads/?digest={}", Digest::sha256_of(blob)));
        client.post(url).body(blob.to_vec()).send().await.unwrap();
    }
    for n in 0..REPOSITORIES {
        for blob in image.blobs() {
            let (digest, from) = (Digest::sha256_of(blob), "r%2F0");
            let url = publisher.url(&format!("/v2/r/{n}/blobs/uploads/?mount={digest}&from={from}"));
            assert_eq!(client.post(url).send().await.unwrap().status(), 201);
        }
        let url = publisher.url(&format!("/v2/r/{n}/manifests/1"));
        let put = client.put(url).header("content-type", image.media_type).body(image.manifest.clone());
        assert_eq!(put.send().await.unwrap().status(), 201);
    }
    published(&publisher).await;
    let name = name_of(&publisher);
    let follower = Serve::start(&arguments(&name, publisher.address(), "manifests"));
    let waited = tokio::time::timeout(Duration::from_secs(120), async {
        let mut pushed = 0;
        loop {
            let complete = follower.status()["followed"][0]["complete_repositories"].as_u64();
            if complete >= Some(REPOSITORIES as u64) {
                return;
            }
            push(&publisher, "busy", &pushed.to_string(), &image).await;
            pushed += 1;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    assert!(waited.await.is_ok(), "not all repositories are complete during a steady stream of pushes");
}

/// 20 rounds, or as many as `OCIPFS_TEST_KILLS` says.
async fn tags_complete_in_status_are_served_after_sigkill_of_the_publisher() {
    let rounds: u64 = std::env::var("OCIPFS_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // A port that no other test takes while it is down.
    let listen = format!("/ip4/127.0.0.1/tcp/{}", free_port());
    let mut publisher = Serve::start_in(dir.path(), &["--swarm-listen", &listen]);
    let name = name_of(&publisher);
    let address = publisher.address().to_string();
    let arguments = arguments(&name, &address, "all");
    let follower = Serve::start_in(other.path(), &arguments);
    let images = |n: u64| Image::with_layer(&n.to_string(), noise(20_000 + (n as usize * 7919) % 900_000));
    let mut pulled = 0;
    // The first search for the name may take as long as some rounds.
    push(&publisher, "first", "1", &images(0)).await;
    current(&follower, &publisher).await;
    for round in 0..rounds {
        for (repository, tag) in
            [("app", "latest".to_string()), ("app", format!("v{}", round % 5)), ("team/app", "1".into())]
        {
            push(&publisher, repository, &tag, &images(round)).await;
        }
        // Some kills come before the follower heard of anything, some when it has everything.
        tokio::time::sleep(Duration::from_millis((round * 37) % 250)).await;
        publisher.kill();
        let status = follower.status();
        for repository in status["followed"][0]["repositories"].as_array().cloned().unwrap_or_default() {
            let repository_name = repository["name"].as_str().unwrap();
            if repository_name == "first" {
                continue;
            }
            for tag in repository["tags"].as_array().unwrap() {
                whole(&follower, repository_name, tag.as_str().unwrap(), round).await;
                pulled += 1;
            }
        }
        publisher = Serve::start_in(dir.path(), &["--swarm-listen", &listen]);
    }
    eprintln!("{rounds} kills: {pulled} complete tags were pulled");
    // At the first kills the follower may have nothing.
    assert!(pulled + 5 >= rounds, "{pulled} tags");
    current(&follower, &publisher).await;
    assert_eq!(tags(&follower.status(), "app").as_array().map(Vec::len), Some(rounds.min(5) as usize + 1));
}

/// Pulls a tag in full.
async fn whole(follower: &Serve, repository: &str, tag: &str, round: u64) {
    let manifest = get(&follower.url(&format!("/v2/{repository}/manifests/{tag}"))).await;
    assert_eq!(manifest.status, 200, "round {round}: {repository}:{tag}: {manifest:?}");
    let json = manifest.json();
    let blobs = json["layers"].as_array().unwrap().iter().chain([&json["config"]]);
    for blob in blobs {
        let digest = blob["digest"].as_str().unwrap();
        let answer = get(&follower.url(&format!("/v2/{repository}/blobs/{digest}"))).await;
        let is_right = answer.status == 200 && Digest::sha256_of(&answer.body).to_string() == digest;
        assert!(is_right, "round {round}: {repository}:{tag}: {digest}: {}", answer.status);
    }
}
