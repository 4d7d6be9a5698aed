//! A disk that is full in mid-blob: a clear refusal, nothing half kept, and all is well when there is room.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use libtest_mimic::Trial;
use tempfile::TempDir;

use crate::{
    following::{known, name_of, published, push},
    harness::{Layer, Serve, files_below, noise, tar_of, trials, until},
    http::{Answer, get},
    names::image::Image,
    push::Repository,
};

pub fn trials() -> Vec<Trial> {
    trials![needs SmallDisk::available();
        a_pull_larger_than_the_disk_is_streamed_through_and_stored_once_there_is_room,
        a_pull_that_fails_on_a_full_disk_frees_its_space,
        layer_add_on_a_full_disk_is_an_error_and_succeeds_once_there_is_room,
        a_node_keeps_serving_on_a_full_disk,
        a_push_to_a_full_disk_is_denied_and_succeeds_once_there_is_room,
        names_are_followed_and_published_again_after_a_full_disk,
    ]
}

/// A file system in memory for a node directory, whose log is elsewhere: what is full takes no log line either.
struct SmallDisk {
    disk: TempDir,
    log: TempDir,
}

impl SmallDisk {
    fn available() -> Result<(), String> {
        Self::try_mount(1).map(drop)
    }

    fn mount(mib: u64) -> Self {
        Self::try_mount(mib).expect("it was available")
    }

    fn try_mount(mib: u64) -> Result<Self, String> {
        let [disk, log] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        mount(disk.path(), &format!("size={mib}m"))?;
        let small = Self { disk, log };
        fs::create_dir(small.node_dir()).expect("a directory");
        symlink(small.log.path().join("serve.log"), small.node_dir().join("serve.log")).expect("a link");
        Ok(small)
    }

    fn grow(&self, mib: u64) {
        mount(self.disk.path(), &format!("remount,size={mib}m")).expect("it is mounted");
    }

    fn node_dir(&self) -> PathBuf {
        self.disk.path().join("node")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.disk.path()).status();
    }
}

fn mount(path: &Path, options: &str) -> Result<(), String> {
    let output = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).output();
    let output = output.map_err(|e| format!("mount: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("a small disk needs root: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

async fn pulled(node: &Serve, layer: &Layer) {
    let answer = get(&node.url(&layer.blob_path())).await;
    assert!(answer.status == 200 && answer.body == layer.bytes, "{}", answer.status);
}

/// Pulls what there may be no room for: whole, refused before its first byte, or broken off and named in the log.
async fn is_stored_or_full(node: &Serve, layer: &Layer) -> bool {
    let response = reqwest::get(node.url(&layer.blob_path())).await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    match response.bytes().await {
        Ok(body) if status == 200 => {
            assert!(body == layer.bytes);
            return true;
        }
        Ok(body) => {
            Answer { status, headers, body: body.into() }.refused(507, "STORAGE_FULL", &["disk", "full"])
        }
        Err(_) => assert!(node.log().contains("directory is full"), "{}", node.log()),
    }
    false
}

/// Holds that all files of the node directory are counted.
#[track_caller]
fn nothing_is_left(node: &Serve) {
    assert_eq!(files_below(node.data_dir(), "incoming") as u64, node.stored("partial"));
    assert!(!node.log().contains("panicked"), "{}", node.log());
}

async fn a_pull_larger_than_the_disk_is_streamed_through_and_stored_once_there_is_room() {
    let source = Serve::start(&[]);
    let [small, other] = [3, 4].map(|mib| Layer::add(&source, &noise(mib << 20)[1..]));
    let large = Layer::add(&source, &noise(120 << 20));
    let disk = SmallDisk::mount(96);
    let node = Serve::start_in(&disk.node_dir(), &["--peer", source.address()]);
    let blobs = || files_below(&disk.node_dir(), "blobs");
    pulled(&node, &small).await;
    futures::join!(pulled(&node, &large), pulled(&node, &small));
    assert_eq!(blobs(), 1);
    nothing_is_left(&node);
    disk.grow(400);
    for layer in [&other, &large, &small] {
        pulled(&node, layer).await;
    }
    assert_eq!(blobs(), 3);
    nothing_is_left(&node);
}

/// A pull that may have its part of the disk, the rest of which a neighbour takes meanwhile.
async fn a_pull_that_fails_on_a_full_disk_frees_its_space() {
    let source = Serve::start(&[]);
    let large = Layer::add(&source, &noise(130 << 20));
    let disk = SmallDisk::mount(300);
    let node = Serve::start_in(&disk.node_dir(), &["--peer", source.address()]);
    let response = reqwest::get(node.url(&large.blob_path())).await.expect("an answer");
    assert_eq!(response.status(), 200);
    // At once, and before the pull is at its end.
    let neighbour = disk.disk.path().join("neighbour");
    let taken = Command::new("fallocate").args(["--length", "210MiB"]).arg(&neighbour).status();
    assert!(taken.expect("fallocate").success());
    assert!(response.bytes().await.is_err(), "the disk is full");
    until("what had come is gone", || node.stored("partial") == 0).await;
    fs::remove_file(&neighbour).expect("a file");
    pulled(&node, &large).await;
    nothing_is_left(&node);
}

async fn layer_add_on_a_full_disk_is_an_error_and_succeeds_once_there_is_room() {
    let (disk, dir) = (SmallDisk::mount(96), tempfile::tempdir().unwrap());
    let node = Serve::start_in(&disk.node_dir(), &[]);
    let small = Layer::add(&node, &noise(3 << 20));
    let large = tar_of(dir.path(), "large.tar", &noise(120 << 20));
    let large = large.to_str().unwrap();
    for _ in 0..2 {
        let said = node.command(&["layer", "add", large]);
        said.failed(1, &["disk", "full", "hint: free disk space"]);
        pulled(&node, &small).await;
        nothing_is_left(&node);
        assert_eq!(node.stored("partial"), 0, "it is dropped whole");
    }
    disk.grow(400);
    let reference = node.ask(&["-q", "layer", "add", large]);
    assert!(reference.ends_with(":large.tar"), "{reference}");
    assert_eq!(node.status()["layers"], 2);
    nothing_is_left(&node);
}

async fn a_push_to_a_full_disk_is_denied_and_succeeds_once_there_is_room() {
    let disk = SmallDisk::mount(96);
    let node = Serve::start_in(&disk.node_dir(), &[]);
    let a = Repository::new(&node, "a");
    let (small, large) = (noise(3 << 20), noise(120 << 20));
    a.push_image("small", &small).await;
    let digest = ocipfs_oci::Digest::sha256_of(&large).to_string();
    for _ in 0..2 {
        // The answer comes before the body is read to its end, which a client may not see.
        let url = format!("{}?digest={digest}", a.begin().await);
        if let Ok(answer) = reqwest::Client::new().put(&url).body(large.clone()).send().await {
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            let body = answer.bytes().await.expect("a body").into();
            // Docker shows the message of a denial at once, and repeats a push that got 507 for a minute.
            Answer { status, headers, body }.refused(403, "DENIED", &["disk", "full"]);
        }
        a.get(&format!("blobs/{digest}")).await.refused(404, "BLOB_UNKNOWN", &[]);
        a.has(&small).await;
        crate::harness::until("it is dropped", || files_below(node.data_dir(), "incoming") == 0).await;
    }
    disk.grow(400);
    a.push_image("large", &large).await;
    a.has(&large).await;
    nothing_is_left(&node);
}

async fn names_are_followed_and_published_again_after_a_full_disk() {
    let publisher = Serve::start(&[]);
    let name = name_of(&publisher);
    let disk = SmallDisk::mount(96);
    let node = Serve::start_in(&disk.node_dir(), &["--follow", &name, "--peer", publisher.address()]);
    let image = |n: usize| Image::of(&format!("{n}"), 1000 * n);
    push(&publisher, "theirs", "0", &image(0)).await;
    known(&node, "theirs", "0", &image(0)).await;
    let ballast = disk.disk.path().join("ballast");
    let _ = std::io::copy(&mut std::io::repeat(1), &mut fs::File::create(&ballast).unwrap());
    // Each push is a record that the follower cannot write down.
    for n in 1.. {
        assert!(n < 100, "the disk is not full: {}", node.log());
        push(&publisher, "theirs", &n.to_string(), &image(n)).await;
        published(&publisher).await;
        if node.log().contains("cannot store a received IPNS record") {
            break;
        }
    }
    fs::remove_file(ballast).unwrap();
    push(&node, "own", "1", &image(101)).await;
    published(&node).await;
    assert_eq!(node.status()["published"]["failing"], serde_json::Value::Null, "{}", node.log());
    push(&publisher, "theirs", "last", &image(102)).await;
    known(&node, "theirs", "last", &image(102)).await;
    let other = Serve::start(&["--follow", &name_of(&node), "--peer", node.address()]);
    known(&other, "own", "1", &image(101)).await;
}

async fn a_node_keeps_serving_on_a_full_disk() {
    let source = Serve::start(&[]);
    let [stored, cold, large] = [3, 4, 30].map(|mib| Layer::add(&source, &noise(mib << 20)[1..]));
    let disk = SmallDisk::mount(96);
    let node = Serve::start_in(&disk.node_dir(), &["--peer", source.address()]);
    pulled(&node, &stored).await;
    // The disk fills up by other hands while a blob comes.
    let ballast = disk.disk.path().join("ballast");
    let mut pull = reqwest::get(node.url(&large.blob_path())).await.expect("an answer");
    pull.chunk().await.expect("bytes come").expect("the first bytes");
    let _ = std::io::copy(&mut std::io::repeat(1), &mut fs::File::create(&ballast).unwrap());
    while let Ok(Some(_)) = pull.chunk().await {}
    for layer in [&cold, &large] {
        is_stored_or_full(&node, layer).await;
    }
    let path = tar_of(source.data_dir(), "new.tar", &noise(1 << 20)[2..]);
    let said = node.command(&["layer", "add", path.to_str().unwrap()]);
    said.failed(1, &["disk", "full", "hint: free disk space"]);
    pulled(&node, &stored).await;
    fs::remove_file(ballast).unwrap();
    for layer in [&stored, &cold, &large] {
        pulled(&node, layer).await;
    }
    assert_eq!(node.command(&["layer", "add", path.to_str().unwrap()]).code, Some(0));
    nothing_is_left(&node);
}
