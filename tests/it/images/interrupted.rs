//! Commands that end before their work does: the node that does it for them ends it, too.

use std::{
    fs,
    io::Write,
    process::{Child, Command, Stdio},
};

use libtest_mimic::Trial;

use super::{attached::text, check_layout, random};
use crate::harness::{Layer, Serve, files_below, noise, ocipfs, tar_of, trials, until};

pub fn trials() -> Vec<Trial> {
    trials![
        a_killed_layer_add_leaves_no_files,
        a_killed_export_ends_in_the_node,
        an_interrupted_export_leaves_no_files,
    ]
}

/// Starts a command with a pipe as its input.
fn piped(node: &Serve, arguments: &[&str]) -> Child {
    ocipfs(node.data_dir()).args(arguments).stdin(Stdio::piped()).spawn().expect("the program starts")
}

async fn a_killed_layer_add_leaves_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let node = Serve::start(&[]);
    let before = node.stored("blocks");
    let first = tar_of(dir.path(), "first.tar", &random(3 << 20));
    let bytes = fs::read(tar_of(dir.path(), "foo.tar", &random(24 << 20))).unwrap();
    let mut child = piped(&node, &["layer", "add", text(&first), "-"]);
    child.stdin.as_mut().unwrap().write_all(&bytes[..20 << 20]).unwrap();
    until("drafts are begun", || files_below(node.data_dir(), "incoming") > 0).await;
    child.kill().unwrap();
    child.wait().unwrap();
    until("the drafts are gone", || files_below(node.data_dir(), "incoming") == 0).await;
    assert_eq!((node.stored("blobs"), node.stored("blocks")), (0, before));
    // A layer that peers would have to send is no longer waited for either.
    let cid = "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu";
    let peer = Serve::start(&[]);
    let silent = Serve::start(&["--peer", peer.address(), "--find-timeout", "1h"]);
    silent.until("the peer is connected", |status| status["peers"] == 1).await;
    let mut child = piped(&silent, &["layer", "add", &format!("ipfs://{cid}/foo.tar")]);
    until("it is asked for", || is_connected(&silent)).await;
    child.kill().unwrap();
    child.wait().unwrap();
    stops_at_once(silent);
}

/// Whether a command is connected to the control socket.
fn is_connected(node: &Serve) -> bool {
    let sockets = fs::read_to_string("/proc/net/unix").expect("/proc");
    // Where it was bound before it was moved to its place. One line is the listener's.
    let path = node.data_dir().join(".s/s");
    sockets.lines().filter(|line| line.ends_with(text(&path))).count() > 1
}

/// Stops a node in which no command is being answered.
fn stops_at_once(node: Serve) {
    // The directory goes with the node.
    let (kept, log) = (tempfile::tempdir().unwrap(), node.data_dir().join("serve.log"));
    let log = (log, kept.path().join("log"));
    fs::hard_link(&log.0, &log.1).unwrap();
    assert!(node.stop().success());
    let log = fs::read_to_string(&log.1).unwrap();
    assert!(!log.contains("broken off"), "it waited for a command: {log}");
}

async fn an_interrupted_export_leaves_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let source = Serve::start(&[]);
    let node = Serve::start(&["--peer", source.address(), "--stall-timeout", "1h"]);
    let layer = Layer::add(&source, &random(3 << 20));
    node.ask(&["image", "inspect", &layer.name]);
    // The documents are written, and the layer does not come.
    source.signal("STOP");
    for (signal, name) in [("INT", "layout"), ("TERM", "image.tar")] {
        let dest = dir.path().join(name);
        let mut child = piped(&node, &["image", "export", &layer.name, text(&dest)]);
        until("it is begun", || dest.exists()).await;
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(1), "{signal}");
        assert!(!dest.exists(), "{name} is left");
    }
    // Neither waits in the node for the layer.
    until("no command is connected", || !is_connected(&node)).await;
    stops_at_once(node);
}

async fn a_killed_export_ends_in_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(48 << 20));
    let dest = dir.path().join("layout");
    let mut child = piped(&node, &["image", "export", &layer.reference(&node), text(&dest)]);
    // A command that does not write holds the node up, and only itself.
    until("it is written", || dest.exists()).await;
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "STOP", &pid]).status().unwrap().success());
    assert_eq!(node.status()["layers"], 1);
    child.kill().unwrap();
    child.wait().unwrap();
    let again = dir.path().join("again");
    node.ask(&["image", "export", &layer.reference(&node), text(&again)]);
    check_layout(&again, &layer);
    stops_at_once(node);
}
