//! The DAG code against what boxo computes (tests/peers/boxo/vectors).

mod changing;

use std::collections::HashMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use ocipfs_block::Cid;
use serde_json::Value;

use super::{
    build::Builder,
    dag_node::DagNode,
    directory::Changes,
    document::Document,
    hamt::{Bits, Slot},
    profile::{Profile, Root},
};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../tests/fixtures/unixfs.json")).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// The vectors' input: byte `i` is the top byte of `i` times a constant.
fn chunk(start: u64, length: usize) -> Bytes {
    (start..start + length as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

fn build(profile: Profile, size: u64) -> Root {
    let mut builder = Builder::new(profile);
    let mut at = 0;
    while at < size {
        let length = (size - at).min(profile.chunk() as u64);
        builder.push(chunk(at, length as usize));
        at += length;
    }
    builder.finish().0
}

#[test]
fn cids_of_files_match_boxo() {
    let mut seen = 0;
    for file in vectors()["files"].as_array().unwrap() {
        let Ok(profile) = text(file, "profile").parse::<Profile>() else { continue };
        let size = file["size"].as_u64().unwrap();
        if size > 64 << 20 {
            continue;
        }
        let root = build(profile, size);
        assert_eq!(root.cid.to_string(), text(file, "cid"), "{file}");
        assert_eq!((root.size, Some(root.dag_size)), (size, file["dag_size"].as_u64()), "{file}");
        seen += 1;
    }
    assert!(seen >= 24, "{seen} files");
}

/// Level by level the same code runs for 2 leaves and for 2,000; this one has more than 1,024.
#[test]
fn the_cid_of_a_dag_of_three_levels_matches_boxo() {
    let vectors = vectors();
    let file = vectors["files"].as_array().unwrap().iter().find(|file| {
        text(file, "profile") == "unixfs-v1-2025" && file["size"].as_u64() == Some((1 << 30) + 1)
    });
    assert_eq!(build(Profile::UnixfsV1, (1 << 30) + 1).cid.to_string(), text(file.unwrap(), "cid"));
}

#[test]
fn the_block_of_a_directory_with_one_file_matches_boxo() {
    let mut seen = 0;
    for directory in vectors()["directories"].as_array().unwrap() {
        let Ok(profile) = text(directory, "profile").parse::<Profile>() else { continue };
        if text(directory, "name") != "one" {
            continue;
        }
        let (root, block) = profile.directory("foo-0.1.0.tar.gz", &build(profile, 168));
        assert_eq!(BASE64_STANDARD.encode(&block.data), text(directory, "block"));
        assert_eq!(root.cid.to_string(), text(directory, "cid"));
        assert_eq!(Some(root.dag_size), directory["dag_size"].as_u64());
        seen += 1;
    }
    assert_eq!(seen, 2);
}

/// A leaf of these bytes, as the vectors have them: the entry's name, or `x`.
fn leaf(profile: Profile, text: &str) -> Root {
    let mut builder = Builder::new(profile);
    builder.push(Bytes::copy_from_slice(text.as_bytes()));
    builder.finish().0
}

fn document(profile: Profile, entries: impl IntoIterator<Item = (String, Root)>) -> Document {
    let mut changes = Changes::default();
    entries.into_iter().for_each(|(name, root)| assert!(changes.set(&name, root)));
    changes.document(profile).unwrap()
}

#[test]
fn blocks_of_directories_match_boxo() {
    for directory in vectors()["directories"].as_array().unwrap() {
        let Ok(profile) = text(directory, "profile").parse::<Profile>() else { continue };
        if text(directory, "name") == "one" {
            continue;
        }
        let names = directory["entries"].as_object().unwrap().keys();
        let Document { root, blocks } =
            document(profile, names.map(|name| (name.clone(), leaf(profile, name))));
        assert_eq!(root.cid.to_string(), text(directory, "cid"));
        assert_eq!(Some(root.dag_size), directory["dag_size"].as_u64());
        assert_eq!(BASE64_STANDARD.encode(&blocks[0].data), text(directory, "block"));
    }
}

#[test]
fn the_hamt_sharding_threshold_of_directories_matches_boxo() {
    for threshold in vectors()["threshold"].as_array().unwrap() {
        let profile: Profile = text(threshold, "profile").parse().unwrap();
        let number = |key: &str| threshold[key].as_u64().unwrap() as usize;
        let leaf = leaf(profile, "x");
        let names = (0..number("entries")).map(|i| format!("file-{i:05}"));
        let entries: Vec<(String, Root)> = names.map(|name| (name, leaf)).collect();
        for (length, cid) in [(number("last_length"), "basic_cid"), (number("last_length") + 1, "hamt_cid")] {
            let entries = entries.iter().cloned().chain([("z".repeat(length), leaf)]);
            let Document { root, blocks } = document(profile, entries);
            assert_eq!(root.cid.to_string(), text(threshold, cid), "{threshold}");
            assert_eq!(blocks.len() > 1, cid == "hamt_cid");
        }
    }
}

#[test]
fn directory_blocks_are_decoded() {
    for directory in vectors()["directories"].as_array().unwrap() {
        let cid: Cid = text(directory, "cid").parse().unwrap();
        let block = BASE64_STANDARD.decode(text(directory, "block")).unwrap();
        let DagNode::Directory(links) = DagNode::decode(&cid, block.into()).unwrap() else {
            panic!("{directory}")
        };
        let entries = directory["entries"].as_object().unwrap();
        assert_eq!(links.len(), entries.len());
        for (name, cid) in links {
            assert_eq!(cid.to_string(), text(&directory["entries"], &name));
        }
    }
}

#[test]
fn every_entry_of_a_sharded_hamt_directory_is_found_and_no_other() {
    for directory in vectors()["sharded"].as_array().unwrap() {
        let blocks: HashMap<Cid, DagNode> =
            directory["blocks"].as_array().unwrap().iter().map(shard).collect();
        let root: Cid = text(directory, "cid").parse().unwrap();
        for (name, cid) in directory["entries"].as_object().unwrap() {
            assert_eq!(
                look_up(&blocks, root, name).map(|cid| cid.to_string()).as_deref(),
                cid.as_str(),
                "{name}"
            );
        }
        for name in ["", "file-", "file-9999", "0A"] {
            assert_eq!(look_up(&blocks, root, name), None, "{name:?}");
        }
    }
}

fn shard(block: &Value) -> (Cid, DagNode) {
    let cid: Cid = text(block, "cid").parse().unwrap();
    let bytes = BASE64_STANDARD.decode(text(block, "block")).unwrap();
    (cid, DagNode::decode(&cid, bytes.into()).unwrap())
}

fn look_up(blocks: &HashMap<Cid, DagNode>, root: Cid, name: &str) -> Option<Cid> {
    let mut bits = Bits::of(name);
    let mut cid = root;
    loop {
        let node = &blocks[&cid];
        assert!(matches!(node, DagNode::Shard { .. }), "{cid} is not a shard");
        match node.find(name, &mut bits) {
            Slot::Entry(cid) => return Some(cid),
            Slot::Deeper(deeper) => cid = deeper,
            Slot::Empty => return None,
        }
    }
}
