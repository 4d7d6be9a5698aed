//! Many clients pull one cold blob through one node: it is fetched once, although clients come and go.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use libtest_mimic::Trial;
use reqwest::Response;

use crate::harness::{Layer, Serve, noise, trials, until};

const READERS: usize = 8;
const LEAF: u64 = 1 << 20;

pub fn trials() -> Vec<Trial> {
    trials![
        eight_concurrent_clients_of_a_blob_share_one_download,
        a_client_that_disconnects_does_not_stop_the_download_for_others,
        the_download_stops_when_its_only_client_disconnects_and_is_resumed_by_the_next,
    ]
}

/// A layer at one node, and another node that knows of it.
struct Pair {
    source: Serve,
    reader: Serve,
    layer: Layer,
}

impl Pair {
    async fn new(size: usize) -> Self {
        let source = Serve::start(&[]);
        let layer = Layer::add(&source, &noise(size));
        let reader = Serve::start(&["--peer", source.address()]);
        reader.until("the source is connected", |status| status["peers"] == 1).await;
        Self { source, reader, layer }
    }

    async fn begin(&self) -> Response {
        let response = reqwest::get(self.reader.url(&self.layer.blob_path())).await.expect("an answer");
        assert_eq!(response.status(), 200);
        response
    }

    async fn whole(&self, response: Response) {
        let bytes = response.bytes().await.expect("a good end");
        assert!(bytes == self.layer.bytes[..], "{} bytes", bytes.len());
    }

    fn received(&self) -> u64 {
        self.reader.status()["received_bytes"].as_u64().expect("a number")
    }

    /// Holds that each block of the layer was sent once.
    fn was_sent_once(&self) {
        let sent = self.source.status()["sent_bytes"].as_u64().expect("a number");
        // Those who come at the same moment may ask for the few bytes that lead to the layer each for itself.
        assert!(sent < self.layer.bytes.len() as u64 + LEAF, "{sent} bytes");
        assert_eq!(self.reader.status()["cached_layers"], 1);
    }
}

async fn eight_concurrent_clients_of_a_blob_share_one_download() {
    let pair = Pair::new(64 << 20).await;
    let responses = futures::future::join_all((0..READERS).map(|_| pair.begin())).await;
    futures::future::join_all(responses.into_iter().map(|response| pair.whole(response))).await;
    pair.was_sent_once();
}

async fn a_client_that_disconnects_does_not_stop_the_download_for_others() {
    let pair = Pair::new(64 << 20).await;
    let (mut first, others) = (pair.begin().await, futures::future::join_all([pair.begin(), pair.begin()]));
    let others = others.await;
    first.chunk().await.expect("bytes come").expect("the first bytes");
    drop(first);
    futures::future::join_all(others.into_iter().map(|response| pair.whole(response))).await;
    pair.was_sent_once();
}

async fn the_download_stops_when_its_only_client_disconnects_and_is_resumed_by_the_next() {
    let pair = Pair::new(256 << 20).await;
    let mut first = pair.begin().await;
    first.chunk().await.expect("bytes come").expect("the first bytes");
    drop(first);
    // Still for as long as two looks at it take.
    let before = AtomicU64::new(u64::MAX);
    until("nothing more comes", || {
        let received = pair.received();
        before.swap(received, Relaxed) == received
    })
    .await;
    assert!(before.into_inner() < pair.layer.bytes.len() as u64, "the fetch was stopped");
    assert_eq!(pair.reader.status()["cached_layers"], 0);
    pair.whole(pair.begin().await).await;
    let received = pair.received();
    // What was on its way when the first client left may come twice.
    assert!(received < pair.layer.bytes.len() as u64 + (40 << 20), "{received} bytes came in all");
    assert_eq!(pair.reader.status()["cached_layers"], 1);
}
