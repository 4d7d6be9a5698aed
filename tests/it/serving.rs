//! Two nodes: what one adds, the other serves.

use std::time::Instant;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::{
    harness::{Layer, Serve, finish, noise, ocipfs, trials},
    http::get_found,
};

pub fn trials() -> Vec<Trial> {
    trials![
        a_cached_layer_is_served_after_its_provider_is_gone,
        uploads_to_peers_stay_below_their_maximum_rate,
        downloads_from_peers_stay_below_their_maximum_rate,
        a_rate_at_which_transfers_would_fail_is_refused,
    ]
}

async fn a_cached_layer_is_served_after_its_provider_is_gone() {
    let source = Serve::start(&[]);
    let reader = Serve::start(&["--peer", source.address()]);
    let layer = Layer::add(&source, &noise(5 << 20));
    let url = reader.url(&layer.blob_path());
    let first = get_found(&url).await;
    assert_eq!(first.header("docker-content-digest"), layer.digest);
    assert!(first.body == layer.bytes);
    source.kill();
    let second = reqwest::get(&url).await.unwrap();
    assert!(second.bytes().await.unwrap() == layer.bytes);
    assert_eq!(reader.status()["cached_layers"], 1);
}

const RATE: &str = "8MiB";
const RATE_BYTES: f64 = (8 << 20) as f64;

async fn uploads_to_peers_stay_below_their_maximum_rate() {
    let source = Serve::start(&["--max-upload-rate", RATE]);
    let readers = [(); 2].map(|()| Serve::start(&["--peer", source.address()]));
    // Counted when they are queued: the first message, and those in flight to two peers at the end, for which a reader
    // that got their blocks from another peer no longer waits.
    let unpaced = 11 << 20;
    let layer = Layer::add(&source, &noise(64 << 20));
    stays_below(&layer, unpaced, &readers, || source.status()["sent_bytes"].clone()).await;
}

async fn downloads_from_peers_stay_below_their_maximum_rate() {
    let source = Serve::start(&[]);
    let other = Serve::start(&["--peer", source.address()]);
    let both = ["--peer", source.address(), other.address(), "--max-download-rate", RATE];
    let readers = [Serve::start(&both)];
    let layer = Layer::add(&source, &noise(64 << 20));
    assert!(get_found(&other.url(&layer.blob_path())).await.body == layer.bytes);
    // The first message of each peer.
    let unpaced = 2 << 20;
    stays_below(&layer, unpaced, &readers, || readers[0].status()["received_bytes"].clone()).await;
}

/// Fetches a layer at all readers at once. A limit may make it slow, and must not make it fail.
async fn stays_below(layer: &Layer, unpaced: u64, readers: &[Serve], passed: impl Fn() -> Value) {
    let start = Instant::now();
    let pulls = readers.iter().map(|reader| async {
        assert!(get_found(&reader.url(&layer.blob_path())).await.body == layer.bytes);
    });
    futures::future::join_all(pulls).await;
    let bytes = passed().as_u64().unwrap();
    let rate = (bytes - unpaced) as f64 / start.elapsed().as_secs_f64();
    assert!(rate <= 1.1 * RATE_BYTES, "{:.1} MB/s", rate / 1e6);
}

async fn a_rate_at_which_transfers_would_fail_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for flag in ["--max-upload-rate", "--max-download-rate"] {
        let said = finish(ocipfs(dir.path()).args(["serve", flag, "100KB"]));
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.stderr.contains("the minimum is 256.0 KiB per second"), "{said:?}");
    }
}
