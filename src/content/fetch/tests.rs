//! Reading in a node without a swarm: blocks that a CID carries, paths, and documents.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use multihash_codetable::{Code, MultihashDigest};
use ocipfs_bitswap::wire::fields::put_varint;
use ocipfs_node::{Block, Cid, Node, inline_text};
use ocipfs_unixfs::{DAG_PB, RAW};

use crate::content::{Blob, BlobWriter, CidPath, Content, Error, Profile, Settings, Stat, Store};

/// The lengths of inline blocks that are read, on both sides of what a `Cid` has room for.
const LENGTHS: [usize; 8] = [0, 1, 10, 63, 64, 65, 100, 128];
const DIRECTORY: &[u8] = &[8, 1];
const SOON: Duration = Duration::from_secs(60);

fn content(dir: &tempfile::TempDir) -> Content {
    let store = Store::open(dir.path()).unwrap();
    Content::new(store, Node::offline(dir.path()).unwrap(), Settings::default()).unwrap()
}

fn field(number: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(value.len() as u64), value].concat()
}

fn varint(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, value);
    out
}

/// Returns the binary CID that carries these bytes.
fn inline(codec: u64, bytes: &[u8]) -> Vec<u8> {
    [&[1, codec as u8, 0][..], &varint(bytes.len() as u64), bytes].concat()
}

/// Returns a dag-pb node with these links.
fn node(links: &[(&str, Vec<u8>)], data: &[u8]) -> Vec<u8> {
    let link = |(name, cid): &(&str, Vec<u8>)| {
        field(2, &[field(1, cid), field(2, name.as_bytes()), vec![3 << 3, 1]].concat())
    };
    [links.iter().flat_map(link).collect(), field(1, data)].concat()
}

/// Returns the node of a file above these parts.
fn file(parts: &[(Vec<u8>, usize)]) -> Vec<u8> {
    let sizes = parts.iter().map(|(_, size)| *size as u64);
    let mut data = [vec![8, 2, 3 << 3], varint(sizes.clone().sum())].concat();
    sizes.for_each(|size| data.extend([vec![4 << 3], varint(size)].concat()));
    let links: Vec<_> = parts.iter().map(|(cid, _)| ("", cid.clone())).collect();
    node(&links, &data)
}

fn block(codec: u64, bytes: &[u8]) -> Block {
    Block { cid: Cid::new_v1(codec, Code::Sha2_256.digest(bytes)), data: Bytes::copy_from_slice(bytes) }
}

/// Stores blocks that came from peers, and reads a file below them.
async fn read(content: &Content, blocks: &[Block], path: &str) -> Vec<u8> {
    content.store().put_blocks(blocks).unwrap();
    let at: CidPath = path.parse().unwrap();
    let mut reader = content.open_at(&at).await.unwrap();
    let mut all = Vec::new();
    while let Some(bytes) = reader.next().await {
        all.extend(bytes.unwrap());
    }
    all
}

/// Asserts that all that is stored has the right bytes, and that a collection keeps what is below a pinned root.
async fn assert_kept(content: &Content, root: Cid, path: &str, bytes: &[u8]) {
    content.fetch_all(root, &mut |_| {}).await.unwrap();
    content.pin(root, vec![root]).await.unwrap();
    content.collect(false).await.unwrap();
    let verified = content.verify(true, &mut |_| {}).await.unwrap();
    assert!(verified.damage.is_empty(), "{verified:?}");
    assert!(read(content, &[], path).await == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_chunk_of_a_file_may_be_inline() {
    let first = vec![7; 300_000];
    for length in LENGTHS {
        let dir = tempfile::tempdir().unwrap();
        let content = content(&dir);
        let (leaf, last) = (block(RAW, &first), vec![b'x'; length]);
        let root = block(DAG_PB, &file(&[(leaf.cid.to_bytes(), first.len()), (inline(RAW, &last), length)]));
        let bytes = [&first[..], &last].concat();
        let path = root.cid.to_string();
        assert!(read(&content, &[leaf, root.clone()], &path).await == bytes, "{length}");
        assert_kept(&content, root.cid, &path, &bytes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inner_node_of_a_file_may_be_inline() {
    let dir = tempfile::tempdir().unwrap();
    let content = content(&dir);
    let leaf = block(RAW, &vec![7; 300_000]);
    // One that a `Cid` has room for, one that it has not, and one that carries another.
    for (is_long, parts) in [
        (false, vec![b"abc".to_vec()]),
        (true, vec![vec![b'a'; 20], vec![b'b'; 15]]),
        (true, vec![vec![b'c'; 66]]),
    ] {
        let links: Vec<_> = parts.iter().map(|part| (inline(RAW, part), part.len())).collect();
        let (inner, expected) = (file(&links), parts.concat());
        let size = expected.len();
        assert_eq!(inner.len() > 64, is_long, "{}", inner.len());
        let parts =
            [(inline(DAG_PB, &inner), size), (leaf.cid.to_bytes(), 300_000), (inline(DAG_PB, &inner), size)];
        let root = block(DAG_PB, &file(&parts));
        let bytes = [&expected[..], &leaf.data, &expected].concat();
        let path = root.cid.to_string();
        assert!(read(&content, &[leaf.clone(), root.clone()], &path).await == bytes, "{size}");
        assert_kept(&content, root.cid, &path, &bytes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_entries_of_a_directory_may_be_inline() {
    for length in LENGTHS {
        let dir = tempfile::tempdir().unwrap();
        let content = content(&dir);
        let (small, other) = (vec![b'x'; length], block(RAW, b"other"));
        let below = node(&[("c", inline(RAW, &small[..length.min(20)]))], DIRECTORY);
        let links = [("a", inline(RAW, &small)), ("b", other.cid.to_bytes()), ("d", inline(DAG_PB, &below))];
        let root = block(DAG_PB, &node(&links, DIRECTORY));
        let path = |name: &str| format!("{}/{name}", root.cid);
        assert_eq!(read(&content, &[root.clone(), other], &path("a")).await, small);
        assert_eq!(read(&content, &[], &path("b")).await, b"other");
        assert_eq!(read(&content, &[], &path("d/c")).await, small[..length.min(20)]);
        assert_kept(&content, root.cid, &path("a"), &small).await;
        assert_eq!(read(&content, &[], &path("d/c")).await, small[..length.min(20)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_may_be_inline() {
    let dir = tempfile::tempdir().unwrap();
    let content = content(&dir);
    for length in LENGTHS {
        let bytes = vec![b'x'; length];
        let text = inline_text(&block(RAW, &bytes));
        assert_eq!(read(&content, &[], &text).await, bytes);
        assert_eq!(text.parse::<CidPath>().unwrap().to_string(), text);
    }
    let below = node(&[("a", inline(RAW, &[b'x'; 70]))], DIRECTORY);
    let text = inline_text(&block(DAG_PB, &below));
    assert_eq!(read(&content, &[], &format!("{text}/a")).await, vec![b'x'; 70]);
    let long = inline_text(&block(RAW, &[0; 129]));
    assert!(long.parse::<CidPath>().unwrap_err().to_string().contains("at most 128"));
}

/// Closes the content, and waits for the end of its collector, which visits the store, too.
async fn close(content: &Content) {
    content.close().await;
    let ended = async {
        // Nothing else has a weak handle.
        while Arc::weak_count(&content.0) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, ended).await.expect("the collector ends");
}

/// Counts the visits of the store that something takes.
async fn visits<T>(content: &Content, awaited: impl Future<Output = T>) -> (T, u64) {
    let visits = || content.store().work().visits.load(Ordering::Relaxed);
    let before = visits();
    let found = awaited.await;
    (found, visits() - before)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_here_takes_one_visit_of_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let content = content(&dir);
    let file = block(RAW, b"file");
    let mut blocks = vec![file.clone()];
    for name in ["c", "b", "a"] {
        let entry = [(name, blocks.last().unwrap().cid.to_bytes())];
        blocks.push(block(DAG_PB, &node(&entry, DIRECTORY)));
    }
    close(&content).await;
    content.store().put_blocks(&blocks).unwrap();
    let path = |below: &str| format!("{}/{below}", blocks[3].cid).parse::<CidPath>().unwrap();
    let (found, count) = visits(&content, content.stat(&path("a/b/c"))).await;
    assert_eq!((found.unwrap(), count), (Stat { cid: file.cid, size: 4 }, 1));
    for (below, missing) in [("a/x/c", "x"), ("a/b/c/d", "d")] {
        let (found, count) = visits(&content, content.stat(&path(below))).await;
        assert!(matches!(&found, Err(Error::NoEntry { entry, .. }) if entry == missing), "{found:?}");
        assert_eq!(count, 1);
    }
    // A directory that its CID carries, between others.
    let carried = node(&[("b", blocks[1].cid.to_bytes())], DIRECTORY);
    let root = block(DAG_PB, &node(&[("a", inline(DAG_PB, &carried[..]))], DIRECTORY));
    content.store().put_blocks(std::slice::from_ref(&root)).unwrap();
    let at = format!("{}/a/b/c", root.cid).parse().unwrap();
    assert_eq!(content.stat(&at).await.unwrap().cid, file.cid);
    // One of many directories takes a visit for each 32 of them.
    let mut top = file.clone();
    for _ in 0..63 {
        top = block(DAG_PB, &node(&[("d", top.cid.to_bytes())], DIRECTORY));
        content.store().put_blocks(std::slice::from_ref(&top)).unwrap();
    }
    let at = format!("{}{}", top.cid, "/d".repeat(63)).parse().unwrap();
    let (found, count) = visits(&content, content.stat(&at)).await;
    assert_eq!((found.unwrap().cid, count), (file.cid, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_document_takes_one_visit_of_the_store_and_a_damaged_one_is_an_error() {
    const SIZE: u64 = 2 << 20;
    let dir = tempfile::tempdir().unwrap();
    let bytes: Bytes = (0..SIZE).map(|n| (n ^ n >> 20) as u8).collect();
    let mut writer = BlobWriter::new(&Store::open(dir.path()).unwrap(), Profile::UnixfsV1).unwrap();
    writer.write(bytes.clone()).unwrap();
    let (stored, root) = writer.store().unwrap();
    let blob = |size| Blob { digest: stored.digest.clone(), size, at: root.cid.into(), gc_root: None };
    let content = content(&dir);
    close(&content).await;
    let (read, count) = visits(&content, content.read_blob(&blob(SIZE), SIZE)).await;
    assert!(read.unwrap() == bytes && count == 1, "{count} visits");
    let refused = content.read_blob(&blob(SIZE), SIZE - 1).await.err();
    assert!(matches!(refused, Some(Error::TooLarge { .. })), "{refused:?}");
    let refused = content.read_blob(&blob(SIZE - 1), SIZE).await.err();
    assert!(matches!(refused, Some(Error::Mismatch { .. })), "{refused:?}");
    drop(content);
    let content = self::content(&dir);
    let hex = stored.digest.hex();
    let path = dir.path().join("blobs").join(&hex[..2]).join(&hex);
    File::options().write(true).open(path).unwrap().write_all_at(b"x", 7).unwrap();
    let error = content.read_blob(&blob(SIZE), SIZE).await.err();
    assert!(matches!(error, Some(Error::Damaged { .. })), "{error:?}");
}
