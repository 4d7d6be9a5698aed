//! Memory stays flat over content that comes and goes: rounds of push, pull, deletion and garbage collection.

use std::time::Duration;

use libtest_mimic::Trial;

use crate::{
    following::{name_of, published, pulls, push},
    harness::{Serve, noise, trial_within, until},
    http::{ask, get},
    names::image::Image,
};

/// Rounds unless `OCIPFS_TEST_MEMORY_ROUNDS` says otherwise. Without limits on the allocator, so many take 65 MiB.
const ROUNDS: u32 = 200;
/// How long one round may take.
const ROUND: Duration = Duration::from_secs(5);
/// Rounds between two collections.
const COLLECT: u32 = 20;
const LAYER_BYTES: usize = 100_000;
/// Maximum memory of a node once it has returned unused memory.
const BOUND: u64 = 48 << 20;

pub fn trials() -> Vec<Trial> {
    let name =
        concat!(module_path!(), "::memory_stays_flat_over_rounds_of_push_pull_delete_and_garbage_collection");
    vec![trial_within(name, ROUND * rounds(), memory_stays_flat)]
}

fn rounds() -> u32 {
    std::env::var("OCIPFS_TEST_MEMORY_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap())
}

async fn memory_stays_flat() {
    let publisher = Serve::start(&[]);
    let name = name_of(&publisher);
    let follower = Serve::start(&["--peer", publisher.address(), "--follow", &name]);
    let reader = Serve::start(&["--peer", publisher.address(), "--cache-size", "200MB"]);
    let nodes = [(&publisher, "publisher"), (&follower, "follower"), (&reader, "reader")];
    for round in 1..=rounds() {
        push_pull_and_delete(&publisher, &name, &follower, &reader, round).await;
        if round % COLLECT == 0 {
            nodes.iter().for_each(|(node, _)| drop(node.ask(&["store", "gc"])));
        }
        if round % rounds().div_ceil(20) == 0 {
            let now = nodes.map(|(node, who)| format!("{who} {:.1}", node.rss_anon() as f64 / 1e6));
            eprintln!("after {round} rounds, in MB: {}", now.join(", "));
        }
    }
    for (node, who) in nodes {
        until(&format!("the {who} returns what it does not use"), || node.rss_anon() <= BOUND).await;
    }
}

/// Pushes an image, pulls it at both others, and deletes it.
async fn push_pull_and_delete(publisher: &Serve, name: &str, follower: &Serve, reader: &Serve, round: u32) {
    let (note, tag) = (round.to_string(), format!("v{round}"));
    let image = Image::with_layer(&note, noise(LAYER_BYTES + round as usize));
    push(publisher, "app", &tag, &image).await;
    pulls(follower, "app", &tag, &image).await;
    let root = published(publisher).await;
    pulls(reader, &format!("ipfs/{root}/app"), &tag, &image).await;
    // For the TTL of its record, the name still means an older root, which may have no such repository.
    let named = get(&reader.url(&format!("/v2/ipns/{name}/app/tags/list"))).await;
    assert!([200, 404].contains(&named.status), "{named:?}");
    let manifest = publisher.url(&format!("/v2/app/manifests/{}", image.digest()));
    assert_eq!(ask("DELETE", &manifest, &[]).await.status, 202);
}
