//! The moments of a crash, made by hand between one opening and the next.

use std::fs;

use super::*;
use crate::content::store::{disk::Disk, tables::Tables};

/// A directory where one blob is stored and another, of whose four leaves two are saved, is being downloaded.
fn house() -> (TempDir, Bytes, Dag, Dag) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let bytes_stored = bytes(1, 2 * MIB);
    let dag = Dag::new(Profile::UnixfsV1, &bytes_stored);
    put(&store, &bytes_stored, &[&dag]);
    let other = Dag::new(Profile::UnixfsV1, &bytes(2, 4 * MIB));
    let partial = store.begin_partial(other.root(), 4 * MIB as u64).unwrap();
    other.layout.nodes.iter().for_each(|node| partial.insert_node(node.cid, node.data.clone()).unwrap());
    for (leaf, block) in &other.leaves[..2] {
        partial.write(leaf, block, 0..block.len()).unwrap();
    }
    partial.checkpoint().unwrap();
    (dir, bytes_stored, dag, other)
}

fn id_of(store: &Store, dag: &Dag) -> u64 {
    store.file(&dag.root()).unwrap().unwrap().id
}

#[test]
fn a_missed_rename_is_completed_after_a_crash() {
    let (dir, bytes, dag, _) = house();
    let id = id_of(&Store::open(dir.path()).unwrap(), &dag);
    let place = blob_path(dir.path(), &bytes);
    fs::rename(&place, dir.path().join("incoming").join(id.to_string())).unwrap();
    fs::remove_dir(place.parent().unwrap()).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(place.exists() && dag.is_in(&store) && incoming(dir.path()).len() == 1);
}

#[test]
fn a_file_is_found_between_commit_and_rename() {
    let (dir, bytes, dag, _) = house();
    let store = Store::open(dir.path()).unwrap();
    let id = id_of(&store, &dag);
    fs::rename(blob_path(dir.path(), &bytes), dir.path().join("incoming").join(id.to_string())).unwrap();
    assert!(dag.is_in(&store));
    assert!(store.remove(&dag.root()).unwrap() && incoming(dir.path()).len() == 1);
}

#[test]
fn a_second_copy_of_a_stored_blob_is_removed_after_a_crash() {
    let (dir, bytes, dag, _) = house();
    let id = id_of(&Store::open(dir.path()).unwrap(), &dag);
    fs::copy(blob_path(dir.path(), &bytes), dir.path().join("incoming").join(id.to_string())).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(dag.is_in(&store) && incoming(dir.path()).len() == 1);
}

#[test]
fn a_file_without_a_row_is_removed_and_a_partial_file_is_kept_after_a_crash() {
    let (dir, _, dag, other) = house();
    fs::write(dir.path().join("incoming/77"), b"half").unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(dag.is_in(&store) && incoming(dir.path()).len() == 1);
    assert!(store.get(&other.leaves[1].0.cid).unwrap().is_some());
    assert_eq!(store.stat().unwrap().partial_bytes, 2 * MIB as u64);
}

#[test]
fn a_partial_blob_without_its_file_is_removed_with_its_blocks() {
    let (dir, _, dag, other) = house();
    fs::remove_file(&incoming(dir.path())[0]).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(dag.is_in(&store) && other.is_gone_from(&store));
    assert_eq!(store.stat().unwrap().partial, 0);
    let partial = store.begin_partial(other.root(), 4 * MIB as u64).unwrap();
    assert_eq!(partial.written(), 0);
}

#[test]
fn a_partial_blob_stored_in_the_meantime_is_removed() {
    let (dir, _, dag, other) = house();
    put(&Store::open(dir.path()).unwrap(), &bytes(2, 4 * MIB), &[&other]);
    let store = Store::open(dir.path()).unwrap();
    assert!(dag.is_in(&store) && other.is_in(&store) && incoming(dir.path()).is_empty());
    assert_eq!(store.stat().unwrap().partial, 0);
}

#[test]
fn a_leftover_file_of_a_removed_blob_is_unlinked_unless_it_was_stored_again() {
    let (dir, bytes, dag, _) = house();
    let path = blob_path(dir.path(), &bytes);
    for again in [true, false] {
        let store = Store::open(dir.path()).unwrap();
        store.remove(&dag.root()).unwrap();
        if again {
            put(&store, &bytes, &[&dag]);
        } else {
            fs::write(&path, &bytes).unwrap();
        }
        drop(store);
        assert!(path.exists());
        let store = Store::open(dir.path()).unwrap();
        assert_eq!((path.exists(), store.file(&dag.root()).unwrap().is_some()), (again, again));
    }
}

#[test]
fn an_uncommitted_blob_leaves_no_files_after_a_crash() {
    let (dir, _, dag, _) = house();
    let bytes = bytes(5, MIB);
    let lost = Dag::new(Profile::UnixfsV1, &bytes);
    {
        let store = Store::open(dir.path()).unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        fs::write(disk.incoming(500), &bytes).unwrap();
        let result: Result<(), Error> = store.database().write(|write| {
            let mut tables = Tables::open(write)?;
            tables.used_ids(501)?;
            Err(Error::NoLayout)
        });
        assert!(matches!(result, Err(Error::NoLayout)));
    }
    let store = Store::open(dir.path()).unwrap();
    assert!(dag.is_in(&store) && lost.is_gone_from(&store) && incoming(dir.path()).len() == 1);
}
