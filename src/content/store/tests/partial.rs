use std::thread;

use ocipfs_node::Block;
use redb::ReadableTableMetadata;

use super::*;
use crate::content::{
    is_retained, retain_root,
    store::{PartialBlob, tables::ORIGINS},
};

fn begin(store: &Store, dag: &Dag, bytes: &Bytes) -> PartialBlob {
    let partial = store.begin_partial(dag.root(), bytes.len() as u64).unwrap();
    for Block { cid, data } in &dag.layout.nodes {
        partial.insert_node(*cid, data.clone()).unwrap();
    }
    partial
}

/// Writes a leaf whose data lies in the middle of its block.
fn write(partial: &PartialBlob, (leaf, block): &(Leaf, Bytes)) {
    let data = match block.len() as u64 == leaf.length {
        true => 0..block.len(),
        // The tail is the tag and the length again.
        false => {
            let tail = 1 + varint_length(leaf.length);
            block.len() - tail - leaf.length as usize..block.len() - tail
        }
    };
    partial.write(leaf, block, data).unwrap();
}

fn varint_length(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

#[test]
fn blocks_written_in_any_order_by_several_threads_are_served_immediately() {
    for profile in [Profile::UnixfsV1, Profile::Legacy] {
        let (dir, store) = temp();
        let bytes = bytes(1, 9 * MIB + 5);
        let dag = Dag::new(profile, &bytes);
        let partial = begin(&store, &dag, &bytes);
        thread::scope(|scope| {
            for start in 0..4 {
                let (partial, dag, store) = (&partial, &dag, &store);
                scope.spawn(move || {
                    for (leaf, block) in dag.leaves.iter().skip(start).step_by(4).rev() {
                        assert!(!partial.has(leaf));
                        write(partial, &(*leaf, block.clone()));
                        assert!(partial.has(leaf));
                        assert_eq!(store.get(&leaf.cid).unwrap().as_ref(), Some(block));
                        if start == 0 {
                            partial.checkpoint().unwrap();
                        }
                    }
                });
            }
        });
        assert!(dag.is_in(&store));
        assert_eq!(partial.read_at(MIB as u64 - 7, 99).unwrap(), bytes[MIB - 7..][..99]);
        assert!(store.file(&dag.root()).unwrap().is_none() && !blob_path(dir.path(), &bytes).exists());
        let stored = partial.finish(&Digest::sha256_of(&bytes), &[], |_| Ok(())).unwrap();
        assert!(
            dag.is_in(&store) && incoming(dir.path()).is_empty() && blob_path(dir.path(), &bytes).exists()
        );
        assert_eq!(whole(&store, &stored), bytes);
        assert!(matches!(partial.checkpoint(), Err(Error::Ended(_))));
        assert!(matches!(store.begin_partial(dag.root(), stored.size), Err(Error::Stored(_))));
        assert!(store.partial().unwrap().is_empty());
        store.remove(&dag.root()).unwrap();
        assert!(dag.is_gone_from(&store));
    }
}

#[test]
fn partial_blob_resumes_from_its_last_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = bytes(1, 6 * MIB);
    let dag = Dag::new(Profile::UnixfsV1, &bytes);
    {
        let store = Store::open(dir.path()).unwrap();
        let partial = begin(&store, &dag, &bytes);
        [4, 1, 2].iter().for_each(|n| write(&partial, &dag.leaves[*n]));
        partial.checkpoint().unwrap();
        write(&partial, &dag.leaves[5]);
        assert_eq!(store.partial().unwrap()[0].written, 4 * MIB as u64);
    }
    let store = Store::open(dir.path()).unwrap();
    let progress = store.partial().unwrap();
    assert_eq!(progress.len(), 1);
    assert_eq!((progress[0].root, progress[0].written), (dag.root(), 3 * MIB as u64));
    let has = |n: usize| store.get(&dag.leaves[n].0.cid).unwrap().is_some();
    assert_eq!([0, 1, 2, 3, 4, 5].map(has), [false, true, true, false, true, false]);
    let partial = store.begin_partial(dag.root(), 6 * MIB as u64).unwrap();
    let is_written = |n: usize| partial.has(&dag.leaves[n].0);
    assert_eq!([0, 1, 2, 3, 4, 5].map(is_written), [false, true, true, false, true, false]);
    assert!(partial.read_at(0, 9).is_err(), "a hole is not read as zeros");
    assert!(matches!(
        partial.finish(&Digest::sha256_of(&bytes), &[], |_| Ok(())),
        Err(Error::Incomplete { .. })
    ));
    [0, 3, 5].iter().for_each(|n| write(&partial, &dag.leaves[*n]));
    let stored = partial.finish(&Digest::sha256_of(&bytes), &[], |_| Ok(())).unwrap();
    assert!(dag.is_in(&store) && whole(&store, &stored) == bytes);
}

#[test]
fn handles_of_one_partial_blob_share_their_state() {
    let (_dir, store) = temp();
    let bytes = bytes(1, 2 * MIB);
    let dag = Dag::new(Profile::UnixfsV1, &bytes);
    let one = begin(&store, &dag, &bytes);
    let other = store.begin_partial(dag.root(), 2 * MIB as u64).unwrap();
    write(&one, &dag.leaves[0]);
    assert!(other.has(&dag.leaves[0].0));
    assert!(matches!(store.begin_partial(dag.root(), 5), Err(Error::Outside { .. })));
    let (leaf, block) = &dag.leaves[1];
    let beyond = Leaf { offset: 2 * MIB as u64 - 1, ..*leaf };
    assert!(matches!(one.write(&beyond, block, 0..block.len()), Err(Error::Outside { .. })));
}

#[test]
fn discarded_partial_blob_leaves_only_shared_blocks() {
    let (dir, store) = temp();
    let bytes = bytes(1, 3 * MIB);
    let dag = Dag::new(Profile::UnixfsV1, &bytes);
    for checkpointed in [false, true] {
        let partial = begin(&store, &dag, &bytes);
        write(&partial, &dag.leaves[0]);
        if checkpointed {
            partial.checkpoint().unwrap();
        }
        write(&partial, &dag.leaves[1]);
        partial.discard().unwrap();
        assert!(dag.is_gone_from(&store) && incoming(dir.path()).is_empty());
        assert_eq!(store.stat().unwrap(), Default::default());
        assert!(matches!(partial.insert_node(dag.root(), Bytes::new()), Err(Error::Ended(_))));
    }
    let partial = begin(&store, &dag, &bytes);
    write(&partial, &dag.leaves[0]);
    partial.checkpoint().unwrap();
    let shorter = bytes.slice(..2 * MIB);
    let other = Dag::new(Profile::UnixfsV1, &shorter);
    put(&store, &shorter, &[&other]);
    partial.discard().unwrap();
    assert!(other.is_in(&store));
}

#[test]
fn a_partial_blob_dropped_before_its_first_checkpoint_leaves_no_files() {
    let (dir, store) = temp();
    let bytes = bytes(1, 3 * MIB);
    let dag = Dag::new(Profile::UnixfsV1, &bytes);
    let partial = begin(&store, &dag, &bytes);
    write(&partial, &dag.leaves[0]);
    drop(partial);
    assert!(dag.is_gone_from(&store) && incoming(dir.path()).is_empty());
}

#[test]
fn a_blob_added_during_its_download_is_stored_once() {
    let (dir, store) = temp();
    let bytes = bytes(1, 3 * MIB);
    let dag = Dag::new(Profile::UnixfsV1, &bytes);
    let partial = begin(&store, &dag, &bytes);
    write(&partial, &dag.leaves[0]);
    partial.checkpoint().unwrap();
    let stored = put(&store, &bytes, &[&dag]);
    dag.leaves[1..].iter().for_each(|leaf| write(&partial, leaf));
    assert_eq!(partial.finish(&stored.digest, &[], |_| Ok(())).unwrap(), stored);
    assert!(dag.is_in(&store) && incoming(dir.path()).is_empty());
    assert_eq!(store.stat().unwrap().layouts, 1);
    store.remove(&dag.root()).unwrap();
    assert!(dag.is_gone_from(&store));
}

#[test]
fn a_second_layout_of_a_stored_blob_is_added_without_a_second_copy() {
    let (dir, store) = temp();
    let bytes = bytes(1, 3 * MIB);
    let [v1, legacy] = [Profile::UnixfsV1, Profile::Legacy].map(|profile| Dag::new(profile, &bytes));
    put(&store, &bytes, &[&v1]);
    let partial = begin(&store, &legacy, &bytes);
    legacy.leaves.iter().for_each(|leaf| write(&partial, leaf));
    partial.finish(&Digest::sha256_of(&bytes), &[], |_| Ok(())).unwrap();
    assert!(incoming(dir.path()).is_empty() && v1.is_in(&store) && legacy.is_in(&store));
    store.remove(&v1.root()).unwrap();
    assert!(legacy.is_in(&store) && blob_path(dir.path(), &bytes).exists());
}

#[test]
fn a_small_blob_is_stored_in_the_index() {
    for length in [0, 168, 64 << 10] {
        let (dir, store) = temp();
        let bytes = bytes(1, length);
        let dag = Dag::new(Profile::Legacy, &bytes);
        let partial = begin(&store, &dag, &bytes);
        write(&partial, &dag.leaves[0]);
        let stored = partial.finish(&Digest::sha256_of(&bytes), &[], |_| Ok(())).unwrap();
        assert!(dag.is_in(&store) && whole(&store, &stored) == bytes && incoming(dir.path()).is_empty());
        assert!(!blob_path(dir.path(), &bytes).exists());
        store.remove(&dag.root()).unwrap();
        assert!(dag.is_gone_from(&store));
    }
}

#[test]
fn a_leaf_with_unusual_framing_is_stored_unchanged() {
    use multihash_codetable::{Code, MultihashDigest};
    let (_dir, store) = temp();
    let bytes = bytes(1, 100_000);
    // The old type of a leaf, `Raw` (0), which Kubo wrote once.
    let (head, tail) = ocipfs_unixfs::leaf_frame(100_000);
    let mut block = [&head[..], &bytes, &tail].concat();
    block[head.len() - 5] = 0;
    let cid = Cid::new_v1(0x70, Code::Sha2_256.digest(&block));
    let block = Bytes::from(block);
    let partial = store.begin_partial(cid, 100_000).unwrap();
    let leaf = Leaf { cid, offset: 0, length: 100_000 };
    partial.write(&leaf, &block, head.len()..head.len() + 100_000).unwrap();
    assert_eq!(store.get(&cid).unwrap().unwrap(), block);
    let stored = partial.finish(&Digest::sha256_of(&bytes), &[], |_| Ok(())).unwrap();
    assert_eq!((store.get(&cid).unwrap().unwrap(), whole(&store, &stored)), (block, bytes));
    assert_eq!(store.size(&cid).unwrap(), Some((head.len() + 100_000 + tail.len()) as u64));
}

#[test]
fn discarding_a_partial_blob_removes_its_origin_row() {
    let (_dir, store) = temp();
    let bytes = bytes(1, 2 * MIB);
    let dag = Dag::new(Profile::UnixfsV1, &bytes);
    let partial = begin(&store, &dag, &bytes);
    write(&partial, &dag.leaves[0]);
    partial.checkpoint().unwrap();
    let noted = || store.database().read(|read| Ok(read.open_table(ORIGINS)?.len()?)).unwrap();
    assert_eq!(noted(), 1);
    partial.discard().unwrap();
    assert_eq!(noted(), 0);
}

#[test]
fn a_blob_whose_gc_root_cannot_be_retained_stays_partial() {
    let (_dir, store) = temp();
    let bytes = bytes(1, 2 * MIB);
    let dag = Dag::new(Profile::UnixfsV1, &bytes);
    let partial = begin(&store, &dag, &bytes);
    dag.leaves.iter().for_each(|leaf| write(&partial, leaf));
    let digest = Digest::sha256_of(&bytes);
    let unheld = partial.finish(&digest, &[], |_| Err(Error::Damaged("no holder".into())));
    assert!(matches!(unheld, Err(Error::Damaged(_))), "{unheld:?}");
    assert!(store.file(&dag.root()).unwrap().is_none() && dag.is_in(&store));
    let root = dag.root();
    partial.finish(&digest, &[], move |write| retain_root(write, "repository/a", &root)).unwrap();
    let is_retained = store.database().read(|read| is_retained(read, &root)).unwrap();
    assert!(store.file(&root).unwrap().is_some() && is_retained);
}
