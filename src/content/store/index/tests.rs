use std::{collections::BTreeSet, sync::atomic::Ordering};

use multihash_codetable::{Code, MultihashDigest};
use ocipfs_oci::Digest;
use ocipfs_unixfs::CidPath;

use super::*;
use crate::content::store::counting::counting;

fn cid(n: u8) -> Cid {
    Cid::new_v1(0x55, Code::Sha2_256.digest(&[n]))
}

fn sorted(mut gc_root: GcRoot) -> GcRoot {
    gc_root.roots.sort();
    gc_root.blobs.sort_by_key(|(digest, _)| digest.to_string());
    gc_root
}

#[test]
fn root_references_survive_reopen_and_release_frees_unshared_roots() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");
    let open = || Index::new(Arc::new(Database::open(&path).unwrap()));
    let blobs = vec![(Digest::sha256_of(b"shared"), CidPath::from(cid(8)))];
    let one = GcRoot::new(true, &[cid(1), cid(8)], blobs);
    let two = GcRoot::new(false, &[cid(2), cid(8)], vec![]);
    {
        let index = open();
        assert!(
            index.counts().unwrap() == RetainedCounts::default() && index.gc_root(&cid(1)).unwrap().is_none()
        );
        index.retain(&cid(1), &one).unwrap();
        index.retain(&cid(1), &one).unwrap();
        index.retain(&cid(2), &two).unwrap();
    }
    let index = open();
    assert_eq!(index.counts().unwrap(), RetainedCounts { images: 0, layers: 1, pulled: 1 });
    let retained = [1, 2].map(|n| index.gc_root(&cid(n)).unwrap().map(sorted));
    assert_eq!(retained, [Some(sorted(one)), Some(sorted(two))]);
    assert_eq!(index.release(&cid(1)).unwrap(), Some(vec![cid(1)]));
    assert_eq!(index.release(&cid(1)).unwrap(), None);
    let free = index.release(&cid(2)).unwrap().unwrap();
    assert_eq!(BTreeSet::from_iter(free), [cid(2), cid(8)].into());
}

#[test]
fn a_root_is_free_when_its_last_gc_root_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let database = Arc::new(Database::open(&dir.path().join("index.redb")).unwrap());
    let index = Index::new(database.clone());
    index.retain(&cid(1), &GcRoot::new(true, &[cid(8)], vec![])).unwrap();
    let gc_root_keys = ["repository/a", "repository/b"];
    for gc_root_key in gc_root_keys {
        database.write(|write| retain_root(write, gc_root_key, &cid(8))).unwrap();
    }
    assert_eq!(index.release(&cid(1)).unwrap().unwrap(), []);
    let free = gc_root_keys
        .map(|gc_root_key| database.write(|write| release_root(write, gc_root_key, &cid(8))).unwrap());
    assert_eq!(free, [false, true]);
}

#[test]
fn one_gc_root_retains_many_blobs_and_stays_kept() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::new(Arc::new(Database::open(&dir.path().join("index.redb")).unwrap()));
    let part = |n: u8, is_kept| {
        let blob = (Digest::sha256_of(&[n]), CidPath::from(cid(n)));
        GcRoot::new(is_kept, &[cid(1), cid(n)], vec![blob])
    };
    for (n, is_kept) in [(2, true), (3, false), (3, false)] {
        index.retain_also(&cid(1), part(n, is_kept)).unwrap();
    }
    let retained = index.gc_root(&cid(1)).unwrap().unwrap();
    let blobs = [part(2, true).blobs, part(3, true).blobs].concat();
    assert_eq!(sorted(retained.clone()), sorted(GcRoot::new(true, &[cid(1), cid(2), cid(3)], blobs)));
    assert_eq!(index.release(&cid(1)).unwrap().unwrap(), retained.roots());
}

/// Bytes that are written for one more blob under a GC root of so many.
fn written_for_a_blob(blobs: u32) -> u64 {
    let (database, written) = counting();
    let hold = |from: u32, to: u32| {
        database
            .write(|write| {
                (from..to).try_for_each(|n| {
                    let bytes = n.to_be_bytes();
                    let root = Cid::new_v1(0x55, Code::Sha2_256.digest(&bytes));
                    let blob = (Digest::sha256_of(&bytes), CidPath::from(root));
                    retain_also(write, &cid(1), &GcRoot::new(false, &[cid(1), root], vec![blob]))
                })
            })
            .unwrap();
    };
    hold(0, blobs);
    let before = written.load(Ordering::Relaxed);
    (blobs..blobs + 8).for_each(|n| hold(n, n + 1));
    written.load(Ordering::Relaxed) - before
}

#[test]
fn the_cost_of_retaining_a_blob_does_not_grow_with_the_blobs_of_a_gc_root() {
    let [few, many] = [1000, 4000].map(written_for_a_blob);
    assert!(many * 2 < few * 3, "{few} bytes at 1,000 blobs, {many} at 4,000");
}

#[test]
fn a_concurrent_release_and_retain_of_a_gc_root_leave_no_orphaned_rows() {
    let (database, _) = counting();
    let index = Index::new(database.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (0..200).for_each(|n| index.retain_also(&cid(1), GcRoot::new(true, &[cid(n)], vec![])).unwrap())
        });
        scope.spawn(|| (0..200).for_each(|_| drop(index.release(&cid(1)).unwrap())));
    });
    index.release(&cid(1)).unwrap();
    let retained = database.read(|read| Ok((0..200).any(|n| is_retained(read, &cid(n)).unwrap()))).unwrap();
    assert!(!retained, "a root is retained under a key that is gone");
}
