//! Two nodes: what one adds, the other serves.

use libtest_mimic::Trial;

use crate::harness::{Layer, Serve, noise, trials};

pub fn trials() -> Vec<Trial> {
    trials![a_cached_layer_is_served_after_its_provider_is_gone]
}

async fn a_cached_layer_is_served_after_its_provider_is_gone() {
    let source = Serve::start(&[]);
    let reader = Serve::start(&["--peer", source.address()]);
    let layer = Layer::add(&source, &noise(5 << 20));
    let url = reader.url(&layer.blob_path());
    let first = reqwest::get(&url).await.unwrap();
    assert_eq!(first.headers()["docker-content-digest"], layer.digest.as_str());
    assert!(first.bytes().await.unwrap() == layer.bytes);
    source.kill();
    let second = reqwest::get(&url).await.unwrap();
    assert!(second.bytes().await.unwrap() == layer.bytes);
    assert_eq!(reader.status()["cached_layers"], 1);
}
