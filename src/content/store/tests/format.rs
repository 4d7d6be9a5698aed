use redb::TableDefinition;

use super::*;
use crate::content::store::{
    Database, FORMAT,
    index::{Index, RetainedCounts, releases},
    upgrade::upgrade,
};

#[test]
fn a_node_directory_of_an_unsupported_format_is_rejected_and_not_changed() {
    let with_blocks = tempfile::tempdir().unwrap();
    std::fs::create_dir(with_blocks.path().join("blocks")).unwrap();
    let with_rows = tempfile::tempdir().unwrap();
    Database::open(&with_rows.path().join("index.redb"))
        .unwrap()
        .write(|write| {
            let mut table = write.open_table(TableDefinition::<&str, &str>::new("blobs"))?;
            table.insert("sha256:00", "a CID")?;
            Ok(())
        })
        .unwrap();
    for dir in [with_blocks, with_rows] {
        let error = Store::open(dir.path()).err().unwrap();
        assert!(matches!(error, Error::Earlier(_)));
        let text = error.to_string();
        assert!(text.contains("empty --data-dir") && text.contains("identity.key"), "{text}");
        assert!(!dir.path().join("blobs").exists());
    }
}

#[test]
fn a_node_directory_of_a_newer_format_is_rejected() {
    let (dir, store) = temp();
    let meta = TableDefinition::<&str, u64>::new("meta");
    store
        .database()
        .write(|write| {
            write.open_table(meta)?.insert("format", FORMAT + 1)?;
            Ok(())
        })
        .unwrap();
    drop(store);
    let error = Store::open(dir.path()).err().unwrap();
    assert!(matches!(error, Error::Newer { format, .. } if format == FORMAT + 1));
}

/// A node directory of format 2.
fn format_2() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let archive = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/format-2/node.tar.zst");
    let archive = zstd::Decoder::new(std::fs::File::open(archive).unwrap()).unwrap();
    tar::Archive::new(archive).unpack(dir.path()).unwrap();
    dir
}

fn format_of(database: &Database) -> u64 {
    let meta = TableDefinition::<&str, u64>::new("meta");
    database.read(|read| Ok(read.open_table(meta)?.get("format")?.unwrap().value())).unwrap()
}

#[test]
fn an_upgrade_interrupted_by_a_kill_keeps_the_earlier_format_and_is_repeated() {
    let dir = format_2();
    {
        let database = Database::open(&dir.path().join("index.redb")).unwrap();
        let killed = database.write(|write| {
            upgrade(write)?;
            Err::<(), _>(Error::Stopped)
        });
        assert!(killed.is_err());
        assert_eq!(format_of(&database), 2);
    }
    for _ in 0..2 {
        let store = Store::open(dir.path()).unwrap();
        let index = Index::new(store.database());
        assert_eq!(format_of(&store.database()), FORMAT);
        let counts = index.counts().unwrap();
        assert_eq!((counts.images, counts.layers), (1, 1));
        assert!(counts.pulled > 2, "{counts:?}");
        assert_eq!(index.pins().unwrap().len(), 1);
        let (image, _) = index.images().unwrap().pop().unwrap();
        assert!(index.gc_root(&image).unwrap().unwrap().blobs.len() >= 3);
        assert_eq!(store.stat().unwrap().partial_bytes, MIB as u64);
    }
}

#[test]
fn an_upgrade_removes_orphaned_gc_root_rows() {
    let dir = format_2();
    let held = redb::MultimapTableDefinition::<&[u8], &[u8]>::new("held");
    let orphan = cid(b"orphan").to_bytes();
    let holder = cid(b"holder").to_bytes();
    {
        let database = Database::open(&dir.path().join("index.redb")).unwrap();
        database
            .write(|write| {
                write.open_multimap_table(held)?.insert(orphan.as_slice(), holder.as_slice())?;
                Ok(())
            })
            .unwrap();
    }
    let store = Store::open(dir.path()).unwrap();
    let is_there = |read: &redb::ReadTransaction| {
        Ok(!read.open_multimap_table(held)?.get(orphan.as_slice())?.is_empty())
    };
    assert!(!store.database().read(is_there).unwrap());
    assert_eq!(store.database().read(releases).unwrap(), 0);
    assert_ne!(Index::new(store.database()).counts().unwrap(), RetainedCounts::default());
}

fn cid(bytes: &[u8]) -> Cid {
    use multihash_codetable::{Code, MultihashDigest};
    Cid::new_v1(0x55, Code::Sha2_256.digest(bytes))
}
