//! Partial blobs: a node serves the parts that it has to peers, even if the source is gone.

use std::{ops::Range, sync::Arc, time::Duration};

use libtest_mimic::Trial;
use tempfile::TempDir;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    following::{name_of, published, push},
    harness::{Layer, Serve, noise, trials},
    http::{Answer, ask},
    names::image::Image,
};

const MIB: usize = 1 << 20;

pub fn trials() -> Vec<Trial> {
    trials![
        ranges_of_a_partial_blob_are_served_after_the_provider_is_gone,
        a_partial_blob_is_served_to_peers_during_its_download,
        another_provider_is_searched_during_an_outage_while_clients_connect_and_disconnect,
        another_provider_is_found_despite_a_short_stall_timeout,
        a_slow_range_request_does_not_block_other_blobs_of_the_same_peer,
        prefetch_skips_a_blob_that_does_not_fit_into_the_cache,
    ]
}

async fn range(node: &Serve, layer: &Layer, range: &Range<usize>) -> Answer {
    let header = format!("bytes={}-{}", range.start, range.end - 1);
    ask("GET", &node.url(&layer.blob_path()), &[("range", &header)]).await
}

#[track_caller]
fn is_part(answer: &Answer, layer: &Layer, range: &Range<usize>) {
    assert_eq!(answer.status, 206, "{range:?}: {}", String::from_utf8_lossy(&answer.body));
    assert!(answer.body == layer.bytes[range.clone()], "{range:?}");
}

async fn ranges_of_a_partial_blob_are_served_after_the_provider_is_gone() {
    let source = Serve::start(&[]);
    let layer = Layer::add(&source, &noise(32 * MIB));
    let middle = Serve::start(&["--peer", source.address()]);
    let parts = [4 * MIB..6 * MIB, 20 * MIB + 5..20 * MIB + 70_000];
    for part in &parts {
        is_part(&range(&middle, &layer, part).await, &layer, part);
    }
    source.kill();
    let last = Serve::start(&["--stall-timeout", "3s", "--peer", middle.address()]);
    for part in &parts {
        is_part(&range(&last, &layer, part).await, &layer, part);
    }
    let missing = 10 * MIB..10 * MIB + 9;
    range(&last, &layer, &missing).await.refused(504, "PEER_TIMEOUT", &["no bytes received for 3.0 s"]);
    assert_eq!((middle.status()["cached_layers"].as_u64(), middle.stored("partial")), (Some(0), 1));
}

async fn a_partial_blob_is_served_to_peers_during_its_download() {
    let source = Serve::start(&[]);
    let layer = Layer::add(&source, &noise(256 * MIB));
    let middle = Serve::start(&["--stall-timeout", "60s", "--peer", source.address()]);
    let mut pull = reqwest::get(middle.url(&layer.blob_path())).await.expect("an answer");
    let mut here = pull.chunk().await.expect("bytes come").expect("the first bytes").len();
    source.signal("STOP");
    let last = Serve::start(&["--stall-timeout", "20s", "--peer", middle.address()]);
    let part = 5..MIB - 5;
    is_part(&range(&last, &layer, &part).await, &layer, &part);
    assert_eq!(middle.status()["cached_layers"], 0, "it is still arriving");
    source.signal("CONT");
    while let Some(bytes) = pull.chunk().await.expect("bytes come") {
        assert!(bytes == layer.bytes[here..here + bytes.len()]);
        here += bytes.len();
    }
    assert_eq!(here, layer.bytes.len());
}

/// A node whose one connected provider dies in the middle of a blob, while another is known to a router only.
struct Outage {
    middle: Serve,
    layer: Layer,
    _router: Serve,
    _second: Serve,
    _dir: TempDir,
}

impl Outage {
    async fn begin(stall_timeout: &str) -> Self {
        let router = Serve::start(&[]);
        let first = Serve::start(&[]);
        let bytes = noise(64 * MIB);
        let layer = Layer::add(&first, &bytes);
        let dir = tempfile::tempdir().expect("a directory");
        // Without an address of its own no provider dials it.
        std::fs::write(dir.path().join("config.toml"), "swarm-listen = []\n").expect("a settings file");
        let arguments =
            ["--bootstrap", router.address(), "--peer", first.address(), "--stall-timeout", stall_timeout];
        let middle = Serve::start_in(dir.path(), &arguments);
        for part in [0..MIB, 8 * MIB..9 * MIB] {
            is_part(&range(&middle, &layer, &part).await, &layer, &part);
        }
        first.kill();
        let second = Serve::start(&["--bootstrap", router.address()]);
        assert_eq!(Layer::add(&second, &bytes).name, layer.name);
        second.until("it is announced", |status| status["announced"] == 4).await;
        Self { middle, layer, _router: router, _second: second, _dir: dir }
    }

    /// Reads the whole blob until it has come, and gives up and tries again when nothing comes for a while.
    fn client(&self, patience: Duration) -> impl Future<Output = ()> + Send + 'static {
        let (url, bytes) = (self.middle.url(&self.layer.blob_path()), Arc::new(self.layer.bytes.clone()));
        async move {
            loop {
                let Ok(Ok(mut answer)) = timeout(patience, reqwest::get(&url)).await else { continue };
                let mut here = 0;
                while let Ok(Ok(Some(chunk))) = timeout(patience, answer.chunk()).await {
                    assert!(chunk == bytes[here..here + chunk.len()]);
                    here += chunk.len();
                }
                if here == bytes.len() {
                    return;
                }
                tokio::time::sleep(patience / 10).await;
            }
        }
    }
}

async fn another_provider_is_searched_during_an_outage_while_clients_connect_and_disconnect() {
    let outage = Outage::begin("30s").await;
    let mut clients = JoinSet::new();
    for n in 0..12 {
        clients.spawn(outage.client(Duration::from_millis(2000 + 150 * n)));
    }
    let first = timeout(Duration::from_secs(60), clients.join_next()).await;
    first
        .expect("the blob goes on from the second provider")
        .expect("a client")
        .expect("it reads right bytes");
}

async fn another_provider_is_found_despite_a_short_stall_timeout() {
    let outage = Outage::begin("2s").await;
    let patience = Duration::from_secs(10);
    timeout(Duration::from_secs(60), outage.client(patience)).await.expect("the second provider is found");
}

async fn a_slow_range_request_does_not_block_other_blobs_of_the_same_peer() {
    let source = Serve::start(&[]);
    let [layer, other] = [64 * MIB, 65 * MIB].map(|length| Layer::add(&source, &noise(length)));
    let middle = Serve::start(&["--peer", source.address()]);
    // It has its answer and does not read it.
    let client = reqwest::Client::new();
    let url = middle.url(&layer.blob_path());
    let header = format!("bytes=0-{}", 8 * MIB - 1);
    let slow = client.get(&url).header("range", header).send().await.expect("an answer");
    for _ in 0..20 {
        let mut pull = reqwest::get(&url).await.expect("an answer");
        pull.chunk().await.expect("bytes come");
        drop(pull);
    }
    let all = timeout(Duration::from_secs(60), reqwest::get(middle.url(&other.blob_path()))).await;
    let all = all.expect("the connection is read").expect("an answer").bytes().await.expect("bytes come");
    assert!(all == other.bytes);
    drop(slow);
}

async fn prefetch_skips_a_blob_that_does_not_fit_into_the_cache() {
    let publisher = Serve::start(&[]);
    let [large, small] = [("large", 40 * MIB), ("small", MIB)].map(|(note, size)| Image::of(note, size));
    push(&publisher, "a-large", "1", &large).await;
    push(&publisher, "b-small", "1", &small).await;
    published(&publisher).await;
    let name = name_of(&publisher);
    let limits = ["--prefetch", "all", "--cache-size", "16MiB", "--stall-timeout", "60s"];
    let following = ["--peer", publisher.address(), "--follow", &name];
    let follower = Serve::start(&[limits.as_slice(), &following].concat());
    // Behind the large one, whose fetch would not end before the stall time-out.
    follower.until("the small image is here", |_| follower.stored("bytes") >= MIB as u64).await;
    let sent = publisher.status()["sent_bytes"].as_u64().expect("a number");
    assert!(sent < 16 * MIB as u64, "{sent} bytes were sent");
}
