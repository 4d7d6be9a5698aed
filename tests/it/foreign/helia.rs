//! Helia, the IPFS peer in TypeScript.

use libtest_mimic::Trial;

use super::{LONG, add, equals, pulled_from};
use crate::{
    harness::{Serve, noise, tar_of, trials},
    peers::helia::{self, Helia},
};

pub fn trials() -> Vec<Trial> {
    trials![needs helia::available();
        helia_fetches_our_layers_by_their_cids,
        helia_fetches_our_layer_in_a_session,
        a_layer_served_by_helia_is_added_and_pulled,
        a_layer_in_a_directory_served_by_helia_is_added_and_pulled,
        cids_are_identical_to_those_of_helia,
    ]
}

async fn helia_fetches_our_layers_by_their_cids() {
    helia_fetches(&[], 5).await;
    helia_fetches(&[], 256).await;
}

async fn helia_fetches_our_layer_in_a_session() {
    helia_fetches(&["--session"], 256).await;
}

/// Adds a layer of so many MiB and has Helia fetch it as it is printed: the file by its name in a directory.
async fn helia_fetches(flags: &[&str], mib: usize) {
    let node = Serve::start(&[]);
    let out = node.data_dir().join("out");
    let tar = tar_of(node.data_dir(), "layer.tar", &noise(mib << 20));
    let added = add(&node, &[tar.to_str().unwrap()]);
    let layer = added["layers"][0]["layer"].as_str().unwrap();
    let fetched = helia::fetch(flags, layer, node.address(), &out, LONG).await.unwrap();
    equals(&fetched, &out, &tar);
}

async fn a_layer_served_by_helia_is_added_and_pulled() {
    let dir = tempfile::tempdir().unwrap();
    let tar = tar_of(dir.path(), "layer.tar", &noise(256 << 20));
    let helia = Helia::serve(&[], &[&tar]).await.unwrap();
    let node = Serve::start(&["--peer", helia.address()]);
    pulled_from(&node, &helia.cids()[0], &tar).await;
}

async fn a_layer_in_a_directory_served_by_helia_is_added_and_pulled() {
    let dir = tempfile::tempdir().unwrap();
    let tar = tar_of(dir.path(), "layer.tar", &noise(3 << 20));
    let helia = Helia::serve(&["--wrap"], &[&tar]).await.unwrap();
    let node = Serve::start(&["--peer", helia.address()]);
    pulled_from(&node, &format!("{}/layer.tar", helia.cids()[0]), &tar).await;
}

async fn cids_are_identical_to_those_of_helia() {
    let dir = tempfile::tempdir().unwrap();
    let node = Serve::start(&[]);
    let tars = [3, 20].map(|mib| tar_of(dir.path(), &format!("{mib}.tar"), &noise(mib << 20)));
    let helia = Helia::serve(&["--wrap"], &tars.each_ref().map(|tar| tar.as_path())).await.unwrap();
    for (tar, cid) in tars.iter().zip(helia.cids()) {
        let layer = add(&node, &[tar.to_str().unwrap()]);
        let name = tar.file_name().unwrap().to_str().unwrap();
        assert_eq!(layer["layers"][0]["layer"], format!("{cid}/{name}"));
    }
}
