//! CARs of DAGs in a store, read as a client reads them: each block is verified, and the DAG is walked by them.

use std::collections::HashMap;

use bytes::{Buf, Bytes};
use futures::TryStreamExt;
use multihash_codetable::{Code, MultihashDigest};
use ocipfs_node::{Block, Cid, Node, inline_bytes, is_block};
use ocipfs_unixfs::{DAG_PB, DagNode, RAW};
use tempfile::TempDir;

use super::*;
use crate::content::{Settings, SharePolicy, Store};

mod dags;

use dags::{Blocks, directory, file, inline, raw, shard};

struct Served {
    content: Content,
    _dir: TempDir,
}

impl Served {
    fn new(blocks: &[Block]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.put_blocks(blocks).unwrap();
        let content = Content::new(store, Node::offline(dir.path()).unwrap(), Settings::default()).unwrap();
        Self { content, _dir: dir }
    }

    async fn resolve(&self, path: &str, scope: CarScope) -> ResolvedPath {
        self.content.resolve_shared(&path.parse().unwrap(), scope, &CarRoom::new(16 << 20)).await.unwrap()
    }

    async fn car(&self, path: &str, scope: CarScope, duplicates: bool) -> Result<Vec<Cid>, Error> {
        let ResolvedPath::Found(found) = self.resolve(path, scope).await else { panic!("{path} is absent") };
        let end = found.end.cid;
        let car = self.content.car(found, CarOptions { scope, duplicates }, &CarRoom::new(16 << 20)).unwrap();
        let bytes: Vec<Bytes> = car.into_stream_logged().try_collect().await?;
        let mut bytes = Bytes::from(bytes.concat());
        let header = take(&mut bytes);
        assert_eq!(header, car::header(&[end])[1..]);
        let mut cids = Vec::new();
        while bytes.has_remaining() {
            let section = take(&mut bytes);
            let mut data = &section[..];
            let cid = Cid::read_bytes(&mut data).unwrap();
            assert!(is_block(&cid, data) && inline_bytes(&cid).is_none(), "{cid}");
            cids.push(cid);
        }
        Ok(cids)
    }
}

fn take(bytes: &mut Bytes) -> Bytes {
    let mut length = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes.get_u8();
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    bytes.split_to(length)
}

fn span(from: i64, to: Option<i64>) -> CarScope {
    CarScope::Entity(ByteSpan { from, to })
}

const ENTITY: CarScope = CarScope::Entity(ByteSpan::WHOLE);

/// A directory of one file of four leaves of ten bytes, the second and the last of which are equal, behind two nodes.
fn nested() -> (Blocks, HashMap<&'static str, Cid>) {
    let mut all = Blocks::default();
    let leaves = [1, 2, 3, 2].map(|n| all.add(raw(&[n; 10])));
    let nodes = [
        all.add(file(&[(leaves[0].to_bytes(), 10), (leaves[1].to_bytes(), 10)])),
        all.add(file(&[(leaves[2].to_bytes(), 10), (leaves[3].to_bytes(), 10)])),
    ];
    let top = all.add(file(&[(nodes[0].to_bytes(), 20), (nodes[1].to_bytes(), 20)]));
    let folder = all.add(directory(&[("file", top.to_bytes()), ("other", leaves[0].to_bytes())]));
    let root = all.add(directory(&[("folder", folder.to_bytes())]));
    let names = ["1", "2", "3", "left", "right", "file", "folder", "root"];
    let cids = [leaves[0], leaves[1], leaves[2], nodes[0], nodes[1], top, folder, root];
    (all, names.into_iter().zip(cids).collect())
}

#[tokio::test]
async fn car_of_each_scope_has_the_path_and_the_blocks_of_the_scope_in_depth_first_order() {
    let (blocks, cids) = nested();
    let served = Served::new(&blocks.0);
    let root = cids["root"];
    let (file, folder) = (format!("{root}/folder/file"), format!("{root}/folder"));
    for (path, scope, duplicates, expected) in [
        (&file, CarScope::Block, false, "root folder file"),
        (&file, ENTITY, false, "root folder file left 1 2 right 3"),
        (&file, ENTITY, true, "root folder file left 1 2 right 3 2"),
        (&file, CarScope::All, false, "root folder file left 1 2 right 3"),
        (&folder, CarScope::Block, false, "root folder"),
        (&folder, ENTITY, false, "root folder"),
        (&folder, span(0, Some(0)), false, "root folder"),
        (&folder, CarScope::All, false, "root folder file left 1 2 right 3"),
        (&folder, CarScope::All, true, "root folder file left 1 2 right 3 2 1"),
        (&file, span(0, Some(9)), false, "root folder file left 1"),
        (&file, span(5, Some(10)), false, "root folder file left 1 2"),
        (&file, span(10, Some(19)), true, "root folder file left 2"),
        (&file, span(15, Some(35)), true, "root folder file left 2 right 3 2"),
        (&file, span(15, Some(35)), false, "root folder file left 2 right 3"),
        (&file, span(-1, None), false, "root folder file right 2"),
        (&file, span(39, Some(1000)), false, "root folder file right 2"),
        (&file, span(20, Some(-21)), false, "root folder file"),
    ] {
        let expected: Vec<Cid> = expected.split(' ').map(|name| cids[name]).collect();
        assert_eq!(
            served.car(path, scope, duplicates).await.unwrap(),
            expected,
            "{path} {scope:?} {duplicates}"
        );
    }
}

#[tokio::test]
async fn a_range_of_a_file_that_repeats_a_part_has_all_blocks_of_the_range() {
    let mut blocks = Blocks::default();
    let leaves = [1, 2].map(|n| blocks.add(raw(&[n; 10])));
    let node = blocks.add(file(&[(leaves[0].to_bytes(), 10), (leaves[1].to_bytes(), 10)]));
    let top = blocks.add(file(&[(node.to_bytes(), 20), (node.to_bytes(), 20)]));
    let served = Served::new(&blocks.0);
    let car = served.car(&top.to_string(), span(15, Some(25)), false).await.unwrap();
    assert_eq!(car, [top, node, leaves[1], leaves[0]]);
}

#[tokio::test]
async fn entity_of_a_sharded_directory_is_all_its_shards_and_none_of_its_files() {
    let mut blocks = Blocks::default();
    let files: Vec<Cid> = (0..200u8).map(|n| blocks.add(raw(&[n]))).collect();
    let entries: Vec<(String, Cid)> =
        files.iter().enumerate().map(|(n, cid)| (format!("file-{n}"), *cid)).collect();
    let (top, shards) = shard(&mut blocks, &entries, 3);
    assert!(shards.len() > 8, "{}", shards.len());
    let served = Served::new(&blocks.0);
    let sorted = |mut cids: Vec<Cid>| {
        cids.sort();
        cids
    };
    let entity = served.car(&top.to_string(), ENTITY, false).await.unwrap();
    assert_eq!(entity[0], top);
    assert_eq!(sorted(entity), sorted(shards.clone()));
    let all = served.car(&top.to_string(), CarScope::All, false).await.unwrap();
    assert_eq!(sorted(all), sorted(shards.iter().chain(&files).copied().collect()));
    for (name, cid) in &entries {
        let path = served.car(&format!("{top}/{name}"), CarScope::Block, false).await.unwrap();
        assert!(path.len() >= 2 && path[0] == top && path.last() == Some(cid), "{name}");
        assert!(path[1..path.len() - 1].iter().all(|cid| shards.contains(cid)));
    }
    let other = format!("{top}/other").parse().unwrap();
    let missing = served.content.resolve_shared(&other, CarScope::All, &CarRoom::new(16 << 20)).await;
    assert!(matches!(missing, Err(Error::NoEntry { .. })));
}

#[tokio::test]
async fn blocks_that_a_cid_carries_are_not_in_a_car_and_those_below_them_are() {
    for length in [10, 60, 100] {
        let mut blocks = Blocks::default();
        let leaf = blocks.add(raw(b"leaf"));
        let carried = file(&[(leaf.to_bytes(), 4)]).data;
        let tail = vec![7; length];
        let top = file(&[(inline(DAG_PB, &carried), 4), (inline(RAW, &tail), length), (leaf.to_bytes(), 4)]);
        let top = blocks.add(top);
        let root = blocks.add(directory(&[("a", top.to_bytes()), ("b", inline(RAW, &tail))]));
        let served = Served::new(&blocks.0);
        let car = |path: String, scope, duplicates| {
            let served = &served;
            async move { served.car(&path, scope, duplicates).await.unwrap() }
        };
        assert_eq!(car(top.to_string(), CarScope::All, true).await, [top, leaf, leaf]);
        assert_eq!(car(top.to_string(), span(1, Some(6)), false).await, [top, leaf]);
        assert_eq!(car(format!("{root}/b"), CarScope::All, false).await, [root]);
        assert_eq!(car(root.to_string(), CarScope::All, false).await, [root, top, leaf]);
    }
}

#[tokio::test]
async fn car_of_a_root_that_a_cid_carries_has_no_block_of_it() {
    let served = Served::new(&[]);
    assert!(served.car("bafkqaaa", CarScope::All, false).await.unwrap().is_empty());
}

#[tokio::test]
async fn car_with_a_missing_block_ends_with_an_error_after_the_blocks_before_it() {
    let (mut blocks, cids) = nested();
    blocks.0.retain(|block| block.cid != cids["3"]);
    let served = Served::new(&blocks.0);
    let path = format!("{}/folder/file", cids["root"]);
    assert!(matches!(served.car(&path, CarScope::All, false).await, Err(Error::Node(_))));
    // What is here can be had.
    assert!(served.car(&path, span(0, Some(19)), false).await.is_ok());
    let ResolvedPath::Found(found) = served.resolve(&path, CarScope::All).await else { panic!("it is here") };
    let options = CarOptions { scope: CarScope::All, duplicates: false };
    let car = served.content.car(found, options, &CarRoom::new(16 << 20)).unwrap();
    let parts: Vec<_> = futures::StreamExt::collect(car.into_stream_logged()).await;
    assert_eq!(parts.iter().filter(|part| part.is_ok()).count(), 1 + 2 * 7);
    assert!(parts.last().unwrap().is_err());
    blocks.0.retain(|block| block.cid != cids["folder"]);
    let served = Served::new(&blocks.0);
    assert!(matches!(served.resolve(&path, CarScope::All).await, ResolvedPath::Absent));
}

#[tokio::test]
async fn a_block_that_peers_may_not_get_is_absent() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let settings = Settings { share: SharePolicy::Added, ..Settings::default() };
    let content = Content::new(store, Node::offline(dir.path()).unwrap(), settings).unwrap();
    let pushed = dags::pushed(&content, b"secret");
    assert!(content.is_here(&pushed).await.unwrap());
    let at: CidPath = pushed.into();
    assert_eq!(content.shared_length(&at).await.unwrap(), None);
    assert!(matches!(content.read_shared(&at, &CarRoom::new(16 << 20)).await.unwrap(), SharedBlock::Absent));
    assert!(matches!(
        content.resolve_shared(&at, CarScope::All, &CarRoom::new(16 << 20)).await.unwrap(),
        ResolvedPath::Absent
    ));
}

#[tokio::test]
async fn blocks_and_cars_are_refused_while_slow_clients_hold_all_room() {
    let block = raw(&vec![7; 2 << 20]);
    let served = Served::new(std::slice::from_ref(&block));
    let (room, at) = (CarRoom::new(16 << 20), CidPath::from(block.cid));
    let mut held = Vec::new();
    loop {
        match served.content.read_shared(&at, &room).await.unwrap() {
            SharedBlock::Here(bytes) => held.push(bytes),
            SharedBlock::Busy => break,
            SharedBlock::Absent => panic!("it is here"),
        }
    }
    assert_eq!(held.len(), 8);
    let path = served.content.resolve_shared(&at, CarScope::All, &room).await.unwrap();
    assert!(matches!(path, ResolvedPath::Busy));
    let options = CarOptions { scope: CarScope::All, duplicates: false };
    let ResolvedPath::Found(found) = served.resolve(&at.to_string(), CarScope::All).await else {
        panic!("it is here")
    };
    assert!(matches!(served.content.car(found, options, &room), Err(Busy)));
    held.pop();
    let ResolvedPath::Found(found) = served.resolve(&at.to_string(), CarScope::All).await else {
        panic!("it is here")
    };
    assert!(served.content.car(found, options, &room).is_ok());
}

#[test]
fn what_is_no_unixfs_is_its_own_entity() {
    let node = Bytes::from(dags::node(&[("x", raw(b"x").cid.to_bytes())], None));
    let cid = Cid::new_v1(DAG_PB, Code::Sha2_256.digest(&node));
    assert!(DagNode::decode(&cid, node.clone()).is_err());
    assert_eq!(below::Below::of(ENTITY, &cid, &node), Ok(below::Below::Nothing));
    assert_eq!(below::Below::of(CarScope::All, &cid, &node).unwrap().follow(&cid, &node).unwrap().len(), 1);
}
