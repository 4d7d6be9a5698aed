//! A node with a small memory budget works within it.

use std::fs;

use futures::future::join_all;
use libtest_mimic::Trial;
use ocipfs_oci::{Algorithm, Digest, Hasher};

use super::large_tar;
use crate::{
    bad_input::Memory,
    harness::{Serve, trials},
};

const MIB: u64 = 1 << 20;
const BUDGET: u64 = 64 * MIB;
const BLOB: u64 = 256 * MIB;
const READERS: usize = 16;

pub fn trials() -> Vec<Trial> {
    trials![a_pull_stays_within_a_small_max_memory_budget]
}

async fn a_pull_stays_within_a_small_max_memory_budget() {
    let source = Serve::start(&[]);
    let reader = Serve::start(&["--peer", source.address(), "--max-memory", "64MiB"]);
    assert_eq!(reader.status()["max_memory"], BUDGET);
    let (path, digest) = large_tar(source.data_dir(), BLOB);
    let reference = source.ask(&["-q", "layer", "add", path.to_str().unwrap()]);
    fs::remove_file(path).unwrap();
    let name = reference.split_once('/').unwrap().1.rsplit_once(':').unwrap().0;
    let url = reader.url(&format!("/v2/{name}/blobs/{digest}"));
    reader.until("the peer is connected", |status| status["peers"] == 1).await;
    let idle = reader.rss_anon();
    let memory = Memory::watch(&reader);
    assert_eq!(pulled(&url).await, digest, "cold");
    let all = join_all((0..READERS).map(|_| pulled(&url))).await;
    assert!(all.iter().all(|pulled| *pulled == digest), "stored");
    memory.stayed_below(idle + BUDGET);
}

/// Reads a blob in little memory, and returns its digest.
pub async fn pulled(url: &str) -> Digest {
    let mut response = reqwest::get(url).await.unwrap();
    let mut hasher = Hasher::new(Algorithm::Sha256);
    while let Some(chunk) = response.chunk().await.unwrap() {
        hasher.update(&chunk);
    }
    hasher.finish()
}
