use std::fs;

use multihash_codetable::{Code, MultihashDigest};
use ocipfs_oci::{Algorithm, Hasher};

use super::*;
use ocipfs_unixfs::RAW;

#[test]
fn a_blob_is_read_whole_by_range_and_as_blocks_of_either_profile() {
    for profile in [Profile::UnixfsV1, Profile::Legacy] {
        for length in [0, 1, 168, 64 << 10, (64 << 10) + 1, 256 << 10, MIB, 3 * MIB + 77] {
            let (_dir, store) = temp();
            let bytes = bytes(length as u64, length);
            let dag = Dag::new(profile, &bytes);
            let stored = put(&store, &bytes, &[&dag]);
            assert_eq!((stored.size, stored.root), (length as u64, dag.root()));
            assert_eq!(whole(&store, &stored), bytes, "{profile:?} {length}");
            assert!(dag.is_in(&store), "{profile:?} {length}");
            assert_eq!(store.blob(&stored.digest).unwrap().unwrap(), stored);
            assert_eq!(store.file(&dag.root()).unwrap().unwrap(), stored);
            let file = store.open_file(&stored).unwrap();
            assert_eq!(
                file.read_at(length as u64 / 2, length / 3).unwrap(),
                bytes[length / 2..][..length / 3]
            );
            assert!(file.read_at(length as u64, 1).is_err());
        }
    }
}

#[test]
fn stored_blobs_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (large, small) = (bytes(1, 3 * MIB), bytes(2, 1000));
    let (one, other) = (Dag::new(Profile::UnixfsV1, &large), Dag::new(Profile::Legacy, &small));
    let stored = {
        let store = Store::open(dir.path()).unwrap();
        [put(&store, &large, &[&one]), put(&store, &small, &[&other])]
    };
    let store = Store::open(dir.path()).unwrap();
    assert!(one.is_in(&store) && other.is_in(&store));
    assert!(whole(&store, &stored[0]) == large && whole(&store, &stored[1]) == small);
    let third = put(&store, &bytes(3, 9), &[&Dag::new(Profile::Legacy, &bytes(3, 9))]);
    assert!(third.id > stored[1].id && stored[1].id > stored[0].id, "ids are not given again");
}

#[test]
fn both_versions_of_a_cid_are_one_block() {
    let (_dir, store) = temp();
    let dag = Dag::new(Profile::Legacy, &bytes(1, MIB));
    put(&store, &bytes(1, MIB), &[&dag]);
    for cid in [dag.root(), dag.leaves[0].0.cid] {
        let v1 = Cid::new_v1(cid.codec(), *cid.hash());
        assert_ne!(cid, v1);
        assert_eq!(store.get(&v1).unwrap(), store.get(&cid).unwrap());
        assert!(store.get(&v1).unwrap().is_some());
    }
    assert!(store.file(&Cid::new_v1(0x70, *dag.root().hash())).unwrap().is_some());
}

#[test]
fn several_layouts_of_the_same_bytes_share_one_file() {
    let (dir, store) = temp();
    let bytes = bytes(1, 3 * MIB);
    let [v1, legacy] = [Profile::UnixfsV1, Profile::Legacy].map(|profile| Dag::new(profile, &bytes));
    let first = put(&store, &bytes, &[&v1]);
    let second = put(&store, &bytes, &[&legacy]);
    // The whole as one raw block: what a digest alone is found by.
    let cid = Cid::new_v1(RAW, Code::Sha2_256.digest(&bytes));
    let leaf = Leaf { cid, offset: 0, length: bytes.len() as u64 };
    let third =
        store.add_layout(&first, &BlobLayout { root: cid, leaves: vec![leaf], nodes: vec![] }).unwrap();
    assert_eq!(store.get(&cid).unwrap().unwrap(), bytes);
    assert!(v1.is_in(&store) && legacy.is_in(&store) && incoming(dir.path()).is_empty());
    let stat = store.stat().unwrap();
    assert_eq!((stat.blobs, stat.layouts, stat.bytes), (1, 3, 3 * MIB as u64));
    assert_eq!(put(&store, &bytes, &[&v1, &legacy]), first, "nothing is added twice");
    for (left, stored) in [(2, first), (1, second), (0, third)] {
        assert!(blob_path(dir.path(), &bytes).exists());
        let file = store.open_file(&stored).unwrap();
        assert!(store.remove(&stored.root).unwrap() && !store.remove(&stored.root).unwrap());
        assert_eq!(store.stat().unwrap().layouts, left);
        assert_eq!(file.read_at(0, 9).unwrap(), bytes[..9], "who has it open reads on");
    }
    assert!(!blob_path(dir.path(), &bytes).exists());
    assert!(v1.is_gone_from(&store) && legacy.is_gone_from(&store));
    assert_eq!(store.stat().unwrap(), Default::default());
    assert!(matches!(
        store.add_layout(&Stored { root: cid, ..whole_of(&bytes) }, &v1.layout),
        Err(Error::Gone(_))
    ));
}

fn whole_of(bytes: &[u8]) -> Stored {
    let root = Cid::new_v1(RAW, Code::Sha2_256.digest(bytes));
    Stored { id: 99, digest: Digest::sha256_of(bytes), size: bytes.len() as u64, root }
}

#[test]
fn a_block_shared_by_several_blobs_is_removed_with_the_last() {
    let (_dir, store) = temp();
    let shared = bytes(1, MIB);
    let blobs: Vec<Bytes> = (0..3)
        .map(|n| [&bytes(10 + n, n as usize * MIB)[..], &shared, &bytes(20 + n, 5)].concat().into())
        .collect();
    let dags: Vec<Dag> = blobs.iter().map(|bytes| Dag::new(Profile::UnixfsV1, bytes)).collect();
    let cid = Cid::new_v1(RAW, Code::Sha2_256.digest(&shared));
    store.put_blocks(&[Block { cid, data: shared.clone() }]).unwrap();
    blobs.iter().zip(&dags).for_each(|(bytes, dag)| drop(put(&store, bytes, &[dag])));
    store.remove_blocks(&[cid], |_, _| Ok(true)).unwrap();
    for n in [1, 0] {
        store.remove(&dags[n].root()).unwrap();
        assert!(dags[2].is_in(&store));
        assert_eq!(store.get(&cid).unwrap().unwrap(), shared);
    }
    store.put_blocks(&[Block { cid, data: shared.clone() }]).unwrap();
    store.remove(&dags[2].root()).unwrap();
    assert_eq!(store.get(&cid).unwrap().unwrap(), shared);
    store.remove_blocks(&[cid], |_, _| Ok(true)).unwrap();
    assert!(dags.iter().all(|dag| dag.is_gone_from(&store)));
}

#[test]
fn equal_blocks_of_one_blob_are_stored_once() {
    let (_dir, store) = temp();
    let zeros = Bytes::from(vec![0; 5 * MIB + 3]);
    for profile in [Profile::UnixfsV1, Profile::Legacy] {
        let dag = Dag::new(profile, &zeros);
        let stored = put(&store, &zeros, &[&dag]);
        assert!(dag.is_in(&store) && whole(&store, &stored) == zeros);
        store.remove(&dag.root()).unwrap();
        assert!(dag.is_gone_from(&store));
    }
}

#[test]
fn a_blob_is_found_by_several_digests() {
    let (_dir, store) = temp();
    let bytes = bytes(1, 200_000);
    let sha512 = {
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(&bytes);
        hasher.finish()
    };
    let dag = Dag::new(Profile::UnixfsV1, &bytes);
    let draft = |digest: &Digest, aliases: &[Digest]| {
        let mut draft = store.draft().unwrap();
        draft.write(&bytes).unwrap();
        draft.store(digest, aliases, std::slice::from_ref(&dag.layout))
    };
    assert!(matches!(draft(&sha512, &[]), Err(Error::NotSha256(_))));
    assert!(store.blob(&sha512).unwrap().is_none());
    let stored = draft(&Digest::sha256_of(&bytes), std::slice::from_ref(&sha512)).unwrap();
    assert_eq!(store.blob(&sha512).unwrap(), Some(stored));
    store.remove(&dag.root()).unwrap();
    assert!(store.blob(&sha512).unwrap().is_none());
}

#[test]
fn a_dropped_draft_leaves_no_files() {
    let (dir, store) = temp();
    let mut draft = store.draft().unwrap();
    draft.write(&bytes(1, 40 * MIB)).unwrap();
    assert_eq!(incoming(dir.path()).len(), 1);
    drop(draft);
    assert!(incoming(dir.path()).is_empty());
    let mut draft = store.draft().unwrap();
    draft.write(&bytes(1, MIB)).unwrap();
    assert!(matches!(draft.store(&Digest::sha256_of(b""), &[], &[]), Err(Error::NoLayout)));
    assert!(
        incoming(dir.path()).is_empty() && fs::read_dir(dir.path().join("blobs")).unwrap().next().is_none()
    );
}

#[test]
fn drafts_are_committed_atomically_together() {
    let (dir, store) = temp();
    let all = [bytes(1, 3 * MIB), bytes(2, 100), bytes(3, 100_000)];
    let dags: Vec<Dag> = all.iter().map(|bytes| Dag::new(Profile::UnixfsV1, bytes)).collect();
    let digests: Vec<Digest> = all.iter().map(|bytes| Digest::sha256_of(bytes)).collect();
    let sealed = || {
        let sealed = all.iter().map(|bytes| {
            let mut draft = store.draft().unwrap();
            draft.write(bytes).unwrap();
            draft.sync().unwrap()
        });
        sealed.collect::<Vec<SyncedDraft>>()
    };
    let drafts = sealed();
    // Of the last one no layout is said, which is found out in the transaction.
    let ready =
        |n: usize, layouts| DraftToStore { draft: &drafts[n], digest: &digests[n], aliases: &[], layouts };
    let layout = |n: usize| std::slice::from_ref(&dags[n].layout);
    let failed = store.store_all(&[ready(0, layout(0)), ready(1, layout(1)), ready(2, &[])], &[]);
    assert!(matches!(failed, Err(Error::NoLayout)));
    assert_eq!(store.stat().unwrap(), StoreStat::default());
    let ready: Vec<DraftToStore> = (0..3).map(|n| ready(n, layout(n))).collect();
    let stored = store.store_all(&ready, &[]).unwrap();
    for n in 0..3 {
        assert!(whole(&store, &stored[n]) == all[n] && dags[n].is_in(&store));
    }
    drop(ready);
    drop(drafts);
    assert!(incoming(dir.path()).is_empty());
    assert_eq!(store.stat().unwrap().blobs, 3);
}
