//! What of a blob is here is served to peers, though the blob is not whole and its source is gone.

use std::ops::Range;

use libtest_mimic::Trial;

use crate::{
    harness::{Layer, Serve, noise, trials},
    http::{Answer, ask},
};

const MIB: usize = 1 << 20;

pub fn trials() -> Vec<Trial> {
    trials![
        parts_that_were_fetched_are_served_when_their_source_is_gone,
        a_blob_is_served_as_far_as_it_has_come_while_it_arrives,
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

async fn parts_that_were_fetched_are_served_when_their_source_is_gone() {
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
    range(&last, &layer, &missing).await.refused(504, "PEER_TIMEOUT", &["came for 3.0 s"]);
    assert_eq!((middle.status()["cached_layers"].as_u64(), middle.stored("arriving")), (Some(0), 1));
}

async fn a_blob_is_served_as_far_as_it_has_come_while_it_arrives() {
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
