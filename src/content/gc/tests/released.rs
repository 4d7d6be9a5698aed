//! Collection of released roots that are damaged, and of roots that were found a moment ago.

use ocipfs_node::Node;

use super::*;
use crate::content::{Blob, Content, Settings};

/// Has a stored blob lose its file, so that it is being downloaded.
fn lose(room: &Room, root: &Cid) {
    let stored = room.store.file(root).unwrap().unwrap();
    let hex = stored.digest.hex();
    std::fs::remove_file(room._dir.path().join("blobs").join(&hex[..2]).join(hex)).unwrap();
    assert!(room.store.present(&stored.digest).unwrap().is_none());
}

#[test]
fn gc_collects_a_released_root_with_a_damaged_file_unless_a_guard_is_open() {
    let room = room(None, None);
    let root = room.put(1, 2).unwrap();
    let database = room.store.database();
    database.write(|write| retain_root(write, "repository/a", &root)).unwrap();
    lose(&room, &root);
    database.write(|write| release_root(write, "repository/a", &root)).unwrap();
    let guard = room.store.gc_guard();
    room.store.guard_cid(&root);
    assert_eq!(room.gc.collect_released(&room.store).unwrap(), Collected::default());
    assert_eq!(room.store.partial().unwrap().len(), 1);
    drop(guard);
    assert_eq!(room.gc.collect_released(&room.store).unwrap().partial, 1);
    assert!(room.store.partial().unwrap().is_empty() && room.store.lost().unwrap().is_empty());
    assert_eq!(room.gc.collect_released(&room.store).unwrap(), Collected::default());
}

#[tokio::test]
async fn gc_keeps_a_blob_found_under_a_guard() {
    let room = room(None, None);
    let node = Node::offline(room._dir.path()).unwrap();
    let content = Content::new(room.store.clone(), node, Settings::default()).unwrap();
    let root = room.put(1, 1).unwrap();
    let stored = room.store.file(&root).unwrap().unwrap();
    let blob = Blob { digest: stored.digest, size: stored.size, at: root.into(), gc_root: None };
    for is_read in [false, true] {
        let guard = content.gc_guard().await;
        match is_read {
            true => drop(content.read_blob(&blob, blob.size).await.unwrap()),
            false => assert!(content.stored_blob(&blob.digest).await.unwrap().is_some()),
        }
        assert_eq!(room.gc.collect(&room.store, false).unwrap(), Collected::default());
        drop(guard);
    }
    assert_eq!(room.gc.collect(&room.store, false).unwrap().blobs, 1);
}
