use futures::stream;
use ocipfs_node::Node;
use ocipfs_unixfs::{Chunker, DirectorySize, HashFunction};

use super::*;
use crate::content::{Origin, Settings};

/// The options of `ipfs add` of Kubo 0.43 without any.
fn kubo() -> FileOptions {
    FileOptions {
        chunker: Chunker::default(),
        dag: DagOptions {
            cid_v0: true,
            hash: HashFunction::Sha2_256,
            raw_leaves: false,
            max_links: 174,
            inline: None,
            trickle: false,
            directory_size: DirectorySize::Links,
            metadata: Metadata::default(),
        },
    }
}

fn v1() -> FileOptions {
    FileOptions { dag: DagOptions { cid_v0: false, raw_leaves: true, ..kubo().dag }, ..kubo() }
}

fn with(options: FileOptions, change: impl FnOnce(&mut FileOptions)) -> FileOptions {
    let mut options = options;
    change(&mut options);
    options
}

fn content(dir: &std::path::Path) -> Content {
    let (store, node) = (Store::open(dir).unwrap(), Node::offline(dir).unwrap());
    Content::new(store, node, Settings::default()).unwrap()
}

/// The vectors' input: byte `i` is the top byte of `i` times a constant.
fn input(length: usize) -> Bytes {
    (0..length as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

fn body(bytes: &Bytes) -> impl Stream<Item = Result<Bytes, String>> + Unpin {
    let pieces: Vec<_> = bytes.chunks(100_001).map(|piece| Ok(bytes.slice_ref(piece))).collect();
    stream::iter(pieces)
}

#[tokio::test]
async fn added_files_have_the_cids_that_kubo_gives_them_with_the_same_options() {
    let dir = tempfile::tempdir().unwrap();
    let content = content(dir.path());
    let small_v0 = "QmdcgzsHkxDCFmYqNatZH4YVhqmxeszwsNRTS1fzrquU1M";
    let small_raw = "bafkreiapvncivkbnypb66ot7ofpfmzliuryynjv6sufdccdetpbriszauu";
    let v1_big = "bafybeicmkvrau4qfsrvz347gfidg2d4r4lq5u3k6pt3l3o3pxpt4ri7pye";
    for (options, big, small) in [
        (kubo(), "QmRWuQR9zpYndLUtSgF7jSnemBn9yiWwG2HP6ooRvaRV2e", small_v0),
        (v1(), v1_big, small_raw),
        (
            with(v1(), |options| options.dag.raw_leaves = false),
            "bafybeifhczkhwfptxw6sqkzpubl57fka4nl52bjgo2avafjaxwdrsanvjq",
            "bafybeihc7mxvzdhsdzicgcjtlc2e2y44khkyayczh3gckhuxywx2xvm64a",
        ),
        (
            with(kubo(), |options| options.dag.raw_leaves = true),
            "QmTUdCzxaRhuzaxWPtMQwaXmyJCNnEYNg2rFmceqCFrEEL",
            small_raw,
        ),
        (
            with(kubo(), |options| options.chunker = Chunker::Size(1000)),
            "QmUiuWYKbYJxzTGj5zHiBcGv7kxeCH4kXk2AyS2c6Ri6EN",
            small_v0,
        ),
        (
            with(kubo(), |options| options.chunker = Chunker::Buzhash),
            "QmcyGDpAgPbFYeAXcaiix2NLhBqYjKgaoq2oFkcJ1GYizE",
            small_v0,
        ),
        (
            with(v1(), |options| options.dag.hash = HashFunction::Blake3_256),
            "bafyb4icadna75ykhegd7fqzv6z73aghaf3waa4ar54dwcwfslvk5depvyq",
            "bafkr4iaqjtqjr4gjt73qph6gjzxgatxk4xkpivkt744mjblhxlsiemqufa",
        ),
        (
            with(v1(), |options| options.dag.inline = Some(32)),
            v1_big,
            "bafkqafaaty6nu6axwvj7ddzozrvarj2f4oar7pq",
        ),
        (
            with(v1(), |options| options.dag.max_links = 3),
            "bafybeifliuabrdbwfmb7bqm4zvmm4kfbbbbukmep2ws2lk3ao64dlsemzu",
            small_raw,
        ),
    ] {
        for (length, cid) in [(3_000_000, big), (20, small)] {
            let bytes = input(length);
            for is_dry in [true, false] {
                let mut adder = content.adder(options, is_dry).await;
                let root = adder.file(body(&bytes), |_| {}).await.unwrap();
                assert_eq!((root.cid.to_string(), root.size), (cid.into(), length as u64), "{options:?}");
                adder.commit(vec![root.cid], "").await.unwrap();
            }
            let root: Cid = cid.parse().unwrap();
            let read = content.open_at(&root.into()).await.unwrap().all().await.unwrap();
            assert!(read == bytes, "{options:?}");
        }
    }
}

#[tokio::test]
async fn an_added_file_is_public_and_kept_only_by_its_pin() {
    let dir = tempfile::tempdir().unwrap();
    let content = content(dir.path());
    let mut adder = content.adder(kubo(), false).await;
    let file = adder.file(body(&input(100_000)), |_| {}).await.unwrap();
    let link = adder.symlink("file").await.unwrap();
    let entries = [("file".to_owned(), file), ("link".to_owned(), link)].into();
    let directory = adder.directory(entries).await.unwrap();
    assert!(!adder.is_committed());
    adder.commit(vec![directory.cid], "name").await.unwrap();
    assert!(adder.is_committed());
    drop(adder);
    assert_eq!(content.store().origin(&file.cid).unwrap(), Some(Origin::Peers));
    assert_eq!(content.collect(false).await.unwrap().bytes, 0);
    let pins = content.pin_infos().await.unwrap();
    assert_eq!((pins.len(), pins[0].cid, pins[0].name.as_str()), (1, directory.cid, "name"));
    assert!(content.unpin_later(&directory.cid).await.unwrap());
    assert!(content.is_here(&file.cid).await.unwrap(), "until the next collection");
    content.collect(false).await.unwrap();
    for root in [file, link, directory] {
        assert!(!content.is_here(&root.cid).await.unwrap());
    }
}

#[tokio::test]
async fn a_file_whose_body_breaks_off_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let content = content(dir.path());
    let mut adder = content.adder(kubo(), false).await;
    let bytes = input(300_000);
    let pieces = [Ok(bytes.clone()), Ok(bytes), Err("gone".to_owned())];
    let broken = adder.file(stream::iter(pieces), |_| {}).await.unwrap_err();
    assert!(matches!(broken, AddError::Body(ref why) if why == "gone"), "{broken}");
    let short = with(kubo(), |options| options.chunker = Chunker::Size(1));
    let mut adder = content.adder(short, true).await;
    let many = adder.file(body(&input(600_000)), |_| {}).await.unwrap_err();
    assert!(matches!(many, AddError::TooManyChunks), "{many}");
    drop(adder);
    assert_eq!(content.store_stat().await.unwrap().blobs, 0);
    assert_eq!(std::fs::read_dir(dir.path().join("incoming")).unwrap().count(), 0);
}
