//! Peers of other projects: what we add they fetch, and what they add we fetch.

use std::{fs, path::Path, time::Duration};

use libtest_mimic::Trial;
use ocipfs_oci::Digest;
use serde_json::Value;

use crate::{harness::Serve, peers::program::Fetched};

mod boxo;
mod helia;
mod kubo;

/// Many times what the longest takes.
const LONG: Duration = Duration::from_secs(60);

pub fn trials() -> Vec<Trial> {
    [boxo::trials(), helia::trials(), kubo::trials()].into_iter().flatten().collect()
}

/// Runs `layer add` and returns its output.
#[track_caller]
fn add(node: &Serve, arguments: &[&str]) -> Value {
    let said = node.command(&[&["--json", "layer", "add"], arguments].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    serde_json::from_str(&said.stdout).unwrap()
}

/// Holds that a peer has fetched the file at `original`, as it says and as it wrote it.
#[track_caller]
fn equals(fetched: &Fetched, out: &Path, original: &Path) {
    let bytes = fs::read(original).unwrap();
    let digest = Digest::sha256_of(&bytes).to_string();
    assert_eq!((fetched.bytes, format!("sha256:{}", fetched.sha256)), (bytes.len() as u64, digest));
    assert!(fs::read(out).unwrap() == bytes);
    assert!(fetched.took < LONG);
}

/// Adds the CID path `source` at `node`, which knows a provider, and pulls it through that node: the bytes of
/// `tar`.
async fn pulled_from(node: &Serve, source: &str, tar: &Path) {
    let added = add(node, &[&format!("ipfs://{source}")]);
    let bytes = fs::read(tar).unwrap();
    assert_eq!(added["layers"][0]["digest"], Digest::sha256_of(&bytes).to_string());
    assert_eq!(added["layers"][0]["layer"], source);
    let path = format!(
        "/v2/layer/{}/blobs/{}",
        added["cid"].as_str().unwrap(),
        added["layers"][0]["digest"].as_str().unwrap()
    );
    let pulled = reqwest::get(node.url(&path)).await.unwrap();
    assert!(pulled.bytes().await.unwrap() == bytes);
}
