use std::time::Instant;

use ocipfs_unixfs::Document;
use serde_json::Value;

use super::*;
use crate::content::Profile;
use crate::content::store::{SavedUpload, forget_upload};

/// The vectors' input: byte `i` is the top byte of `i` times a constant.
fn input(start: u64, length: usize) -> Bytes {
    (start..start + length as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

#[test]
fn put_in_odd_chunks_has_the_cid_of_boxo() {
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
        let mut put = BlobWriter::new(&store, profile).unwrap();
        let bytes = input(0, size);
        bytes.chunks(300_001).for_each(|part| put.write(bytes.slice_ref(part)).unwrap());
        let (stored, root) = put.store().unwrap();
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
    let mut put = BlobWriter::unhashed(&store, Profile::UnixfsV1).unwrap();
    put.write(bytes.clone()).unwrap();
    let written = put.finish().unwrap();
    assert!(written.digest.is_none() && store.get(&written.root.cid).unwrap().is_none());
    let (directory, block) = Profile::UnixfsV1.directory("file", &written.root);
    let stored = written.store(&Digest::sha256_of(&bytes), &[], &[block]).unwrap();
    assert!(store.get(&directory.cid).unwrap().is_some() && store.get(&stored.root).unwrap().is_some());
}

#[test]
fn a_dropped_put_leaves_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut put = BlobWriter::new(&store, Profile::Legacy).unwrap();
    put.write(input(0, 3 * MIB)).unwrap();
    // Until the writer is done with its queue.
    drop(put.finish().unwrap());
    assert!(std::fs::read_dir(dir.path().join("incoming")).unwrap().next().is_none());
    assert_eq!(store.stat().unwrap(), Default::default());
}

#[test]
fn a_saved_upload_is_resumed_after_a_restart_with_the_same_cid() {
    let dir = tempfile::tempdir().unwrap();
    for (saved, size) in [(1, 2), (1000, 70_000), (MIB, MIB), (MIB + 5, 3 * MIB + 7), (3 * MIB, 4 * MIB)] {
        let bytes = input(size as u64, size);
        let store = Store::open(dir.path()).unwrap();
        let mut put = BlobWriter::new(&store, Profile::UnixfsV1).unwrap();
        put.write(bytes.slice(..saved)).unwrap();
        let file = put.save().unwrap();
        let row = SavedUpload { id: "id".into(), owner: "me".into(), file, at: 0, length: saved as u64 };
        store.save_upload(row.clone()).unwrap();
        // What came after that is lost.
        put.write(input(99, 4 * MIB)).unwrap();
        put.rest().unwrap();
        drop((put, store));
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.saved_uploads().unwrap(), [row]);
        let mut put = BlobWriter::resume(&store, Profile::UnixfsV1, file, saved as u64).unwrap();
        put.write(bytes.slice(saved..)).unwrap();
        let written = put.finish().unwrap();
        let digest = Digest::sha256_of(&bytes);
        assert_eq!((written.root.cid, &written.digest), (cid_of(&bytes), &Some(digest.clone())), "{saved}");
        assert_eq!(written.hash(Algorithm::Sha512).unwrap(), Hasher::of(Algorithm::Sha512, &bytes));
        let (stored, ()) = written.store_with(&digest, &[], |write, _| forget_upload(write, "id")).unwrap();
        assert!(store.open_file(&stored).unwrap().read_at(0, size).unwrap() == bytes);
        let path = dir.path().join("blobs").join(&digest.hex()[..2]).join(digest.hex());
        assert!(std::fs::metadata(path).is_ok_and(|file| file.len() == size as u64) || size < 65_536);
        assert_eq!(store.saved_uploads().unwrap(), []);
        assert!(std::fs::read_dir(dir.path().join("incoming")).unwrap().next().is_none());
    }
}

fn cid_of(bytes: &Bytes) -> ocipfs_node::Cid {
    Document::file(bytes.clone(), Profile::UnixfsV1).root.cid
}

#[test]
fn discarded_saved_upload_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for size in [10, 2 * MIB] {
        let mut put = BlobWriter::new(&store, Profile::UnixfsV1).unwrap();
        put.write(input(0, size)).unwrap();
        put.save().unwrap();
        assert_eq!(std::fs::read_dir(dir.path().join("incoming")).unwrap().count(), 1);
        put.discard();
        assert_eq!(std::fs::read_dir(dir.path().join("incoming")).unwrap().count(), 0);
    }
}

#[test]
fn more_concurrent_puts_than_cores_have_correct_cids() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    std::thread::scope(|scope| {
        for n in 0..16 {
            let store = &store;
            scope.spawn(move || {
                let bytes = input(n, 2 * MIB + 3);
                let mut put = BlobWriter::new(store, Profile::UnixfsV1).unwrap();
                bytes.chunks(300_001).for_each(|part| put.write(bytes.slice_ref(part)).unwrap());
                let (stored, root) = put.store().unwrap();
                assert_eq!((stored.digest, root.cid), (Digest::sha256_of(&bytes), cid_of(&bytes)));
            });
        }
    });
    assert_eq!(store.stat().unwrap().blobs, 16);
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
        let mut put = BlobWriter::new(&store, profile).unwrap();
        bytes.chunks(PIECE_BYTES).for_each(|part| put.write(bytes.slice_ref(part)).unwrap());
        let written = put.finish().unwrap();
        let hashed = start.elapsed();
        let digest = written.digest.clone().unwrap();
        written.store(&digest, &[], &[]).unwrap();
        let durable = start.elapsed();
        println!("{}: hashed and written after {hashed:?}, durable after {durable:?}", profile.as_str());
    }
}
