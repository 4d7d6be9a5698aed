use std::time::Instant;

use serde_json::Value;

use super::*;

/// The vectors' input: byte `i` is the top byte of `i` times a constant.
fn input(start: u64, length: usize) -> Bytes {
    (start..start + length as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

#[test]
fn what_is_put_in_odd_parts_has_the_cid_that_boxo_gives_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let vectors: Value = serde_json::from_str(include_str!("../../../tests/fixtures/unixfs.json")).unwrap();
    let mut seen = 0;
    for file in vectors["files"].as_array().unwrap() {
        let Ok(profile) = text(file, "profile").parse::<Profile>() else { continue };
        let size = file["size"].as_u64().unwrap() as usize;
        if size > 4 * MIB {
            continue;
        }
        let mut put = Put::new(&store, profile).unwrap();
        let bytes = input(0, size);
        bytes.chunks(300_001).for_each(|part| put.write(bytes.slice_ref(part)).unwrap());
        let (stored, root) = put.finish().unwrap();
        assert_eq!(root.cid.to_string(), text(file, "cid"), "{file}");
        assert_eq!((root.size, Some(root.dag_size)), (size as u64, file["dag_size"].as_u64()), "{file}");
        assert_eq!((stored.digest.clone(), stored.size), (Digest::sha256_of(&bytes), size as u64));
        assert!(store.get(&root.cid).unwrap().is_some() && store.file(&root.cid).unwrap().is_some());
        assert!(store.open_file(&stored).unwrap().read_at(0, size).unwrap() == bytes);
        seen += 1;
    }
    assert!(seen >= 16, "{seen} files");
}

#[test]
fn the_caller_may_hash_and_add_a_directory_in_the_same_commit() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let bytes = input(3, 200_000);
    let mut put = Put::unhashed(&store, Profile::UnixfsV1).unwrap();
    put.write(bytes.clone()).unwrap();
    let written = put.close().unwrap();
    assert!(written.digest.is_none() && store.get(&written.root.cid).unwrap().is_none());
    let (directory, block) = Profile::UnixfsV1.directory("file", &written.root);
    let stored = written.store(&Digest::sha256_of(&bytes), &[], &[block]).unwrap();
    assert!(store.get(&directory.cid).unwrap().is_some() && store.get(&stored.root).unwrap().is_some());
}

#[test]
fn a_put_that_is_dropped_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut put = Put::new(&store, Profile::Legacy).unwrap();
    put.write(input(0, 3 * MIB)).unwrap();
    // Until the writer is done with its queue.
    drop(put.close().unwrap());
    assert!(std::fs::read_dir(dir.path().join("incoming")).unwrap().next().is_none());
    assert_eq!(store.stat().unwrap(), Default::default());
}

/// Figures for a person: `cargo test --release -- --ignored --nocapture puts_of`.
#[test]
#[ignore = "measures"]
fn puts_of_256_mib_take() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = input(0, 256 * MIB);
    for profile in [Profile::UnixfsV1, Profile::Legacy] {
        let store = Store::open(&dir.path().join(profile.as_str())).unwrap();
        let start = Instant::now();
        let mut put = Put::new(&store, profile).unwrap();
        bytes.chunks(PIECE).for_each(|part| put.write(bytes.slice_ref(part)).unwrap());
        let written = put.close().unwrap();
        let hashed = start.elapsed();
        let digest = written.digest.clone().unwrap();
        written.store(&digest, &[], &[]).unwrap();
        let durable = start.elapsed();
        println!("{}: hashed and written after {hashed:?}, durable after {durable:?}", profile.as_str());
    }
}
