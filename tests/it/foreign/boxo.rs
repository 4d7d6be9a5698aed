//! boxo, the library of Kubo.

use std::{fs, path::Path};

use libtest_mimic::Trial;

use super::{LONG, add, equals, pulled_from};
use crate::{
    harness::{Serve, finish, noise, ocipfs, tar_of, trials},
    peers::boxo::{self, Boxo},
};

/// Request patterns of `ipfs cat` and `ipfs pin add`.
const WAYS: [&[&str]; 2] = [&["--how", "read"], &["--how", "graph"]];

const LEGACY: &[&str] = &["--profile", "legacy"];

pub fn trials() -> Vec<Trial> {
    trials![needs boxo::available();
        boxo_fetches_our_layer,
        boxo_fetches_our_layer_in_the_legacy_profile,
        a_layer_served_by_boxo_is_added_and_pulled,
        a_layer_served_by_boxo_in_the_legacy_profile_is_added_and_pulled,
        a_layer_in_a_directory_served_by_boxo_is_added_and_pulled,
        cids_are_identical_to_those_of_boxo,
        layers_are_exchanged_with_boxo_in_a_private_swarm,
    ]
}

async fn boxo_fetches_our_layer() {
    let node = Serve::start(&[]);
    boxo_fetches(&node, &[], 256, &[]).await;
}

async fn boxo_fetches_our_layer_in_the_legacy_profile() {
    let node = Serve::start(&[]);
    boxo_fetches(&node, LEGACY, 20, &[]).await;
}

/// Adds a layer of so many MiB at `node`, and has boxo fetch it in both ways as it is printed: the file by its name in
/// a directory.
async fn boxo_fetches(node: &Serve, profile: &[&str], mib: usize, flags: &[&str]) {
    let out = node.data_dir().join("out");
    let tar = tar_of(node.data_dir(), "layer.tar", &noise(mib << 20));
    let added = add(node, &[profile, &[tar.to_str().unwrap()]].concat());
    let layer = added["layers"][0]["layer"].as_str().unwrap();
    for way in WAYS {
        let fetched = boxo::fetch(&[way, flags].concat(), layer, node.address(), &out, LONG).await.unwrap();
        equals(&fetched, &out, &tar);
    }
}

async fn a_layer_served_by_boxo_is_added_and_pulled() {
    boxo_serves(&[], 256).await;
}

async fn a_layer_served_by_boxo_in_the_legacy_profile_is_added_and_pulled() {
    boxo_serves(LEGACY, 20).await;
}

/// Pulls a layer of so many MiB that boxo has added, by its CID alone.
async fn boxo_serves(profile: &[&str], mib: usize) {
    let dir = tempfile::tempdir().unwrap();
    let tar = tar_of(dir.path(), "layer.tar", &noise(mib << 20));
    let boxo = Boxo::serve(profile, &[&tar]).await.unwrap();
    let node = Serve::start(&["--peer", boxo.address()]);
    pulled_from(&node, &boxo.cids()[0], &tar).await;
}

async fn a_layer_in_a_directory_served_by_boxo_is_added_and_pulled() {
    let dir = tempfile::tempdir().unwrap();
    let tar = tar_of(dir.path(), "layer.tar", &noise(20 << 20));
    for profile in [&[], LEGACY] {
        let boxo = Boxo::serve(&[profile, &["--wrap"]].concat(), &[&tar]).await.unwrap();
        let node = Serve::start(&["--peer", boxo.address()]);
        pulled_from(&node, &format!("{}/layer.tar", boxo.cids()[0]), &tar).await;
    }
}

async fn cids_are_identical_to_those_of_boxo() {
    let dir = tempfile::tempdir().unwrap();
    let node = Serve::start(&[]);
    // Of one block, of one node of links, and (legacy) of two levels of nodes.
    let tars = [0, 3, 50].map(|mib| tar_of(dir.path(), &format!("{mib}.tar"), &noise(mib << 20)));
    for profile in [&[], LEGACY] {
        let flags = [profile, &["--wrap"]].concat();
        let boxo = Boxo::serve(&flags, &tars.each_ref().map(|tar| tar.as_path())).await.unwrap();
        for (tar, cid) in tars.iter().zip(boxo.cids()) {
            let added = add(&node, &[profile, &[tar.to_str().unwrap()]].concat());
            let name = tar.file_name().unwrap().to_str().unwrap();
            assert_eq!(added["layers"][0]["layer"], format!("{cid}/{name}"));
        }
    }
}

async fn layers_are_exchanged_with_boxo_in_a_private_swarm() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("swarm.key");
    fs::write(&path, finish(ocipfs(dir.path()).args(["swarm", "key"])).stdout).unwrap();
    let key = ["--swarm-key", path.to_str().unwrap()];

    let tar = tar_of(dir.path(), "theirs.tar", &noise(16 << 20));
    let boxo = Boxo::serve(&key, &[&tar]).await.unwrap();
    let node = Serve::start(&[&key[..], &["--peer", boxo.address()]].concat());
    pulled_from(&node, &boxo.cids()[0], &tar).await;

    let ours = Serve::start(&key);
    boxo_fetches(&ours, &[], 16, &key).await;
    // A peer without the key is refused.
    let out: &Path = &dir.path().join("out");
    boxo::fetch(&[], &boxo.cids()[0], ours.address(), out, LONG).await.unwrap_err();
}
