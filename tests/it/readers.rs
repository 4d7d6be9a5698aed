//! Many clients pull one cold blob through one node: it is fetched once, although clients come and go.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use libtest_mimic::Trial;
use reqwest::Response;

use crate::harness::{Layer, Serve, noise, trials, until};

const READERS: usize = 8;
/// Looks at a download that does not move, until it counts as stopped.
const STILL_LOOKS: u32 = 20;
/// What may come twice: what was on its way when a client left, or when a busy machine sent nothing for 3 s and was asked again.
const IN_FLIGHT: u64 = 40 << 20;

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
        Self::with(size, &[]).await
    }

    /// With further arguments of the node that fetches.
    async fn with(size: usize, arguments: &[&str]) -> Self {
        let source = Serve::start(&[]);
        let layer = Layer::add(&source, &noise(size));
        let reader = Serve::start(&[&["--peer", source.address()], arguments].concat());
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

    /// Waits until nothing has come for many looks: one alone may fall between two blocks. Returns the bytes that have come.
    async fn stopped(&self) -> u64 {
        let (last, same) = (AtomicU64::new(u64::MAX), AtomicU32::new(0));
        until("nothing more comes", || {
            let received = self.received();
            match last.swap(received, Relaxed) == received {
                true => same.fetch_add(1, Relaxed) + 1 >= STILL_LOOKS,
                false => {
                    same.store(0, Relaxed);
                    false
                }
            }
        })
        .await;
        last.into_inner()
    }

    /// Holds that the layer was sent once.
    fn was_sent_once(&self) {
        let sent = self.source.status()["sent_bytes"].as_u64().expect("a number");
        assert!(sent < self.layer.bytes.len() as u64 + IN_FLIGHT, "{sent} bytes");
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
    // Half of it, sent again, is more than may come twice.
    let pair = Pair::new(96 << 20).await;
    let (first, others) = (pair.begin().await, futures::future::join_all([pair.begin(), pair.begin()]));
    let others = others.await.into_iter().map(|response| pair.whole(response));
    let others = futures::future::join_all(others);
    tokio::join!(half(first, pair.layer.bytes.len()), others);
    pair.was_sent_once();
}

/// Reads half of an answer, and disconnects.
async fn half(mut response: Response, length: usize) {
    let mut received = 0;
    while received < length / 2 {
        received += response.chunk().await.expect("bytes come").expect("not the end").len();
    }
}

async fn the_download_stops_when_its_only_client_disconnects_and_is_resumed_by_the_next() {
    // Slow enough that most of it has not come when the client leaves.
    let pair = Pair::with(192 << 20, &["--max-download-rate", "16MiB"]).await;
    let mut first = pair.begin().await;
    first.chunk().await.expect("bytes come").expect("the first bytes");
    drop(first);
    let before = pair.stopped().await;
    assert!(before < pair.layer.bytes.len() as u64, "the fetch was stopped");
    assert_eq!(pair.reader.status()["cached_layers"], 0);
    pair.whole(pair.begin().await).await;
    let received = pair.received();
    assert!(received < pair.layer.bytes.len() as u64 + IN_FLIGHT, "{received} bytes came in all");
    assert_eq!(pair.reader.status()["cached_layers"], 1);
}
