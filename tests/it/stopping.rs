//! How `serve` stops: what is being sent is finished, and a second signal does not wait.

use std::{fs, io::Read, path::Path};

use libtest_mimic::Trial;

use crate::{
    harness::{Layer, Serve, noise, trials, until},
    http::begin,
};

/// More than the sockets between a registry and a client that does not read can hold.
const LONG: usize = 48 << 20;
/// What a node says when it ends transfers, 4 s after the signal.
const BROKEN_OFF: &str = "broken off";
/// Runs until one is over before that: a busy machine may take longer, but not each time.
const RUNS: usize = 4;

pub fn trials() -> Vec<Trial> {
    trials![
        shutdown_of_an_idle_node_removes_the_control_socket,
        graceful_shutdown_finishes_transfers,
        graceful_shutdown_aborts_a_stalled_transfer_after_a_timeout,
        a_second_signal_stops_the_node_immediately,
    ]
}

async fn is_stopping(node: &Serve) {
    until("the node is stopping", || node.log().contains("stopping")).await;
}

fn log_in(dir: &Path) -> String {
    fs::read_to_string(dir.join("serve.log")).unwrap()
}

/// Holds that a node, whose log each run returns, stops without ending a transfer.
async fn breaks_off_nothing<F: Future<Output = String>>(what: &str, run: impl Fn() -> F) {
    let mut log = String::new();
    for _ in 0..RUNS {
        log = run().await;
        if !log.contains(BROKEN_OFF) {
            return;
        }
    }
    panic!("{what}: {log}");
}

async fn shutdown_of_an_idle_node_removes_the_control_socket() {
    for signal in ["TERM", "INT"] {
        let what = format!("{signal}: it did not wait for the connection to drain");
        breaks_off_nothing(&what, || stopped_while_idle(signal)).await;
    }
}

async fn stopped_while_idle(signal: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let node = Serve::start_in(dir.path(), &[]);
    // A connection that is kept alive is not a transfer.
    let client = reqwest::Client::new();
    client.get(node.url("/v2/")).send().await.unwrap().bytes().await.unwrap();
    node.signal(signal);
    assert!(node.ended().success());
    assert!(!dir.path().join("control.sock").exists());
    log_in(dir.path())
}

async fn graceful_shutdown_finishes_transfers() {
    breaks_off_nothing("the transfer was not finished", stopped_while_sending).await;
}

async fn stopped_while_sending() -> String {
    let dir = tempfile::tempdir().unwrap();
    let node = Serve::start_in(dir.path(), &[]);
    let layer = Layer::add(&node, &noise(LONG));
    let mut stream = begin(node.registry(), &layer.blob_path());
    node.signal("TERM");
    is_stopping(&node).await;
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    assert!(node.ended().success());
    let log = log_in(dir.path());
    let is_whole = read.is_ok() && rest.ends_with(&layer.bytes);
    assert!(is_whole || log.contains(BROKEN_OFF), "{} bytes came, {read:?}: {log}", rest.len());
    log
}

async fn graceful_shutdown_aborts_a_stalled_transfer_after_a_timeout() {
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(LONG));
    let mut stream = begin(node.registry(), &layer.blob_path());
    node.signal("TERM");
    is_stopping(&node).await;
    until("it says what it gave up", || node.log().contains(BROKEN_OFF)).await;
    assert!(node.ended().success());
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < layer.bytes.len(), "nothing was to be finished");
}

async fn a_second_signal_stops_the_node_immediately() {
    // In the time that transfers have, and in that before it in which new requests are still served.
    for (first, second, delay) in [("TERM", "TERM", "0s"), ("INT", "TERM", "60s")] {
        let what = format!("{first}, {second}, {delay}: it did not wait for the transfer");
        breaks_off_nothing(&what, || stopped_by_two(first, second, delay)).await;
    }
}

async fn stopped_by_two(first: &str, second: &str, delay: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let node = Serve::start_in(dir.path(), &["--drain-delay", delay]);
    let layer = Layer::add(&node, &noise(LONG));
    let _stream = begin(node.registry(), &layer.blob_path());
    node.signal(first);
    is_stopping(&node).await;
    node.signal(second);
    let _ = node.ended();
    log_in(dir.path())
}
