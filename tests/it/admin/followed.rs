//! The lag of followed names, as monitoring sees it.

use libtest_mimic::Trial;

use super::{Exposition, Watched};
use crate::{
    following::{
        published,
        standby::{NOWHERE, Pointed, arguments, is_current},
    },
    harness::trials,
    names::image::Image,
};

pub fn trials() -> Vec<Trial> {
    trials![the_followed_lag_is_zero_when_current_and_grows_while_the_newest_root_is_unreachable]
}

fn lag(metrics: &Exposition) -> Option<f64> {
    metrics.get("ocipfs_followed_lag_seconds")
}

async fn the_followed_lag_is_zero_when_current_and_grows_while_the_newest_root_is_unreachable() {
    let pointed = Pointed::start(&Image::of("kept", 1000)).await;
    let root = published(&pointed.publisher).await;
    let watched = Watched::start(&arguments(&pointed.name, pointed.publisher.address(), "manifests"));
    watched.node.until("the follower is current", is_current).await;
    let is_sampled = |metrics: &Exposition| metrics.get("ocipfs_followed_names") == Some(1.0);
    watched.until("it is current", |metrics| is_sampled(metrics) && lag(metrics) == Some(0.0)).await;
    pointed.point(NOWHERE);
    // Longer than a sample is old: it is the lag that grows, and not a walk that was about to end.
    watched.until("it is behind", |metrics| lag(metrics) > Some(2.0)).await;
    let status = watched.node.status();
    let told = status["followed"][0]["lag_seconds"].as_u64();
    assert!(told >= Some(2), "the command says the same: {status}");
    pointed.point(&root);
    watched.until("it is current again", |metrics| lag(metrics) == Some(0.0)).await;
    watched
        .node
        .until("it says so", |status| is_current(status) && status["followed"][0]["lag_seconds"] == 0)
        .await;
}
