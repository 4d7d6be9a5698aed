//! Followers whose store is full: what they could not store is not called complete.

use libtest_mimic::Trial;
use serde_json::json;

use super::{
    name_of, published, push,
    standby::{arguments, current, is_current, tags},
};
use crate::{
    following::pulls,
    harness::{Serve, noise, trials},
    http::get,
    names::image::Image,
    push::Repository,
};

const MAX_SIZE: u64 = 4 << 20;

pub fn trials() -> Vec<Trial> {
    trials![a_new_index_that_exceeds_the_quota_is_not_complete_and_is_fetched_again_when_there_is_room]
}

/// Pushes blobs until the store is full to the last byte; their digests.
async fn fill(follower: &Serve, own: &Repository) -> Vec<String> {
    let mut digests = Vec::new();
    loop {
        let left = MAX_SIZE - follower.stored("used_bytes");
        if left == 0 {
            return digests;
        }
        let mut bytes = noise(left as usize);
        bytes[0] = digests.len() as u8;
        digests.push(own.push(&bytes).await);
    }
}

async fn a_new_index_that_exceeds_the_quota_is_not_complete_and_is_fetched_again_when_there_is_room() {
    let image = Image::of("small", 1000);
    let (publisher, dir) = (Serve::start(&[]), tempfile::tempdir().unwrap());
    push(&publisher, "app", "1", &image).await;
    let (name, address) = (name_of(&publisher), publisher.address().to_string());
    let limit = MAX_SIZE.to_string();
    // Its own pushes are not published: that would need room, too.
    let more = ["--max-size", &limit, "--share", "added"];
    let arguments = [&arguments(&name, &address, "all")[..], &more].concat();
    let follower = Serve::start_in(dir.path(), &arguments);
    current(&follower, &publisher).await;
    let own = Repository::new(&follower, "own");
    let filled = fill(&follower, &own).await;
    // Of this only directories and the index are new.
    push(&publisher, "app", "2", &image).await;
    let root = published(&publisher).await;
    follower
        .until("the new root is heard of and incomplete", |status| {
            let name = &status["followed"][0];
            name["newest"] == root.as_str() && name["failing"].is_string()
        })
        .await;
    let status = follower.status();
    assert!(!is_current(&status), "{status}");
    assert_eq!(tags(&status, "app"), json!(["1"]), "{status}");
    let failing = status["followed"][0]["failing"].as_str().unwrap();
    assert!(failing.contains("the limit set by --max-size"), "{failing}");

    for digest in filled {
        assert_eq!(own.delete(&format!("blobs/{digest}")).await.status, 202);
    }
    follower.ask(&["store", "gc"]);
    current(&follower, &publisher).await;
    publisher.kill();
    follower.stop();
    let follower = Serve::start_in(dir.path(), &arguments);
    pulls(&follower, "app", "2", &image).await;
    let listed = get(&follower.url("/v2/app/tags/list")).await.json();
    assert_eq!(listed["tags"], json!(["1", "2"]));
}
