//! `name follow --wait` returns once the newest known root is complete, tells how far that is, and gives up when nothing moves.

use std::fs;

use libtest_mimic::Trial;
use ocipfs_oci::Digest;
use serde_json::Value;

use super::{
    name_of, published, pulls, push,
    standby::{NOWHERE, Pointed, is_current},
};
use crate::{
    harness::{Said, Serve, blocking, finish, ocipfs, trials},
    names::image::Image,
    progress::{on_terminal, phases},
};

const TIMEOUTS: [&str; 4] = ["--find-timeout", "1s", "--stall-timeout", "2s"];
const LAYER_BYTES: usize = 3 << 20;

pub fn trials() -> Vec<Trial> {
    trials![
        name_follow_wait_returns_when_the_newest_root_is_complete,
        name_follow_wait_counts_bytes_of_images_that_are_prefetched,
        name_follow_wait_reads_indexes_where_nothing_is_prefetched,
        name_follow_wait_shows_a_bar_on_a_terminal,
        name_follow_wait_fails_when_nothing_is_received_for_the_stall_timeout,
        name_follow_wait_says_what_is_missing_of_a_root_that_its_publisher_has_in_part,
        name_follow_wait_warns_of_what_does_not_fit_in_the_store,
        name_follow_wait_needs_a_running_node,
    ]
}

/// A publisher of two images, and its root.
async fn publisher() -> (Serve, String, Image) {
    let (publisher, image) = (Serve::start(&[]), Image::of("kept", LAYER_BYTES));
    push(&publisher, "app", "1", &image).await;
    push(&publisher, "team/other", "1", &Image::of("small", 1000)).await;
    let root = published(&publisher).await;
    (publisher, root, image)
}

/// A node that is connected and follows nothing.
fn unfollowing(publisher: &Serve, prefetch: &str, more: &[&str]) -> Serve {
    let arguments = ["--peer", publisher.address(), "--prefetch", prefetch];
    Serve::start(&[&arguments, more].concat())
}

/// Runs the command to its end, while the story's deadline holds.
async fn wait(node: &Serve, name: &str) -> Said {
    let mut command = ocipfs(node.data_dir());
    command.args(["--json", "name", "follow", name, "--wait"]);
    blocking(move || finish(&mut command)).await
}

/// The lines of progress of one phase.
fn events(said: &Said, phase: &str) -> Vec<Value> {
    let lines = said.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|event| event["phase"] == phase).collect()
}

fn result(said: &Said) -> Value {
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

async fn name_follow_wait_returns_when_the_newest_root_is_complete() {
    let (publisher, root, _) = publisher().await;
    let (name, follower) = (name_of(&publisher), unfollowing(&publisher, "manifests", &[]));
    for changed in [true, false] {
        let said = wait(&follower, &name).await;
        assert_eq!(phases(&said), ["find", "prefetch"]);
        let expected = serde_json::json!({ "name": name, "changed": changed, "root": root });
        assert_eq!(result(&said), expected, "{said:?}");
        let status = follower.status();
        assert!(is_current(&status) && status["followed"][0]["served"]["root"] == root.as_str(), "{status}");
        if changed {
            let last = events(&said, "prefetch").pop().expect("an event");
            assert_eq!((&last["unit"], &last["total"]), (&"repositories".into(), &2.into()), "{said:?}");
        }
    }
    // The name is printed as without waiting.
    assert_eq!(follower.ask(&["-q", "name", "follow", &name, "--wait"]), name);
}

async fn name_follow_wait_counts_bytes_of_images_that_are_prefetched() {
    let (publisher, _, image) = publisher().await;
    let (name, follower) = (name_of(&publisher), unfollowing(&publisher, "all", &[]));
    let said = wait(&follower, &name).await;
    assert_eq!(phases(&said), ["find", "prefetch"]);
    let last = events(&said, "prefetch").pop().expect("an event");
    assert_eq!(last["unit"], "bytes", "{said:?}");
    assert!(last["total"].as_u64() > Some(LAYER_BYTES as u64), "{said:?}");
    publisher.kill();
    pulls(&follower, "app", "1", &image).await;
}

async fn name_follow_wait_reads_indexes_where_nothing_is_prefetched() {
    let (publisher, root, _) = publisher().await;
    let (name, follower) = (name_of(&publisher), unfollowing(&publisher, "none", &[]));
    let said = wait(&follower, &name).await;
    assert_eq!(phases(&said), ["find", "prefetch"]);
    assert_eq!(result(&said)["root"], root.as_str(), "{said:?}");
}

async fn name_follow_wait_shows_a_bar_on_a_terminal() {
    let (publisher, ..) = publisher().await;
    let (name, follower) = (name_of(&publisher), unfollowing(&publisher, "all", &[]));
    let mut command = ocipfs(follower.data_dir());
    command.args(["name", "follow", &name, "--wait"]);
    let shown = blocking(move || on_terminal(command)).await;
    assert!(shown.contains("prefetch ") && shown.contains("/s"), "{shown:?}");
}

async fn name_follow_wait_fails_when_nothing_is_received_for_the_stall_timeout() {
    let image = Image::of("kept", 100_000);
    let pointed = Pointed::start(&image).await;
    let follower = unfollowing(&pointed.publisher, "manifests", &TIMEOUTS);
    let said = wait(&follower, &pointed.name).await;
    assert_eq!(phases(&said), ["find", "prefetch"]);
    pointed.point(NOWHERE);
    follower.until("the new root is heard of", |status| status["followed"][0]["sequence"] == 1).await;
    let said = wait(&follower, &pointed.name).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    let (failed, hint) = (result(&said)["error"].to_string(), result(&said)["hint"].to_string());
    for text in ["is not complete: sequence 1 lacks the directories", "nothing came for 2s"] {
        assert!(failed.contains(text), "{text}: {said:?}");
    }
    assert!(hint.contains("ocipfs status"), "{said:?}");
    // What was complete before is still served.
    pulls(&follower, "app", "1", &image).await;
    // A name that no peer has a record of.
    let unknown = Serve::start(&[]);
    let name = unknown.ask(&["name", "ls"]).split_whitespace().next().expect("a name").to_string();
    let said = wait(&follower, &name).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(result(&said)["error"].to_string().contains("no record of it was received for 2s"), "{said:?}");
}

async fn name_follow_wait_says_what_is_missing_of_a_root_that_its_publisher_has_in_part() {
    let (publisher, _, image) = publisher().await;
    let digest = Digest::sha256_of(&image.layer).to_string();
    let hex = digest.trim_start_matches("sha256:");
    fs::remove_file(publisher.data_dir().join("blobs").join(&hex[..2]).join(hex)).unwrap();
    let (name, follower) = (name_of(&publisher), unfollowing(&publisher, "all", &TIMEOUTS));
    let said = wait(&follower, &name).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    let failed = result(&said)["error"].to_string();
    assert!(failed.contains("lacks 1 repositories, at least 3.00 MiB"), "{said:?}");
    // The other one is there, and the command says so again.
    pulls(&follower, "team/other", "1", &Image::of("small", 1000)).await;
    assert_eq!(wait(&follower, &name).await.code, Some(1));
}

async fn name_follow_wait_warns_of_what_does_not_fit_in_the_store() {
    let publisher = Serve::start(&[]);
    push(&publisher, "small", "1", &Image::of("small", 1000)).await;
    push(&publisher, "large", "1", &Image::of("large", 24 << 20)).await;
    published(&publisher).await;
    let more = [&TIMEOUTS[..], &["--max-size", "8MiB"]].concat();
    let (name, follower) = (name_of(&publisher), unfollowing(&publisher, "all", &more));
    let said = wait(&follower, &name).await;
    assert_eq!(phases(&said), ["find", "prefetch"]);
    assert!(said.stderr.contains("warning: 24.00 MiB do not fit in the store"), "{said:?}");
}

async fn name_follow_wait_needs_a_running_node() {
    let dir = tempfile::tempdir().unwrap();
    let name = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";
    let said = finish(ocipfs(&dir.path().join("node")).args(["name", "follow", name, "--wait"]));
    said.failed(1, &["no node is running in ", "ocipfs serve"]);
    // Without it the name is followed from the next start on.
    let followed = finish(ocipfs(&dir.path().join("node")).args(["name", "follow", name]));
    assert_eq!((followed.code, followed.last_line()), (Some(0), name), "{followed:?}");
}
