use super::*;
use crate::content::store::{sweep::BlockSweep, tables::Tables};

/// Bytes of which a DAG has more blocks than go in one commit.
fn large(seed: u64) -> Bytes {
    bytes(seed, 12 * MIB)
}

fn put(store: &Store, bytes: &Bytes, profile: Profile) -> Stored {
    let dag = Dag::new(profile, bytes);
    let mut draft = store.draft().unwrap();
    draft.write(bytes).unwrap();
    draft.store(&Digest::sha256_of(bytes), &[], &[dag.layout]).unwrap()
}

/// Removes the rows of a file as a process does that is killed before it took the blocks.
fn remove_rows(store: &Store, stored: &Stored) {
    let sha256 = stored.digest.bytes().try_into().unwrap();
    let removed = |write: &redb::WriteTransaction| {
        Tables::open(write)?.remove_file(stored.id, &stored.root, &sha256).map(drop)
    };
    store.database().write(removed).unwrap();
}

#[test]
fn a_large_blob_is_removed_in_batches_with_all_of_its_blocks() {
    let (_dir, store) = temp();
    for profile in [Profile::UnixfsV1, Profile::Legacy] {
        let stored = put(&store, &large(1), profile);
        assert!(store.stat().unwrap().blocks > 12);
        assert!(store.remove(&stored.root).unwrap());
        assert_eq!(store.stat().unwrap(), StoreStat::default());
    }
}

#[test]
fn crash_between_sweep_batches_leaves_nothing_and_shared_blocks_stay_served() {
    let (dir, store) = temp();
    let shared = large(1);
    let longer: Bytes = [&shared[..], &bytes(2, MIB)].concat().into();
    let (first, second) = (put(&store, &shared, Profile::Legacy), put(&store, &longer, Profile::Legacy));
    let leaf = Dag::new(Profile::Legacy, &shared).leaves[3].0.cid;
    let before = store.get(&leaf).unwrap();
    remove_rows(&store, &first);
    // The first owner of the leaf is the file that is going.
    assert!(before.is_some() && store.get(&leaf).unwrap() == before && store.size(&leaf).unwrap().is_some());
    assert_eq!(store.get(&first.root).unwrap(), None);
    store.database().write(|write| BlockSweep::new(&store).lot(&mut Tables::open(write)?)).unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.get(&leaf).unwrap(), before);
    let (_alone, alone) = temp();
    put(&alone, &longer, Profile::Legacy);
    assert_eq!(store.stat().unwrap(), alone.stat().unwrap());
    assert!(store.remove(&second.root).unwrap());
    assert_eq!(store.stat().unwrap(), StoreStat::default());
}

#[test]
fn a_blob_stored_again_during_its_sweep_keeps_its_blocks() {
    let (_dir, store) = temp();
    let content = large(1);
    let first = put(&store, &content, Profile::Legacy);
    remove_rows(&store, &first);
    let again = put(&store, &content, Profile::Legacy);
    store.sweep().unwrap();
    let dag = Dag::new(Profile::Legacy, &content);
    assert!(dag.leaves.iter().all(|(leaf, _)| store.get(&leaf.cid).unwrap().is_some()));
    assert_eq!(store.file(&again.root).unwrap(), Some(again));
}

#[test]
fn a_crash_between_commit_batches_of_a_large_blob_leaves_nothing() {
    let (dir, store) = temp();
    let content = large(1);
    let layout = Dag::new(Profile::Legacy, &content).layout;
    let begun = store.begin_layout(99, &layout).unwrap();
    assert!(begun.is_some() && store.stat().unwrap().blocks > 48);
    assert_eq!(store.size(&layout.leaves[0].cid).unwrap(), None, "it is not served yet");
    // Another removal leaves it alone.
    let other = put(&store, &bytes(7, MIB), Profile::Legacy);
    assert!(store.remove(&other.root).unwrap());
    assert!(store.stat().unwrap().blocks > 48);
    drop((begun, store));
    assert_eq!(Store::open(dir.path()).unwrap().stat().unwrap(), StoreStat::default());
}
