//! How `serve` stops: what is being sent is finished, and a second signal does not wait.

use std::{fs, io::Read};

use libtest_mimic::Trial;

use crate::{
    harness::{Layer, Serve, noise, trials, until},
    http::begin,
};

/// More than the sockets between a registry and a client that does not read can hold.
const LONG: usize = 48 << 20;

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

async fn shutdown_of_an_idle_node_removes_the_control_socket() {
    for signal in ["TERM", "INT"] {
        let dir = tempfile::tempdir().unwrap();
        let node = Serve::start_in(dir.path(), &[]);
        // A connection that is kept alive is not a transfer.
        let client = reqwest::Client::new();
        client.get(node.url("/v2/")).send().await.unwrap().bytes().await.unwrap();
        node.signal(signal);
        assert!(node.ended().success());
        let log = fs::read_to_string(dir.path().join("serve.log")).unwrap();
        assert!(!log.contains("broken off"), "{signal}: it did not wait for the connection to drain: {log}");
        assert!(!dir.path().join("control.sock").exists());
    }
}

async fn graceful_shutdown_finishes_transfers() {
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(LONG));
    let mut stream = begin(node.registry(), &layer.blob_path());
    node.signal("TERM");
    is_stopping(&node).await;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the rest");
    assert!(rest.ends_with(&layer.bytes), "{} bytes came", rest.len());
    assert!(node.ended().success());
}

async fn graceful_shutdown_aborts_a_stalled_transfer_after_a_timeout() {
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(LONG));
    let mut stream = begin(node.registry(), &layer.blob_path());
    node.signal("TERM");
    is_stopping(&node).await;
    until("it says what it gave up", || node.log().contains("broken off")).await;
    assert!(node.ended().success());
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < layer.bytes.len(), "nothing was to be finished");
}

async fn a_second_signal_stops_the_node_immediately() {
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM")] {
        let dir = tempfile::tempdir().unwrap();
        let node = Serve::start_in(dir.path(), &[]);
        let layer = Layer::add(&node, &noise(LONG));
        let _stream = begin(node.registry(), &layer.blob_path());
        node.signal(first);
        is_stopping(&node).await;
        node.signal(second);
        let _ = node.ended();
        let log = fs::read_to_string(dir.path().join("serve.log")).unwrap();
        assert!(!log.contains("broken off"), "{first}, {second}: it did not wait for the transfer: {log}");
    }
}
