//! Hundreds of honest peers that are connected and want nothing.

use std::time::Duration;

use libtest_mimic::Trial;

use crate::{
    harness::{Serve, trial_within, until, within},
    peers::light::Crowd,
};

const PEERS: usize = 600;
/// A debug build takes 110 MiB, 175 KiB a connection; the aim is 90 MiB.
const BOUND: u64 = 128 << 20;

/// For so many handshakes, both sides of which are on this machine, which may be busy.
const CONNECTED_WITHIN: Duration = Duration::from_secs(150);

pub fn trials() -> Vec<Trial> {
    let name = concat!(
        module_path!(),
        "::memory_of_six_hundred_peers_is_bounded_and_released_after_they_disconnect"
    );
    let story = memory_of_six_hundred_peers_is_bounded_and_released_after_they_disconnect;
    vec![trial_within(name, CONNECTED_WITHIN + Duration::from_secs(180), story)]
}

async fn connected(node: &Serve) {
    while node.status()["peers"] != PEERS {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn memory_of_six_hundred_peers_is_bounded_and_released_after_they_disconnect() {
    let alone = Serve::start(&[]);
    let crowd = Crowd::start(PEERS).await;
    let peers: Vec<&str> = crowd.addresses().flat_map(|address| ["--peer", address]).collect();
    let node = Serve::start(&peers);
    within(CONNECTED_WITHIN, connected(&node)).await;
    until("what the handshakes took is returned", || node.rss_anon() <= BOUND).await;
    let (idle, connected) = (alone.rss_anon(), node.rss_anon());
    println!("RssAnon: idle {} MiB, with {PEERS} peers {} MiB", idle >> 20, connected >> 20);
    drop(crowd);
    node.until("all are gone", |status| status["peers"] == 0).await;
    until("most of it is returned", || node.rss_anon() < idle + (connected - idle) / 2).await;
    println!("RssAnon: {} MiB once they left", node.rss_anon() >> 20);
}
