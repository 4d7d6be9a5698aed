use std::time::Duration;

use libtest_mimic::Trial;

use super::silent::{self, Provider};
use crate::{
    harness::{Layer, Serve, noise, trials, within},
    http::{ask, ask_found, get},
};

/// The layer manifest of the original ocipfs's example, which no node here has.
const NOBODY_HAS: &str = "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu";
/// Before `--find-timeout 60s` has passed.
const WITHOUT_WAITING: Duration = Duration::from_secs(50);
/// After a timeout of a few seconds has passed, on a busy machine.
const IN_TIME: Duration = Duration::from_secs(60);

pub fn trials() -> Vec<Trial> {
    trials![
        an_unknown_cid_is_404_immediately_without_peers,
        a_cid_that_no_connected_peer_has_is_404_before_the_find_timeout,
        an_unresponsive_provider_times_out_with_504,
        a_paused_provider_times_out_and_is_used_once_it_resumes,
        a_peer_that_reconnects_is_fetched_from_and_served_again,
        a_pull_is_aborted_when_its_provider_dies_and_completes_after_its_return,
    ]
}

fn paths() -> [(String, &'static str); 3] {
    let zeros = "0".repeat(64);
    [
        (format!("/v2/layer/{NOBODY_HAS}/manifests/latest"), "MANIFEST_UNKNOWN"),
        (format!("/v2/layer/{NOBODY_HAS}/tags/list"), "MANIFEST_UNKNOWN"),
        (format!("/v2/layer/{NOBODY_HAS}/blobs/sha256:{zeros}"), "BLOB_UNKNOWN"),
    ]
}

async fn an_unknown_cid_is_404_immediately_without_peers() {
    let node = Serve::start(&["--find-timeout", "60s"]);
    for (path, code) in paths() {
        let answer = within(WITHOUT_WAITING, get(&node.url(&path))).await;
        answer.refused(404, code, &["no provider found for", NOBODY_HAS, "asked 0 peers"]);
        assert_eq!(within(WITHOUT_WAITING, ask("HEAD", &node.url(&path), &[])).await.status, 404);
    }
    node.command(&["layer", "inspect", NOBODY_HAS]).failed(1, &["no provider found for", "hint: ", "--peer"]);
    node.command(&["layer", "add", &format!("ipfs://{NOBODY_HAS}/foo")])
        .failed(1, &["no provider found for", "hint: "]);
}

async fn a_cid_that_no_connected_peer_has_is_404_before_the_find_timeout() {
    let other = Serve::start(&[]);
    let node = Serve::start(&["--find-timeout", "60s", "--peer", other.address()]);
    node.until("the peer is connected", |status| status["peers"] == 1).await;
    for (path, code) in paths() {
        let answer = within(WITHOUT_WAITING, get(&node.url(&path))).await;
        answer.refused(404, code, &["no provider found for", NOBODY_HAS, "asked 1 peer for"]);
    }
    // A 404 would say that the registry has no such endpoint.
    let referrers = format!("/v2/ipfs/{NOBODY_HAS}/referrers/sha256:{}", "0".repeat(64));
    let answer = within(WITHOUT_WAITING, get(&node.url(&referrers))).await;
    answer.refused(504, "UNAVAILABLE", &["no provider found for", NOBODY_HAS]);
}

async fn an_unresponsive_provider_times_out_with_504() {
    let cid = NOBODY_HAS.parse().unwrap();
    for provider in [Provider::Itself, Provider::Gone] {
        let address = silent::start(&cid, provider).await.to_string();
        let node = Serve::start(&["--find-timeout", "3s", "--peer", &address]);
        node.until("the peer is connected", |status| status["peers"] == 1).await;
        for (path, _) in paths() {
            let answer = within(IN_TIME, get(&node.url(&path))).await;
            answer.refused(504, "PEER_TIMEOUT", &["1 providers of", NOBODY_HAS, "within "]);
        }
        let said = node.command(&["layer", "inspect", NOBODY_HAS]);
        said.failed(1, &["none sent it", "hint: ", "--find-timeout"]);
    }
}

async fn a_paused_provider_times_out_and_is_used_once_it_resumes() {
    let hub = Serve::start(&[]);
    let source = Serve::start(&["--peer", hub.address()]);
    let layer = Layer::add(&source, &noise(1 << 20));
    source.until("the layer is announced", |s| s["announcing"] == 0 && s["announced"] != 0).await;
    // An announcement is not acknowledged. A record is, and everything sent before it has left by then.
    source.ask(&["name", "publish", "--key", "flushed", layer.cid()]);
    source.signal("STOP");
    let reader = Serve::start(&["--find-timeout", "5s", "--peer", hub.address()]);
    reader.until("the hub is connected", |status| status["peers"] == 1).await;
    // A search before the hub has said what it speaks ends with nothing.
    let found = async {
        loop {
            let answer = within(IN_TIME, get(&reader.url(&layer.manifest_path()))).await;
            if answer.status != 404 {
                break answer;
            }
        }
    };
    within(2 * IN_TIME, found).await.refused(504, "PEER_TIMEOUT", &[layer.cid()]);
    source.signal("CONT");
    let said = reader.command(&["swarm", "connect", source.address()]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(get(&reader.url(&layer.blob_path())).await.body == layer.bytes);
}

async fn a_peer_that_reconnects_is_fetched_from_and_served_again() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut source = Serve::start_in(one.path(), &[]);
    let layer = Layer::add(&source, &noise(3 << 20));
    let mut reader = Serve::start_in(two.path(), &["--peer", source.address()]);
    // Whoever comes back, the other has seen it go; what is fetched is new each time.
    for (restarted, range) in
        [("nobody", 0..9), ("reader", 1 << 20..9 + (1 << 20)), ("source", 2 << 20..9 + (2 << 20))]
    {
        match restarted {
            "source" => {
                source.kill();
                reader.until("the source is gone", |status| status["peers"] == 0).await;
                source = Serve::start_in(one.path(), &[]);
                assert_eq!(reader.command(&["swarm", "connect", source.address()]).code, Some(0));
            }
            "reader" => {
                reader.kill();
                source.until("the reader is gone", |status| status["peers"] == 0).await;
                reader = Serve::start_in(two.path(), &["--stall-timeout", "5s", "--peer", source.address()]);
            }
            _ => {}
        }
        let header = format!("bytes={}-{}", range.start, range.end - 1);
        let answer = ask_found("GET", &reader.url(&layer.blob_path()), &[("range", &header)]).await;
        assert!(answer.status == 206 && answer.body == layer.bytes[range], "{restarted} came back");
    }
}

async fn a_pull_is_aborted_when_its_provider_dies_and_completes_after_its_return() {
    let dir = tempfile::tempdir().unwrap();
    let source = Serve::start_in(dir.path(), &[]);
    // More than a reader whose client reads nothing fetches ahead, with all that sockets may hold.
    let layer = Layer::add(&source, &noise(96 << 20));
    let reader = Serve::start(&["--stall-timeout", "2s", "--peer", source.address()]);
    let mut response = reqwest::get(reader.url(&layer.blob_path())).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut got = response.chunk().await.unwrap().expect("the first bytes").len();
    source.kill();
    let broken_off = loop {
        match response.chunk().await {
            Ok(Some(bytes)) => got += bytes.len(),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(broken_off && got < layer.bytes.len(), "{got} of {} bytes came", layer.bytes.len());
    assert!(reader.log().contains("received for 2.0 s"), "the reason is logged");
    assert_eq!(reader.status()["cached_layers"], 0);

    let source = Serve::start_in(dir.path(), &[]);
    assert_eq!(reader.command(&["swarm", "connect", source.address()]).code, Some(0));
    let again = get(&reader.url(&layer.blob_path())).await;
    assert!(again.status == 200 && again.body == layer.bytes);
    assert_eq!(reader.status()["cached_layers"], 1);
}
