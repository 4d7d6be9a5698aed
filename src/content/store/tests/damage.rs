use std::fs;

use super::{verify::flip, *};
use crate::content::store::PartialBlob;

fn write(partial: &PartialBlob, dag: &Dag, n: usize) {
    let (leaf, block) = &dag.leaves[n];
    partial.write(leaf, block, 0..block.len()).unwrap();
}

fn damaged(store: &Store, dir: &Path, bytes: &Bytes, stored: &Stored) {
    flip(&blob_path(dir, bytes), MIB as u64 + 9);
    assert!(store.demote(stored).unwrap());
}

#[test]
fn a_demoted_damaged_blob_keeps_its_valid_windows_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = bytes(1, 3 * MIB);
    let dag = Dag::new(Profile::UnixfsV1, &bytes);
    let sha512 = ocipfs_oci::Hasher::of(ocipfs_oci::Algorithm::Sha512, &bytes);
    let store = Store::open(dir.path()).unwrap();
    let stored = put(&store, &bytes, &[&dag]);
    store.commit_while_stored(&stored, std::slice::from_ref(&sha512), |_, _| Ok(())).unwrap();
    assert!(!store.demote(&stored).unwrap(), "nothing is wrong with it");
    damaged(&store, dir.path(), &bytes, &stored);
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    for digest in [&stored.digest, &sha512] {
        assert!(store.blob(digest).unwrap().is_none() && store.is_lost(digest).unwrap());
    }
    let has = |n: usize| store.get(&dag.leaves[n].0.cid).unwrap().is_some();
    assert_eq!([0, 1, 2].map(has), [true, false, true]);
    let lost = store.lost().unwrap();
    assert_eq!((lost.len(), lost[0].root, lost[0].right), (1, dag.root(), 2 * MIB as u64));
    assert_eq!((store.stat().unwrap().damaged, store.used_bytes().unwrap()), (1, 2 * MIB as u64));
    let partial = store.begin_partial(dag.root(), bytes.len() as u64).unwrap();
    assert_eq!([0, 1, 2].map(|n| partial.has(&dag.leaves[n].0)), [true, false, true]);
    write(&partial, &dag, 1);
    let again = partial.finish(&stored.digest, &[], |_| Ok(())).unwrap();
    assert!(whole(&store, &again) == bytes && dag.is_in(&store) && incoming(dir.path()).is_empty());
    assert!(store.lost().unwrap().is_empty() && !store.is_lost(&sha512).unwrap());
    assert_eq!(store.blob(&sha512).unwrap().map(|stored| stored.digest), Some(stored.digest));
}

#[test]
fn a_push_replaces_a_damaged_blob() {
    for size in [1000, 3 * MIB] {
        let (dir, store) = temp();
        let bytes = bytes(2, size);
        let dag = Dag::new(Profile::UnixfsV1, &bytes);
        let stored = put(&store, &bytes, &[&dag]);
        let remove = || drop(fs::remove_file(blob_path(dir.path(), &bytes)));
        let rot = || {
            if size > MIB {
                flip(&blob_path(dir.path(), &bytes), 5);
            }
        };
        let found = || assert!(size < MIB || store.demote(&stored).unwrap());
        let cases: [&dyn Fn(); 4] = [&remove, &rot, &|| (remove(), found()).1, &|| (rot(), found()).1];
        for (n, damage) in cases.into_iter().enumerate() {
            damage();
            let again = put(&store, &bytes, &[&dag]);
            assert!(whole(&store, &again) == bytes && dag.is_in(&store), "case {n}, {size} bytes");
            assert_eq!((store.stat().unwrap().blobs, store.stat().unwrap().partial), (1, 0), "case {n}");
            assert_eq!((incoming(dir.path()).len(), store.used_bytes().unwrap()), (0, size as u64));
        }
    }
}

#[test]
fn a_blob_whose_file_is_missing_or_short_is_not_present() {
    for is_missing in [true, false] {
        let (dir, store) = temp();
        let bytes = bytes(3, 2 * MIB);
        let dag = Dag::new(Profile::UnixfsV1, &bytes);
        let stored = put(&store, &bytes, &[&dag]);
        assert_eq!(store.present(&stored.digest).unwrap(), Some(stored.clone()));
        let path = blob_path(dir.path(), &bytes);
        match is_missing {
            true => fs::remove_file(&path).unwrap(),
            false => fs::File::options().write(true).open(&path).unwrap().set_len(MIB as u64).unwrap(),
        }
        assert_eq!(store.present(&stored.digest).unwrap(), None);
        assert!(store.is_lost(&stored.digest).unwrap());
        assert_eq!(store.lost().unwrap()[0].right, if is_missing { 0 } else { MIB as u64 });
    }
}

#[test]
fn a_damaged_blob_with_two_layouts_keeps_both() {
    let (dir, store) = temp();
    let bytes = bytes(4, 2 * MIB);
    let dags = [Profile::UnixfsV1, Profile::Legacy].map(|profile| Dag::new(profile, &bytes));
    let stored = put(&store, &bytes, &[&dags[0], &dags[1]]);
    damaged(&store, dir.path(), &bytes, &stored);
    let written: Vec<u64> = store.partial().unwrap().iter().map(|file| file.written).collect();
    assert_eq!(written, [MIB as u64, 7 * MIB as u64 / 4]);
    let partial = store.begin_partial(dags[0].root(), bytes.len() as u64).unwrap();
    write(&partial, &dags[0], 1);
    let again = partial.finish(&stored.digest, &[], |_| Ok(())).unwrap();
    assert!(whole(&store, &again) == bytes && dags[0].is_in(&store));
    let other = store.begin_partial(dags[1].root(), bytes.len() as u64).unwrap();
    assert_eq!(other.written(), 7 * MIB as u64 / 4);
    drop((partial, other, store));
    let store = Store::open(dir.path()).unwrap();
    assert!(whole(&store, &again) == bytes && dags[0].is_in(&store));
}

#[test]
fn a_corrupt_block_is_not_served_and_its_blob_is_marked_as_damaged() {
    let (dir, store) = temp();
    let one = bytes(5, 2 * MIB);
    // Shares its second window.
    let other: Bytes = [&bytes(6, MIB)[..], &one[MIB..]].concat().into();
    let dags = [&one, &other].map(|bytes| Dag::new(Profile::UnixfsV1, bytes));
    let stored = put(&store, &one, &[&dags[0]]);
    let leaf = dags[0].leaves[1].0;
    assert_eq!(store.get_verified(&leaf.cid).unwrap(), Some(one.slice(MIB..)));
    flip(&blob_path(dir.path(), &one), leaf.offset + 3);
    assert_eq!(store.get_verified(&leaf.cid).unwrap(), None);
    assert!(store.is_lost(&stored.digest).unwrap() && store.get(&leaf.cid).unwrap().is_none());
    // Where another file has it right, that one gives it.
    put(&store, &one, &[&dags[0]]);
    put(&store, &other, &[&dags[1]]);
    flip(&blob_path(dir.path(), &one), leaf.offset + 3);
    assert_eq!(store.get_verified(&leaf.cid).unwrap(), Some(one.slice(MIB..)));
    assert!(store.is_lost(&stored.digest).unwrap());
}

#[test]
fn a_whole_read_verifies_the_digest_and_withholds_the_last_bytes_of_a_damaged_blob() {
    let (dir, store) = temp();
    let bytes = bytes(7, 2 * MIB);
    let stored = put(&store, &bytes, &[&Dag::new(Profile::UnixfsV1, &bytes)]);
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    flip(&blob_path(dir.path(), &bytes), 7);
    let file = store.open_file(&stored).unwrap();
    let mut check = file.check(&(0..bytes.len() as u64));
    assert!(file.check(&(0..9)).is_none());
    assert!(file.read_next(&mut check, 0, MIB).is_ok());
    let error = file.read_next(&mut check, MIB as u64, MIB).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(store.is_lost(&stored.digest).unwrap());
    let again = put(&store, &bytes, &[&Dag::new(Profile::UnixfsV1, &bytes)]);
    let file = store.open_file(&again).unwrap();
    assert!(file.check(&(0..bytes.len() as u64)).is_none(), "it was hashed when it came");
}

#[test]
fn a_failed_unlink_is_retried_and_does_not_block_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let blobs: Vec<Bytes> = (10..13).map(|n| bytes(n, 100_000)).collect();
    let dags: Vec<Dag> = blobs.iter().map(|bytes| Dag::new(Profile::UnixfsV1, bytes)).collect();
    for (bytes, dag) in blobs.iter().zip(&dags) {
        put(&store, bytes, &[dag]);
    }
    // A directory is not unlinked.
    let stuck = blob_path(dir.path(), &blobs[0]);
    fs::remove_file(&stuck).unwrap();
    fs::create_dir(&stuck).unwrap();
    let roots: Vec<Cid> = dags[..2].iter().map(Dag::root).collect();
    assert_eq!(store.remove_layouts(&roots, |_, _| Ok(true)).unwrap(), roots);
    assert!(!blob_path(dir.path(), &blobs[1]).exists());
    let make_file = || {
        fs::remove_dir(&stuck).unwrap();
        fs::write(&stuck, b"x").unwrap();
    };
    make_file();
    store.remove(&dags[2].root()).unwrap();
    assert!(!stuck.exists(), "it is unlinked with the next");
    // And after a restart.
    put(&store, &blobs[0], &[&dags[0]]);
    fs::remove_file(&stuck).unwrap();
    fs::create_dir(&stuck).unwrap();
    store.remove(&dags[0].root()).unwrap();
    drop(store);
    drop(Store::open(dir.path()).unwrap());
    make_file();
    drop(Store::open(dir.path()).unwrap());
    assert!(!stuck.exists());
}

#[test]
fn a_crash_during_the_demotion_of_a_damaged_blob_leaves_it_stored_or_removed() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = bytes(20, 2 * MIB);
    let dag = Dag::new(Profile::UnixfsV1, &bytes);
    let store = Store::open(dir.path()).unwrap();
    let stored = put(&store, &bytes, &[&dag]);
    let (place, moved) =
        (blob_path(dir.path(), &bytes), dir.path().join("incoming").join(stored.id.to_string()));
    drop(store);
    // Moved, and the rows are as they were.
    fs::rename(&place, &moved).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(place.exists() && whole(&store, &stored) == bytes);
    damaged(&store, dir.path(), &bytes, &stored);
    drop(store);
    // The rows changed, and the file is where it was.
    fs::rename(&moved, &place).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(!place.exists() && incoming(dir.path()).is_empty() && store.partial().unwrap().is_empty());
    assert!(!store.is_lost(&stored.digest).unwrap() && dag.is_gone_from(&store));
    assert_eq!(store.used_bytes().unwrap(), 0);
    assert!(whole(&store, &put(&store, &bytes, &[&dag])) == bytes);
}
