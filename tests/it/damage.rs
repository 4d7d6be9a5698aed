//! Blobs whose files are damaged or gone: never served as if they were right, and healed by a push or a pull.

use std::{fs, os::unix::fs::FileExt, path::PathBuf};

use libtest_mimic::Trial;
use ocipfs_oci::Digest;

use crate::{
    harness::{Layer, Serve, noise, tar_of, trials},
    http::{Answer, ask, get},
    push::Repository,
};

const MIB: usize = 1 << 20;

pub fn trials() -> Vec<Trial> {
    trials![
        a_missing_blob_file_is_404_for_head_and_not_mounted_until_it_is_pushed_again,
        a_push_repairs_a_damaged_blob_before_it_is_detected,
        a_blob_that_verify_finds_damaged_is_not_served_until_it_is_pushed_again,
        a_pull_repairs_a_damaged_blob_from_a_peer,
        a_damaged_block_is_not_copied_to_another_blob,
        a_corrupt_blob_is_detected_on_read_and_aborts_the_download,
        a_damaged_blob_without_peers_is_refused_at_once_and_repaired_once_a_peer_has_it,
    ]
}

fn blob_path(node: &Serve, digest: &str) -> PathBuf {
    let hex = digest.trim_start_matches("sha256:");
    node.data_dir().join("blobs").join(&hex[..2]).join(hex)
}

fn flip(node: &Serve, digest: &str, at: u64) {
    let file = fs::File::options().read(true).write(true).open(blob_path(node, digest)).expect("the blob");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[!byte[0]], at).expect("a byte");
}

fn serve_without_peers(dir: &std::path::Path) -> Serve {
    Serve::start_in(dir, &["--find-timeout", "1s", "--stall-timeout", "1s"])
}

/// Whether a `GET` did not end well.
async fn fails(url: &str) -> bool {
    match reqwest::get(url).await {
        Ok(response) => response.status() != 200 || response.bytes().await.is_err(),
        Err(_) => true,
    }
}

async fn head(repository: &Repository, digest: &str) -> u16 {
    ask("HEAD", &repository.url(&format!("blobs/{digest}")), &[]).await.status
}

async fn mount(repository: &Repository, digest: &str) -> Answer {
    ask("POST", &repository.url(&format!("blobs/uploads/?mount={digest}&from=a")), &[]).await
}

async fn a_missing_blob_file_is_404_for_head_and_not_mounted_until_it_is_pushed_again() {
    let dir = tempfile::tempdir().unwrap();
    let node = serve_without_peers(dir.path());
    let (a, b) = (Repository::new(&node, "a"), Repository::new(&node, "b"));
    for size in [100_000, 3 * MIB] {
        let bytes = noise(size);
        let digest = a.push(&bytes).await;
        fs::remove_file(blob_path(&node, &digest)).unwrap();
        assert_eq!(head(&a, &digest).await, 404);
        assert_eq!(mount(&b, &digest).await.status, 202);
        for _ in 0..2 {
            assert!(fails(&a.url(&format!("blobs/{digest}"))).await);
        }
        a.push(&bytes).await;
        a.has(&bytes).await;
        assert_eq!((head(&a, &digest).await, mount(&b, &digest).await.status), (200, 201));
        b.has(&bytes).await;
    }
    let node = {
        assert_eq!(node.command(&["store", "verify"]).code, Some(0));
        node.kill();
        serve_without_peers(dir.path())
    };
    Repository::new(&node, "b").has(&noise(3 * MIB)).await;
}

async fn a_push_repairs_a_damaged_blob_before_it_is_detected() {
    let node = Serve::start(&["--find-timeout", "1s", "--stall-timeout", "1s"]);
    let a = Repository::new(&node, "a");
    let bytes = noise(3 * MIB);
    let digest = a.push(&bytes).await;
    flip(&node, &digest, MIB as u64 + 5);
    Repository::new(&node, "b").push(&bytes).await;
    a.has(&bytes).await;
    assert_eq!(node.command(&["store", "verify"]).code, Some(0));
}

async fn a_blob_that_verify_finds_damaged_is_not_served_until_it_is_pushed_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = serve_without_peers(dir.path());
    let (bytes, digest) = (noise(3 * MIB), Digest::sha256_of(&noise(3 * MIB)).to_string());
    Repository::new(&node, "a").push(&bytes).await;
    flip(&node, &digest, 5);
    for _ in 0..2 {
        let said = node.command(&["store", "verify"]);
        said.failed(1, &["1 blobs or blocks are damaged", "push or add them again", "--repair"]);
        assert!(said.stdout.contains(&digest), "{said:?}");
        assert_eq!(node.stored("damaged"), 1);
        let a = Repository::new(&node, "a");
        assert_eq!(head(&a, &digest).await, 404);
        assert!(fails(&a.url(&format!("blobs/{digest}"))).await);
        node.kill();
        node = serve_without_peers(dir.path());
    }
    let a = Repository::new(&node, "a");
    a.push(&bytes).await;
    a.has(&bytes).await;
    assert_eq!((node.command(&["store", "verify"]).code, node.stored("damaged")), (Some(0), 0));
    assert_eq!(node.stored("partial"), 0, "nothing is left of the damaged blob");
}

async fn a_pull_repairs_a_damaged_blob_from_a_peer() {
    let source = Serve::start(&[]);
    let layer = Layer::add(&source, &noise(5 * MIB));
    let node = Serve::start(&["--peer", source.address()]);
    assert!(get(&node.url(&layer.blob_path())).await.body == layer.bytes);
    flip(&node, &layer.digest, 3 * MIB as u64);
    assert_eq!(node.command(&["store", "verify"]).code, Some(1));
    let before = node.status()["received_bytes"].as_u64().unwrap();
    assert!(get(&node.url(&layer.blob_path())).await.body == layer.bytes);
    let came = node.status()["received_bytes"].as_u64().unwrap() - before;
    assert!(came < 2 * MIB as u64, "{came} bytes came, where a window was missing");
    fs::remove_file(blob_path(&node, &layer.digest)).unwrap();
    assert_eq!(node.command(&["store", "verify"]).code, Some(1));
    assert!(get(&node.url(&layer.blob_path())).await.body == layer.bytes);
    assert_eq!(node.command(&["store", "verify"]).code, Some(0));
    source.kill();
    assert!(get(&node.url(&layer.blob_path())).await.body == layer.bytes);
}

/// Adds a blob of these bytes, as they are.
fn add(node: &Serve, name: &str, bytes: &[u8]) -> Layer {
    let path = tar_of(node.data_dir(), name, bytes);
    let reference = node.ask(&["-q", "layer", "add", path.to_str().expect("UTF-8")]);
    let stored = fs::read(path).expect("the tar");
    let (_, name) = reference.split_once('/').expect("a registry");
    let (name, tag) = name.rsplit_once(':').expect("a tag");
    Layer {
        name: name.into(),
        tag: tag.into(),
        digest: Digest::sha256_of(&stored).to_string(),
        bytes: stored,
    }
}

async fn a_damaged_block_is_not_copied_to_another_blob() {
    let source = Serve::start(&[]);
    let (one, mut other) = (noise(5 * MIB), noise(5 * MIB));
    other[..MIB].fill(7);
    let [one, other] =
        [("one.tar", &one), ("other.tar", &other)].map(|(name, bytes)| add(&source, name, bytes));
    assert!(one.bytes[3 * MIB..4 * MIB] == other.bytes[3 * MIB..4 * MIB], "they share a block");
    let node = Serve::start(&["--peer", source.address()]);
    assert!(get(&node.url(&one.blob_path())).await.body == one.bytes);
    flip(&node, &one.digest, 3 * MIB as u64 + 100);
    for layer in [&other, &one] {
        assert!(get(&node.url(&layer.blob_path())).await.body == layer.bytes);
    }
    assert_eq!(node.command(&["store", "verify"]).code, Some(0));
}

async fn a_corrupt_blob_is_detected_on_read_and_aborts_the_download() {
    let dir = tempfile::tempdir().unwrap();
    for size in [100_000, 3 * MIB] {
        let node = serve_without_peers(dir.path());
        let bytes = noise(size);
        let digest = Repository::new(&node, "a").push(&bytes).await;
        node.kill();
        let node = serve_without_peers(dir.path());
        let a = Repository::new(&node, "a");
        flip(&node, &digest, 70_000);
        for _ in 0..2 {
            assert!(fails(&a.url(&format!("blobs/{digest}"))).await);
        }
        assert_eq!(head(&a, &digest).await, 404);
        a.push(&bytes).await;
        a.has(&bytes).await;
        node.kill();
    }
}

async fn a_damaged_blob_without_peers_is_refused_at_once_and_repaired_once_a_peer_has_it() {
    let source = Serve::start(&[]);
    // Longer than this story may take.
    let node = Serve::start(&["--find-timeout", "1h", "--stall-timeout", "1h"]);
    let layer = Layer::add(&node, &noise(5 * MIB));
    assert_eq!(Layer::add(&source, &noise(5 * MIB)).name, layer.name);
    flip(&node, &layer.digest, 5);
    assert_eq!(node.command(&["store", "verify"]).code, Some(1));
    for _ in 0..2 {
        let answer = get(&node.url(&layer.blob_path())).await;
        answer.refused(404, "BLOB_UNKNOWN", &["is damaged on this node", "no provider found", "0 peers"]);
    }
    node.ask(&["swarm", "connect", source.address()]);
    assert!(get(&node.url(&layer.blob_path())).await.body == layer.bytes);
    assert_eq!(node.command(&["store", "verify"]).code, Some(0));
    source.kill();
    node.until("the peer is gone", |status| status["peers"] == 0).await;
    // What is right before the damage is sent.
    flip(&node, &layer.digest, 3 * MIB as u64);
    assert_eq!(node.command(&["store", "verify"]).code, Some(1));
    assert!(fails(&node.url(&layer.blob_path())).await);
    assert!(node.log().contains("stream aborted: no provider found"), "{}", node.log());
}
