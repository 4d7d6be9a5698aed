use std::{fs, os::unix::fs::FileExt};

use super::*;

pub fn flip(path: &Path, offset: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[!byte[0]], offset).unwrap();
}

fn verify(store: &Store, stored: &Stored) -> Option<super::super::Damaged> {
    store.verify_blob(stored).unwrap()
}

#[test]
fn verify_finds_the_window_of_a_flipped_byte() {
    for profile in [Profile::UnixfsV1, Profile::Legacy] {
        let (dir, store) = temp();
        let bytes = bytes(1, 3 * MIB + 7);
        let stored = put(&store, &bytes, &[&Dag::new(profile, &bytes)]);
        assert!(verify(&store, &stored).is_none());
        flip(&blob_path(dir.path(), &bytes), MIB as u64 + 5);
        let damaged = verify(&store, &stored).unwrap();
        let [window] = damaged.windows.as_slice() else { panic!("{damaged:?}") };
        assert!((window.offset..window.offset + window.length).contains(&(MIB as u64 + 5)));
    }
}

#[test]
fn verify_finds_a_missing_or_truncated_file() {
    for is_missing in [true, false] {
        let (dir, store) = temp();
        let bytes = bytes(2, 2 * MIB);
        let stored = put(&store, &bytes, &[&Dag::new(Profile::UnixfsV1, &bytes)]);
        let path = blob_path(dir.path(), &bytes);
        match is_missing {
            true => fs::remove_file(&path).unwrap(),
            false => fs::File::options().write(true).open(&path).unwrap().set_len(MIB as u64).unwrap(),
        }
        let damaged = verify(&store, &stored).unwrap();
        assert_eq!(damaged.windows.len(), if is_missing { 2 } else { 1 }, "{damaged:?}");
    }
}

#[test]
fn verify_finds_a_blob_stored_with_wrong_bytes_by_its_blocks() {
    let (dir, store) = temp();
    let (right, mut wrong) = (bytes(3, 2 * MIB), bytes(3, 2 * MIB).to_vec());
    wrong[MIB + 1] ^= 1;
    let dag = Dag::new(Profile::UnixfsV1, &right);
    let stored = put(&store, &wrong.into(), &[&dag]);
    let damaged = verify(&store, &stored).unwrap();
    assert_eq!(damaged.windows, [dag.leaves[1].0]);
    assert!(store.demote(&stored).unwrap() && store.blob(&stored.digest).unwrap().is_none());
    assert_eq!(store.partial().unwrap()[0].written, MIB as u64);
    assert_eq!(incoming(dir.path()).len(), 1);
}

#[test]
fn verify_finds_damage_in_a_partial_blob() {
    let (dir, store) = temp();
    let bytes = bytes(3, 2 * MIB);
    let dag = Dag::new(Profile::UnixfsV1, &bytes);
    let partial = store.begin_partial(dag.root(), bytes.len() as u64).unwrap();
    for Block { cid, data } in &dag.layout.nodes {
        partial.insert_node(*cid, data.clone()).unwrap();
    }
    let (leaf, block) = &dag.leaves[1];
    partial.write(leaf, block, 0..block.len()).unwrap();
    partial.checkpoint().unwrap();
    drop(partial);
    let files = store.all_files().unwrap();
    let [(file, false)] = files.as_slice() else { panic!("{files:?}") };
    assert!(store.verify_partial(file).unwrap().is_none());
    flip(&incoming(dir.path())[0], leaf.offset + 9);
    let damaged = store.verify_partial(file).unwrap().unwrap();
    assert_eq!(damaged.windows, [*leaf]);
    assert!(store.drop_parts(&file.root, file.id, &damaged.windows).unwrap());
    assert!(store.verify_partial(file).unwrap().is_none());
    assert!(store.get(&leaf.cid).unwrap().is_none() && store.partial().unwrap()[0].written == 0);
}

#[test]
fn verify_finds_and_repairs_a_damaged_block_of_the_index() {
    let (_dir, store) = temp();
    let bytes = bytes(4, MIB);
    let Block { cid, data } = Dag::new(Profile::Legacy, &bytes).layout.nodes.remove(0);
    store.put_blocks(&[Block { cid, data: Bytes::from_static(b"something else") }]).unwrap();
    assert_eq!(store.verify_blocks().unwrap(), (1, vec![Cid::new_v1(cid.codec(), *cid.hash())]));
    store.repair_block(&Block { cid, data: data.clone() }).unwrap();
    assert_eq!(store.verify_blocks().unwrap(), (1, vec![]));
    assert_eq!(store.get(&cid).unwrap(), Some(data));
}
