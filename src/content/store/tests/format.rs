use redb::TableDefinition;

use super::*;
use crate::content::store::{Database, FORMAT};

#[test]
fn a_directory_of_an_earlier_version_is_refused_and_not_changed() {
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
fn a_directory_of_a_newer_version_is_refused() {
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
