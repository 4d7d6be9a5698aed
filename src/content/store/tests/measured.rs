//! Figures for a person: `cargo test -- --ignored --nocapture measured`.

use std::{
    fs,
    time::{Duration, Instant},
};

use multihash_codetable::{Code, MultihashDigest};
use ocipfs_unixfs::RAW;

use super::*;
use crate::content::store::{
    files::NewBlobRow,
    layout::{BlockKey, BlockPlace},
    tables::Tables,
};

const BLOBS: u64 = 1_000_000;
const BATCH: u64 = 50_000;

fn cid(n: u64) -> Cid {
    Cid::new_v1(RAW, Code::Sha2_256.digest(&n.to_be_bytes()))
}

/// Adds rows of blobs of one block each, and no files.
fn seed(store: &Store, range: std::ops::Range<u64>) {
    let write = |write: &redb::WriteTransaction| {
        let mut tables = Tables::open(write)?;
        for n in range {
            let sha256 = cid(n).hash().digest().try_into().unwrap();
            let whole = NewBlobRow { sha256, size: MIB as u64, aliases: &[], small: None };
            tables.add_blob(&whole)?;
            tables.own(
                &BlockKey::of(&cid(n)),
                n + 1,
                &BlockPlace::Window { offset: 0, length: MIB as u64 },
            )?;
            tables.add_file(n + 1, &cid(n), &whole)?;
        }
        tables.used_ids(BLOBS + 1)
    };
    store.database().write(write).unwrap();
}

fn look_up(store: &Store, blobs: u64) -> Duration {
    let start = Instant::now();
    for n in 0..10_000 {
        let found = store.size(&cid(n * 7919 % blobs)).unwrap();
        assert_eq!(found, Some(MIB as u64));
    }
    start.elapsed() / 10_000
}

#[test]
#[ignore = "measures a store of a million blobs"]
fn a_store_of_a_million_blobs_opens_quickly_even_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    seed(&store, 0..10_000);
    println!("look-up among 10,000: {:?}", look_up(&store, 10_000));
    let mut at = 10_000;
    while at < BLOBS {
        seed(&store, at..(at + BATCH).min(BLOBS));
        at += BATCH;
    }
    println!("look-up among {BLOBS}: {:?}", look_up(&store, BLOBS));
    let start = Instant::now();
    (0..20).for_each(|n| store.put_blocks(&[Block { cid: cid(BLOBS + n), data: "x".into() }]).unwrap());
    println!("commit of one block: {:?}", start.elapsed() / 20);
    // What a killed process leaves: the file as it is while it is open.
    let crashed = tempfile::tempdir().unwrap();
    let bytes = fs::copy(dir.path().join("index.redb"), crashed.path().join("index.redb")).unwrap();
    // The copy's own writing is not what is measured.
    fs::File::open(crashed.path().join("index.redb")).unwrap().sync_all().unwrap();
    drop(store);
    for (name, dir) in [("closed", &dir), ("crashed", &crashed)] {
        let start = Instant::now();
        let store = Store::open(dir.path()).unwrap();
        let opened = start.elapsed();
        println!("{name}: {} MiB, opened in {opened:?}", bytes >> 20);
        assert!(opened < Duration::from_secs(2));
        assert_eq!(store.stat().unwrap().blobs, BLOBS);
        assert_eq!(store.size(&cid(BLOBS + 19)).unwrap(), Some(1));
    }
}

#[test]
#[ignore = "measures"]
fn blocks_of_256_mib_are_read_and_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let bytes = bytes(1, 256 * MIB);
    let dag = Dag::new(Profile::UnixfsV1, &bytes);
    let partial = store.begin_partial(dag.root(), bytes.len() as u64).unwrap();
    let start = Instant::now();
    for (n, (leaf, block)) in dag.leaves.iter().enumerate().rev() {
        partial.write(leaf, block, 0..block.len()).unwrap();
        if n % 64 == 0 {
            partial.checkpoint().unwrap();
        }
    }
    println!("written, checkpointed: {:?}", start.elapsed());
    let start = Instant::now();
    partial.finish(&Digest::sha256_of(b"whatever"), &[], |_| Ok(())).unwrap();
    println!("finished: {:?}", start.elapsed());
    for round in ["first", "second"] {
        let start = Instant::now();
        dag.leaves.iter().for_each(|(leaf, _)| drop(store.get(&leaf.cid).unwrap().unwrap()));
        println!("{round} reading of all blocks: {:?}", start.elapsed());
    }
    let start = Instant::now();
    assert!(store.remove(&dag.root()).unwrap());
    println!("removed: {:?}", start.elapsed());
}
