//! Helia, the IPFS peer in TypeScript: what we add it fetches, and what it adds we fetch.

use std::{fs, path::Path, time::Duration};

use libtest_mimic::Trial;
use ocipfs_oci::Digest;
use serde_json::Value;

use crate::{
    harness::{Serve, noise, tar_of, trials},
    peers::helia::{self, Helia},
};

/// Many times what the longest takes.
const LONG: Duration = Duration::from_secs(20);

pub fn trials() -> Vec<Trial> {
    trials![needs helia::available();
        helia_fetches_our_layers_by_their_cids,
        a_layer_that_helia_serves_is_added_and_pulled,
        a_layer_in_a_directory_of_helia_is_added_and_pulled,
        helia_gives_the_same_bytes_the_same_cids,
    ]
}

async fn helia_fetches_our_layers_by_their_cids() {
    let node = Serve::start(&[]);
    let out = node.data_dir().join("out");
    for mib in [5, 32] {
        let tar = tar_of(node.data_dir(), "layer.tar", &noise(mib << 20));
        let layer = add(&node, tar.to_str().unwrap())["layer"].as_str().unwrap().to_string();
        // As it is printed: the file by its name in a directory.
        let fetched = fetch(&layer, &node, &out).await;
        let bytes = fs::read(&tar).unwrap();
        let digest = Digest::sha256_of(&bytes).to_string();
        assert_eq!((fetched.bytes, format!("sha256:{}", fetched.sha256)), (bytes.len() as u64, digest));
        assert!(fs::read(&out).unwrap() == bytes);
        assert!(fetched.took < LONG);
    }
}

async fn a_layer_that_helia_serves_is_added_and_pulled() {
    let dir = tempfile::tempdir().unwrap();
    let tar = tar_of(dir.path(), "layer.tar", &noise(20 << 20));
    let helia = Helia::serve(&[&tar]).await.unwrap();
    let source = format!("ipfs://{}", helia.cids()[0]);
    pulled_from(&helia, &source, &tar).await;
}

async fn a_layer_in_a_directory_of_helia_is_added_and_pulled() {
    let dir = tempfile::tempdir().unwrap();
    let tar = tar_of(dir.path(), "layer.tar", &noise(3 << 20));
    let helia = Helia::serve_with(&["--wrap"], &[&tar]).await.unwrap();
    let source = format!("ipfs://{}/layer.tar", helia.cids()[0]);
    pulled_from(&helia, &source, &tar).await;
}

async fn helia_gives_the_same_bytes_the_same_cids() {
    let dir = tempfile::tempdir().unwrap();
    let node = Serve::start(&[]);
    let tars = [3, 20].map(|mib| tar_of(dir.path(), &format!("{mib}.tar"), &noise(mib << 20)));
    let helia = Helia::serve_with(&["--wrap"], &tars.each_ref().map(|tar| tar.as_path())).await.unwrap();
    for (tar, cid) in tars.iter().zip(helia.cids()) {
        let layer = add(&node, tar.to_str().unwrap());
        let name = tar.file_name().unwrap().to_str().unwrap();
        assert_eq!(layer["layer"], format!("{cid}/{name}"));
    }
}

/// Fetches as a new peer of Helia's, and as another where that one waits in vain: it opens a stream for each message,
/// and the Bitswap of rust-ipfs forgets one that is not read when the next comes, with the wants in it.
async fn fetch(layer: &str, node: &Serve, out: &Path) -> helia::Fetched {
    let mut last = String::new();
    for _ in 0..5 {
        match helia::fetch(layer, node.address(), out, LONG).await {
            Ok(fetched) => return fetched,
            Err(error) => last = error,
        }
    }
    panic!("{last}");
}

/// Adds `source` at a node that knows `helia`, and pulls it through that node.
async fn pulled_from(helia: &Helia, source: &str, tar: &Path) {
    let node = Serve::start(&["--peer", helia.address()]);
    let added = add(&node, source);
    let bytes = fs::read(tar).unwrap();
    assert_eq!(added["digest"], Digest::sha256_of(&bytes).to_string());
    let path =
        format!("/v2/layer/{}/blobs/{}", added["cid"].as_str().unwrap(), added["digest"].as_str().unwrap());
    let pulled = reqwest::get(node.url(&path)).await.unwrap();
    assert!(pulled.bytes().await.unwrap() == bytes);
}

fn add(node: &Serve, source: &str) -> Value {
    let said = node.command(&["--json", "layer", "add", source]);
    serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"))
}
