//! Two processes with one identity: a cloned directory, a restored backup.

use std::{fs, path::Path};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::{
    following::{known, name_of, published, push},
    harness::{Serve, trials, until},
    names::image::Image,
    peers::router::Router,
};

pub fn trials() -> Vec<Trial> {
    trials![
        a_cloned_node_directory_is_reported_as_a_conflicting_writer_by_both_nodes,
        a_conflicting_writer_is_found_by_the_dht_alone,
        a_restored_backup_fetches_the_newest_ipns_record_and_continues_its_sequence,
        a_restored_backup_started_offline_raises_its_ipns_sequence_once_peers_connect,
    ]
}

/// Copies a node directory as a backup does while the node does not run.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (kind, target) = (entry.file_type().expect("a type"), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() && entry.file_name() != "serve.log" {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

fn sequence(node: &Serve) -> Option<u64> {
    node.status()["published"]["sequence"].as_u64()
}

/// Waits until a follower of one name knows of the root that `publisher` published last.
async fn receives_last_root(follower: &Serve, publisher: &Serve) {
    let value = format!("/ipfs/{}", published(publisher).await);
    follower
        .until("the follower hears of the root", |status| status["followed"][0]["value"] == value.as_str())
        .await;
}

fn conflicting_writers(status: &Value) -> &Value {
    &status["published"]["conflicting_writers"]
}

/// A node directory that has published `image` as `app:1`, a copy of it, and their name.
async fn cloned(image: &Image) -> ([tempfile::TempDir; 2], String) {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let original = Serve::start_in(dirs[0].path(), &[]);
    let name = name_of(&original);
    push(&original, "app", "1", image).await;
    published(&original).await;
    assert!(original.stop().success());
    copy(dirs[0].path(), dirs[1].path());
    (dirs, name)
}

async fn a_cloned_node_directory_is_reported_as_a_conflicting_writer_by_both_nodes() {
    let images = [1, 2, 3, 4].map(|n| Image::of(&format!("{n}"), n * 1000));
    let (dirs, name) = cloned(&images[0]).await;

    let follower = Serve::start(&["--follow", &name]);
    let [original, clone] =
        dirs.each_ref().map(|dir| Serve::start_in(dir.path(), &["--peer", follower.address()]));
    assert_eq!(original.peer(), clone.peer());
    let own = original.address().to_string();
    clone.command(&["swarm", "connect", &own]).failed(1, &["cannot reach", "a copy of its identity"]);
    for node in [&original, &clone] {
        node.until("it is connected", |status| status["peers"] == 1).await;
        // What another node wrote before the first publication of a process is counted on from, and no rival.
        published(node).await;
        assert_eq!(conflicting_writers(&node.status()), &json!([]), "both say the same until now");
    }
    known(&follower, "app", "1", &images[0]).await;

    push(&original, "app", "2", &images[1]).await;
    receives_last_root(&follower, &original).await;
    push(&clone, "app", "3", &images[2]).await;
    let is_rival = |status: &Value| conflicting_writers(status)[0]["name"] == name.as_str();
    clone.until("the clone says that another node writes its name", is_rival).await;
    receives_last_root(&follower, &clone).await;
    push(&original, "app", "4", &images[3]).await;
    original.until("so does the original", is_rival).await;
    for node in [&original, &clone] {
        assert!(node.log().contains("two nodes write this name"), "{}", node.log());
    }
    // The last one wins.
    receives_last_root(&follower, &original).await;
    assert!(sequence(&original) >= sequence(&clone), "{}", original.log());
}

/// Pushes an image, and waits until a Kademlia server has the record of the new root.
async fn publishes_to(router: &Router, node: &Serve, tag: &str, image: &Image) {
    push(node, "app", tag, image).await;
    let value = format!("/ipfs/{}", published(node).await);
    until("the DHT has the record", || router.has_value(&value)).await;
}

/// Whether a status names another node as a writer, with what that one published last.
fn names_rival<'a>(name: &'a str, other: &'a Serve) -> impl Fn(&Value) -> bool + 'a {
    move |status| *conflicting_writers(status) == json!([{ "name": name, "sequence": sequence(other) }])
}

async fn a_conflicting_writer_is_found_by_the_dht_alone() {
    let images = [1, 2, 3, 4].map(|n| Image::of(&format!("{n}"), n * 1000));
    let (dirs, name) = cloned(&images[0]).await;

    // Nodes with one identity do not connect to each other, and the only peer of both has neither pubsub nor the fetch protocol.
    let router = Router::start().await;
    let [original, clone] =
        dirs.each_ref().map(|dir| Serve::start_in(dir.path(), &["--bootstrap", router.address()]));
    publishes_to(&router, &original, "2", &images[1]).await;
    publishes_to(&router, &clone, "3", &images[2]).await;
    // Neither publishes meanwhile: when a peer joins, the own name is looked up.
    let other = Router::start().await;
    original.ask(&["swarm", "connect", other.address()]);
    original.until("the original says that another node writes its name", names_rival(&name, &clone)).await;
    publishes_to(&router, &original, "4", &images[3]).await;
    clone.ask(&["swarm", "connect", other.address()]);
    clone.until("so does the clone", names_rival(&name, &original)).await;
}

/// A publisher that went on after its backup was made and then was lost; the follower of its name, the directory of the
/// backup, and how far the name is.
async fn publisher_lost_after_backup() -> (Serve, tempfile::TempDir, u64) {
    let [dir, backup] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let publisher = Serve::start_in(dir.path(), &[]);
    let name = name_of(&publisher);
    push(&publisher, "app", "1", &Image::of("1", 1000)).await;
    published(&publisher).await;
    assert!(publisher.stop().success());
    copy(dir.path(), backup.path());

    let follower = Serve::start(&["--follow", &name]);
    let publisher = Serve::start_in(dir.path(), &["--peer", follower.address()]);
    for n in 2..5 {
        push(&publisher, "app", &n.to_string(), &Image::of(&n.to_string(), 1000)).await;
        receives_last_root(&follower, &publisher).await;
    }
    let newest = sequence(&publisher).expect("a sequence");
    publisher.kill();
    (follower, backup, newest)
}

async fn a_restored_backup_fetches_the_newest_ipns_record_and_continues_its_sequence() {
    let (follower, backup, newest) = publisher_lost_after_backup().await;
    let restored = Serve::start_in(backup.path(), &["--peer", follower.address()]);
    receives_last_root(&follower, &restored).await;
    assert_eq!(sequence(&restored), Some(newest + 1));
    let image = Image::of("after", 2000);
    push(&restored, "app", "after", &image).await;
    known(&follower, "app", "after", &image).await;
    assert_eq!(conflicting_writers(&restored.status()), &json!([]), "{}", restored.log());
}

async fn a_restored_backup_started_offline_raises_its_ipns_sequence_once_peers_connect() {
    let (follower, backup, newest) = publisher_lost_after_backup().await;
    let restored = Serve::start_in(backup.path(), &[]);
    let image = Image::of("after", 2000);
    push(&restored, "app", "after", &image).await;
    published(&restored).await;
    assert!(sequence(&restored) < Some(newest), "it does not know better yet");
    restored.ask(&["swarm", "connect", follower.address()]);
    known(&follower, "app", "after", &image).await;
    restored.until("its status says so", |status| status["published"]["sequence"] == newest + 1).await;
    assert_eq!(conflicting_writers(&restored.status()), &json!([]), "{}", restored.log());
}
