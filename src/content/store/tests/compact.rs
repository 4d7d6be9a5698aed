use std::time::Duration;

use multihash_codetable::{Code, MultihashDigest};

use super::*;
use crate::content::store::compact::Compaction;

/// A store whose index has 25 MiB, most of them free.
fn sparse(dir: &TempDir) -> (Store, Block) {
    let store = Store::open(dir.path()).unwrap();
    let dag = Dag::new(Profile::UnixfsV1, &bytes(7, 400 * (64 << 10)));
    let blocks: Vec<Block> = dag.leaves.iter().flat_map(|(_, data)| pieces(data)).collect();
    blocks.chunks(50).for_each(|blocks| store.put_blocks(blocks).unwrap());
    let cids: Vec<Cid> = blocks.iter().map(|block| block.cid).collect();
    let last = blocks.last().unwrap().clone();
    store.remove_blocks(&cids[..cids.len() - 1], |_, _| Ok(true)).unwrap();
    assert!(store.index_bytes() > 20 << 20, "{}", store.index_bytes());
    (store, last)
}

/// Blocks of 64 KiB, which are rows of the index.
fn pieces(data: &Bytes) -> Vec<Block> {
    let block = |part: &[u8]| {
        let data = data.slice_ref(part);
        Block { cid: Cid::new_v1(ocipfs_unixfs::RAW, Code::Sha2_256.digest(&data)), data }
    };
    data.chunks(64 << 10).map(block).collect()
}

#[test]
fn an_index_too_large_to_be_compacted_while_serving_is_compacted_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let (store, last) = sparse(&dir);
    let before = store.index_bytes();
    assert_eq!(store.compact_index_of(0, Duration::ZERO).unwrap(), Compaction::AtStart);
    assert_eq!(store.index_bytes(), before);
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    let after = store.index_bytes();
    assert!(after < 3 << 20, "{after}");
    assert_eq!(store.get(&last.cid).unwrap(), Some(last.data));
    assert_eq!(store.compact_index().unwrap(), Compaction::NotNeeded);
}

#[test]
fn an_index_with_a_long_read_is_compacted_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = sparse(&dir);
    let during_a_read = store.database().read(|_| store.compact_index_of(u64::MAX, Duration::ZERO));
    assert_eq!(during_a_read.unwrap(), Compaction::AtStart);
    assert_eq!(store.compact_index().unwrap(), Compaction::Done);
    assert!(store.index_bytes() < 3 << 20);
    let before = store.index_bytes();
    drop(store);
    assert!(Store::open(dir.path()).unwrap().index_bytes() <= before + (1 << 20));
}
