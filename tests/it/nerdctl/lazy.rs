//! eStargz layers are mounted with FUSE, and read when a container reads them.

use std::path::Path;

use libtest_mimic::Trial;
use ocipfs_oci::Digest;

use super::{FILE_BYTES, FILES, HELLO, daemon, daemon_beside, file, load, nerdctl, push, push_to};
use crate::{
    clients::Nerdctl,
    harness::{Serve, blocking, trials},
    ports::free_port,
};

pub fn trials() -> Vec<Trial> {
    trials![needs Nerdctl::available();
        stargz_mounts_an_image_in_ipfs_and_fetches_what_is_read,
        stargz_mounts_an_image_of_our_registry_and_fetches_what_is_read,
        stargz_mounts_an_image_that_ocipfs_converted,
        a_mounted_layer_is_read_again_after_the_node_has_restarted,
    ]
}

/// Of the image's bytes, at most this share is fetched to start a container that reads one small file.
const SHARE_PERCENT: u64 = 15;

/// Runs a command in the image, whose layers are mounted.
pub fn run_mounted(nerdctl: &Nerdctl, image: &str, command: &[&str]) -> String {
    let run = ["--snapshotter", "stargz", "run", "-q", "--rm", "--net", "none", image];
    nerdctl.run(&[&run[..], command].concat()).unwrap()
}

fn received(node: &Serve) -> u64 {
    node.status()["received_bytes"].as_u64().unwrap()
}

/// Starts a container at a node that has nothing, then reads one file, then all.
fn reads_lazily(nerdctl: &Nerdctl, node: &Serve, image: &str) {
    let whole = (FILES * FILE_BYTES) as u64;
    assert_eq!(run_mounted(nerdctl, image, &["/bin/cat", "/hello"]), HELLO);
    let mounts = nerdctl.beside(&["grep", "-c", "fuse", "/proc/mounts"]).unwrap();
    assert!(mounts.trim().parse::<usize>().unwrap() >= 2, "{mounts}");
    // The layer of busybox is read whole: it is one file of 2 MB.
    let started = received(node);
    assert!(started * 100 <= whole * SHARE_PERCENT, "{started} of {whole} bytes were fetched");
    let sum = |n: usize| {
        let said = run_mounted(nerdctl, image, &["/bin/sha256sum", &format!("/data/{n}")]);
        assert!(said.starts_with(&Digest::sha256_of(&file(n)).hex()), "{said}");
    };
    sum(3);
    let one = received(node);
    assert!(one > started && one < started + 2 * FILE_BYTES as u64, "{started}, then {one}");
    (0..FILES).for_each(sum);
    assert!(received(node) >= whole);
}

async fn stargz_mounts_an_image_in_ipfs_and_fetches_what_is_read() {
    let source = daemon(&[]);
    let node = daemon_beside(&source);
    blocking(move || {
        let pushing = nerdctl(&source);
        load(&pushing);
        let cid = push(&pushing, &["--estargz"], "trial:1");
        reads_lazily(&nerdctl(&node), &node, &format!("ipfs://{cid}"));
    })
    .await;
}

async fn stargz_mounts_an_image_of_our_registry_and_fetches_what_is_read() {
    let source = daemon(&[]);
    let node = daemon_beside(&source);
    blocking(move || {
        let pushing = nerdctl(&source);
        load(&pushing);
        let cid = push(&pushing, &["--estargz"], "trial:1");
        // Without an RPC it reads the layers with ranges from the registry.
        let pulling = Nerdctl::start(Path::new("/nonexistent"), node.registry()).unwrap();
        reads_lazily(&pulling, &node, &format!("{}/ipfs/{cid}", node.registry()));
    })
    .await;
}

async fn stargz_mounts_an_image_that_ocipfs_converted() {
    let source = daemon(&[]);
    let node = daemon_beside(&source);
    blocking(move || {
        let pushing = nerdctl(&source);
        load(&pushing);
        push_to(&pushing, &source, "team/app:1");
        let cid = source.ask(&["-q", "image", "push", "team/app:1", "--as", "ipfs", "--estargz"]);
        reads_lazily(&nerdctl(&node), &node, &format!("ipfs://{cid}"));
    })
    .await;
}

async fn a_mounted_layer_is_read_again_after_the_node_has_restarted() {
    let source = daemon(&[]);
    blocking(move || {
        let pushing = nerdctl(&source);
        load(&pushing);
        let image = format!("ipfs://{}", push(&pushing, &["--estargz"], "trial:1"));
        // The snapshotter asks where the RPC is when it mounts a layer, and not again.
        let port = free_port();
        let rpc = format!("127.0.0.1:{port}");
        let dir = tempfile::tempdir().unwrap();
        let arguments = ["--rpc-listen", &rpc, "--peer", source.address()];
        let node = Serve::start_in(dir.path(), &arguments);
        let pulling = nerdctl(&node);
        assert_eq!(run_mounted(&pulling, &image, &["/bin/cat", "/hello"]), HELLO);
        assert!(node.stop().success());
        let run = ["--snapshotter", "stargz", "run", "-q", "--rm", "--net", "none", &image];
        let unread = [&run[..], &["/bin/cat", "/data/5"]].concat();
        pulling.run(&unread).expect_err("the layer is not here, and nothing serves it");
        let _node = Serve::start_in(dir.path(), &arguments);
        let said = run_mounted(&pulling, &image, &["/bin/sha256sum", "/data/5"]);
        assert!(said.starts_with(&Digest::sha256_of(&file(5)).hex()), "{said}");
    })
    .await;
}
