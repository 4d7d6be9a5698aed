//! A clock that was wrong and is put right, before a restart and under a running node.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use libtest_mimic::Trial;
use ocipfs_oci::Digest;

use crate::{
    following::{known, name_of, published, pulls, push},
    harness::{Serve, finish, ocipfs, trials},
    names::image::Image,
    push::{self as pushing, Repository},
};

pub fn trials() -> Vec<Trial> {
    trials![needs faketime();
        pushes_survive_a_wrong_clock_and_the_ipns_sequence_increases,
        a_private_swarm_works_with_clocks_that_are_years_apart_and_status_says_so,
    ]
}

/// Puts a program's wall clock off: <https://github.com/wolfcw/libfaketime>.
fn library() -> String {
    format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH)
}

fn faketime() -> Result<(), String> {
    let is_there = Path::new(&library()).exists();
    is_there.then_some(()).ok_or_else(|| "faketime is missing: apt-get install faketime".into())
}

fn sequence(node: &Serve) -> u64 {
    node.status()["published"]["sequence"].as_u64().expect("a sequence")
}

async fn pushes_survive_a_wrong_clock_and_the_ipns_sequence_increases() {
    let dir = tempfile::tempdir().unwrap();
    let offset = dir.path().join("offset");
    let (offset_file, node_dir) = (offset.to_str().unwrap(), dir.path().join("node"));
    let library = library();
    let off = HashMap::from([
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", offset_file),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ]);
    let images: Vec<Image> = (0..4).map(|n| Image::of(&format!("{n}"), 10_000 + n)).collect();
    let follow = |node: &Serve| Serve::start(&["--peer", node.address(), "--follow", &name_of(node)]);

    // Three months ahead.
    fs::write(&offset, "+90d").unwrap();
    let node = Serve::start_with(&node_dir, &[], &off);
    push(&node, "app", "0", &images[0]).await;
    published(&node).await;
    let ahead = humantime::format_rfc3339(SystemTime::now() + Duration::from_secs(90 * 24 * 60 * 60));
    assert!(node.log().contains(&ahead.to_string()[..10]), "the clock is right: {}", node.log());
    let follower = follow(&node);
    pulls(&follower, "app", "0", &images[0]).await;
    let (bytes, before) = (vec![7; 300_000], sequence(&node));
    let app = Repository::new(&node, "app");
    let upload = app.begin().await;
    assert_eq!(app.part(&upload, 0, &bytes[..200_000]).await.status, 202);
    let upload = upload.replace(&node.url(""), "");
    drop(follower);
    node.kill();

    // It starts with the right clock: the name moves on, the upload too.
    let node = Serve::start_in(&node_dir, &[]);
    let app = Repository::new(&node, "app");
    let end = app.end(&node.url(&upload), &Digest::sha256_of(&bytes).to_string(), &bytes[200_000..]).await;
    assert_eq!(end.status, 201, "{end:?}");
    // A blob that no manifest references goes after a time.
    app.push(b"{}").await;
    assert_eq!(app.put("blob", &pushing::manifest(b"{}", &[&bytes])).await.status, 201);
    push(&node, "app", "1", &images[1]).await;
    published(&node).await;
    assert!(sequence(&node) > before);
    let follower = follow(&node);
    pulls(&follower, "app", "1", &images[1]).await;
    pulls(&follower, "app", "0", &images[0]).await;
    drop(follower);
    node.kill();

    // Days back while it runs.
    fs::write(&offset, "+2d").unwrap();
    let node = Serve::start_with(&node_dir, &[], &off);
    let follower = follow(&node);
    push(&node, "app", "2", &images[2]).await;
    known(&follower, "app", "2", &images[2]).await;
    let before = sequence(&node);
    fs::write(&offset, "-1d").unwrap();
    push(&node, "app", "3", &images[3]).await;
    known(&follower, "app", "3", &images[3]).await;
    assert!(sequence(&node) > before);
    let root = published(&node).await;
    for (n, image) in images.iter().enumerate() {
        pulls(&node, &format!("ipfs/{root}/app"), &n.to_string(), image).await;
    }
    assert_eq!(node.command(&["store", "gc"]).code, Some(0));
    Repository::new(&node, "app").has(&bytes).await;
    assert!(!node.log().contains("panicked"), "{}", node.log());
}

async fn a_private_swarm_works_with_clocks_that_are_years_apart_and_status_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("swarm.key");
    fs::write(&key, finish(ocipfs(dir.path()).args(["swarm", "key"])).stdout).unwrap();
    let (key, library) = (key.to_str().unwrap(), library());
    let node = |name: &str, offset: &str, arguments: &[&str]| {
        let (node_dir, file) = (dir.path().join(name), dir.path().join(format!("{name}.offset")));
        fs::write(&file, offset).unwrap();
        let off = HashMap::from([
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]);
        Serve::start_with(&node_dir, &[&["--swarm-key", key], arguments].concat(), &off)
    };
    let images: Vec<Image> = (0..3).map(|n| Image::of(&format!("{n}"), 100_000 + n)).collect();
    // The records of the publisher expired years ago for the others, whose clocks are right, or ahead.
    let publisher = node("publisher", "-1100d", &[]);
    push(&publisher, "app", "0", &images[0]).await;
    published(&publisher).await;
    let name = name_of(&publisher);
    let follow = ["--peer", publisher.address(), "--follow", &name, "--prefetch", "all"];
    let right = node("right", "+0", &follow);
    let ahead = node("ahead", "+1900d", &[&follow[..], &["--peer", right.address()]].concat());
    for follower in [&right, &ahead] {
        pulls(follower, "app", "0", &images[0]).await;
    }
    // They go on to follow it.
    push(&publisher, "app", "1", &images[1]).await;
    for follower in [&right, &ahead] {
        known(follower, "app", "1", &images[1]).await;
        assert!(follower.log().contains("has expired by the clock of this machine"), "{}", follower.log());
        assert_eq!(follower.status()["followed"][0]["stale"], true);
    }
    // Most clocks are ahead of that of the publisher.
    let behind = |status: &serde_json::Value| status["clock_ahead_seconds"].as_i64() > Some(1000 * 86_400);
    publisher.until("its clock is behind", behind).await;
    let said = publisher.command(&["status"]).stdout;
    assert!(said.contains("set the clock of this machine"), "{said}");
    ahead
        .until("its clock is ahead", |status| status["clock_ahead_seconds"].as_i64() < Some(-1000 * 86_400))
        .await;
    right.until("two differ", |status| status["peers_with_other_clocks"] == 2).await;
    assert!(publisher.log().contains("ahead of that of this machine"), "{}", publisher.log());
    // A newcomer learns the name from a follower, when the publisher is gone.
    publisher.kill();
    let arguments = ["--peer", right.address(), "--follow", &name, "--prefetch", "all"];
    let late = node("late", "+0", &arguments);
    pulls(&late, "app", "1", &images[1]).await;
    // The publisher comes back with the right clock: its name goes on.
    let publisher = node("publisher", "+0", &["--peer", right.address()]);
    push(&publisher, "app", "2", &images[2]).await;
    for follower in [&right, &late] {
        known(follower, "app", "2", &images[2]).await;
        follower.until("the record is valid", |status| status["followed"][0]["stale"] == false).await;
    }
    for node in [&publisher, &right, &ahead, &late] {
        assert!(!node.log().contains("panicked"), "{}", node.log());
    }
}
