//! Many connected peers that never answer: a peer that has the content is asked all the same.

use std::time::Duration;

use libtest_mimic::Trial;

use super::Made;
use crate::{
    harness::{Layer, Serve, noise, trials, within},
    http::get,
    peers::hostile::{Hostile, honest},
};

/// More than are asked in one round.
const SILENT: usize = 100;
const WELL_BEFORE: Duration = Duration::from_secs(30);

pub fn trials() -> Vec<Trial> {
    trials![
        a_provider_is_asked_despite_a_hundred_silent_peers,
        a_foreign_provider_is_asked_despite_a_hundred_silent_peers,
        unknown_content_is_not_found_long_before_the_find_timeout_among_silent_peers,
    ]
}

/// Silent peers with ids smaller than that of `peer`.
async fn silent_before(peer: &str) -> Vec<Hostile> {
    futures::future::join_all((0..SILENT).map(|_| Hostile::silent_before(peer))).await
}

/// Starts a node and waits until it is connected to all of these.
async fn reader(settings: &[&str], addresses: impl IntoIterator<Item = &str>) -> Serve {
    let addresses: Vec<&str> = addresses.into_iter().collect();
    let peers: Vec<&str> = addresses.iter().flat_map(|address| ["--peer", *address]).collect();
    let reader = Serve::start(&[settings, &peers].concat());
    reader.until("all are connected", |status| status["peers"] == addresses.len()).await;
    reader
}

async fn a_provider_is_asked_despite_a_hundred_silent_peers() {
    let provider = Serve::start(&[]);
    let layers: Vec<Layer> = (1..=4).map(|n| Layer::add(&provider, &noise(3 << 20)[n..])).collect();
    let silent = silent_before(provider.peer()).await;
    let reader = reader(&[], silent.iter().map(Hostile::address).chain([provider.address()])).await;
    for layer in &layers {
        let answer = get(&reader.url(&layer.blob_path())).await;
        assert!(answer.status == 200 && answer.body == layer.bytes, "{}", answer.status);
    }
}

async fn a_foreign_provider_is_asked_despite_a_hundred_silent_peers() {
    let made: Vec<Made> = (1..=4).map(|n| Made::of(noise(3 << 20)[n..].to_vec())).collect();
    let blocks = made.iter().flat_map(|made| made.blocks.clone()).collect();
    let provider = Hostile::start(&[], Box::new(move |want| honest(&blocks, want))).await;
    let peer = provider.address().rsplit('/').next().expect("a peer id");
    let silent = silent_before(peer).await;
    let reader = reader(&[], silent.iter().chain([&provider]).map(Hostile::address)).await;
    for Made { layer, .. } in &made {
        let answer = get(&reader.url(&layer.blob_path())).await;
        assert!(answer.status == 200 && answer.body == layer.bytes, "{}", answer.status);
    }
}

async fn unknown_content_is_not_found_long_before_the_find_timeout_among_silent_peers() {
    let silent =
        futures::future::join_all((0..SILENT).map(|_| Hostile::start(&[], Box::new(|_| vec![])))).await;
    let reader = reader(&["--find-timeout", "60s"], silent.iter().map(Hostile::address)).await;
    let path = "/v2/layer/bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu/manifests/latest";
    let answer = within(WELL_BEFORE, get(&reader.url(path))).await;
    answer.refused(404, "MANIFEST_UNKNOWN", &["no provider found for"]);
}
