//! boxo, the library of Kubo.

use std::{fs, path::Path};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use libtest_mimic::Trial;
use ocipfs_node::Cid;

use super::{LONG, add, equals, pulled_from};
use crate::{
    harness::{Serve, finish, noise, ocipfs, tar_of, trials, within},
    peers::{
        boxo::{self, Boxo},
        gossip::Gossip,
    },
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
        a_layer_of_boxo_whose_last_chunk_is_inline_is_pulled_and_passed_on,
        a_directory_of_boxo_with_inline_entries_is_read,
        an_ipns_record_of_boxo_with_version_2_only_is_followed_and_forwarded,
        blocks_of_two_mib_are_exchanged_with_boxo,
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

/// With `ipfs add --inline`, boxo makes the CID of a short last chunk from its bytes, and never sends such a block.
async fn a_layer_of_boxo_whose_last_chunk_is_inline_is_pulled_and_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let tar = tar_of(dir.path(), "layer.tar", &noise(1 << 20));
    let size = fs::metadata(&tar).unwrap().len();
    for last in [1, 10, 64, 65, 128] {
        let chunk = (size - last).to_string();
        let boxo = Boxo::serve(&["--inline", "128", "--chunk", &chunk], &[&tar]).await.unwrap();
        exchanged(&boxo, &tar).await;
    }
}

/// Pulls a layer that boxo has added, and has boxo fetch it from our node.
async fn exchanged(boxo: &Boxo, tar: &Path) {
    let node = Serve::start(&["--peer", boxo.address()]);
    pulled_from(&node, &boxo.cids()[0], tar).await;
    let out = node.data_dir().join("out");
    for way in WAYS {
        let fetched = boxo::fetch(way, &boxo.cids()[0], node.address(), &out, LONG).await.unwrap();
        equals(&fetched, &out, tar);
    }
    let verified = node.command(&["store", "verify", "--repair"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

async fn a_directory_of_boxo_with_inline_entries_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let tar = tar_of(&folder, "layer.tar", &noise(1 << 20));
    let empty = tar_of(&folder, "empty.tar", b"");
    for length in [0, 10, 64, 65, 100, 128] {
        fs::write(folder.join(length.to_string()), noise(length)).unwrap();
    }
    for shard in [&[] as &[&str], &["--shard"]] {
        let flags = [&["--inline", "128"], shard].concat();
        let boxo = Boxo::serve(&flags, &[&folder]).await.unwrap();
        let node = Serve::start(&["--peer", boxo.address()]);
        for (name, tar) in [("layer.tar", &tar), ("empty.tar", &empty)] {
            pulled_from(&node, &format!("{}/{name}", boxo.cids()[0]), tar).await;
        }
        // All of it, with the entries that are CIDs alone.
        let pinned = node.command(&["store", "pin", &boxo.cids()[0]]);
        assert_eq!(pinned.code, Some(0), "{pinned:?}");
        drop(boxo);
        for arguments in [&["store", "gc"][..], &["store", "verify", "--repair"]] {
            let said = node.command(arguments);
            assert_eq!(said.code, Some(0), "{said:?}");
        }
    }
}

/// As `ipfs name publish --v1compat=false` makes it.
async fn an_ipns_record_of_boxo_with_version_2_only_is_followed_and_forwarded() {
    for flags in [&["--v1compat=false"][..], &[]] {
        let (name, record) = boxo::record(flags, "/ipfs/bafkqaaa").await.unwrap();
        let cid = Cid::try_from(name.as_str()).unwrap();
        let key = [&b"/ipns/"[..], &cid.hash().to_bytes()].concat();
        let topic = format!("/record/{}", BASE64_URL_SAFE_NO_PAD.encode(key));
        let [publisher, third] = [Gossip::start(&topic).await, Gossip::start(&topic).await];
        let node = Serve::start(&["--follow", &name, "--peer", publisher.address(), third.address()]);
        for peer in [&publisher, &third] {
            within(LONG, peer.is_joined()).await;
        }
        node.until("both are peers", |status| status["peers"] == 2).await;
        publisher.tell(record.clone()).await;
        within(LONG, third.is_told(|told| told == record)).await;
        let said = node.command(&["name", "resolve", &name]);
        assert_eq!((said.code, said.stdout.trim()), (Some(0), "/ipfs/bafkqaaa"), "{said:?}");
    }
}

async fn blocks_of_two_mib_are_exchanged_with_boxo() {
    let dir = tempfile::tempdir().unwrap();
    let tar = tar_of(dir.path(), "layer.tar", &noise(5 << 20));
    let boxo = Boxo::serve(&["--chunk", "2097152"], &[&tar]).await.unwrap();
    exchanged(&boxo, &tar).await;
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
