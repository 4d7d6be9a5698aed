//! The size of the index file.

use super::*;

/// Blocks that are rows of the index, 25 MiB of them.
const BLOCKS: u32 = 400;

/// Adds blocks, pins every 50th of them, and returns all.
fn fill(room: &Room) -> Vec<Cid> {
    let blocks: Vec<Block> = (0..BLOCKS).map(|n| block(&n.to_le_bytes().repeat(16 << 10))).collect();
    blocks.chunks(50).for_each(|blocks| room.store.put_blocks(blocks).unwrap());
    let cids: Vec<Cid> = blocks.iter().map(|block| block.cid).collect();
    kept(&cids).for_each(|cid| room.index.pin(cid, &[*cid]).unwrap());
    assert!(room.store.index_bytes() > 24 << 20);
    cids
}

fn kept(cids: &[Cid]) -> impl Iterator<Item = &Cid> {
    cids.iter().skip(49).step_by(50)
}

#[track_caller]
fn is_small_and_whole(room: &Room, cids: &[Cid]) {
    assert!(room.store.index_bytes() < 3 << 20, "{}", room.store.index_bytes());
    assert_eq!(kept(cids).count(), 8);
    assert!(kept(cids).all(|cid| room.store.get(cid).unwrap().is_some()));
}

#[test]
fn garbage_collection_shrinks_the_index_file_after_large_deletions() {
    let room = room(None, None);
    let cids = fill(&room);
    let before = room.store.index_bytes();
    assert_eq!(room.gc.collect(&room.store, true).unwrap().blocks, 392);
    assert_eq!(room.store.index_bytes(), before, "a dry run changes nothing");
    assert_eq!(room.gc.collect(&room.store, false).unwrap().blocks, 392);
    is_small_and_whole(&room, &cids);
}

#[test]
fn the_index_file_shrinks_in_the_background_once_half_of_its_rows_are_deleted() {
    let room = room(None, None);
    let cids = fill(&room);
    room.gc.compact_if_emptied(&room.store).unwrap();
    assert!(room.store.index_bytes() > 24 << 20, "nothing was deleted yet");
    room.store.remove_blocks(&cids, crate::content::store::index::is_unreferenced).unwrap();
    assert!(room.store.index_bytes() > 20 << 20, "free pages stay in the file");
    room.gc.compact_if_emptied(&room.store).unwrap();
    is_small_and_whole(&room, &cids);
}
