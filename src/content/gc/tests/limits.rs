//! Writes near `--max-size`.

use super::*;

#[test]
fn blocks_near_the_max_size_quota_evict_cached_content() {
    let room = room(None, Some(10));
    let pulled = room.hold(1, 9, false);
    let block = block(&vec![7; 2 * MIB]);
    room.store.put_blocks(std::slice::from_ref(&block)).unwrap();
    assert!(!room.has(&pulled) && room.store.get(&block.cid).unwrap().is_some());
    assert!(room.store.used_bytes().unwrap() <= 10 * MIB as u64);
}

#[test]
fn blocks_near_the_max_size_quota_release_untagged_content() {
    let room = room(None, Some(10));
    let old: Vec<Cid> = (1..4).map(|n| room.put(n, 3).unwrap()).collect();
    let database = room.store.database();
    for root in &old {
        database.write(|write| retain_root(write, "repository/a", root)).unwrap();
    }
    let gone = old[0];
    let release_root = move |bytes: u64| {
        database.write(|write| release_root(write, "repository/a", &gone))?;
        Ok(bytes)
    };
    assert!(room.gc.when_full.set(Box::new(release_root)).is_ok());
    room.store.put_blocks(&[block(&vec![7; 2 * MIB])]).unwrap();
    assert_eq!(old.iter().map(|root| room.has(root)).collect::<Vec<_>>(), [false, true, true]);
}

#[test]
fn eviction_invalidates_the_usage_sums() {
    let room = room(None, Some(10));
    for n in 1..5 {
        room.hold(n, 2, false);
    }
    // Its last bytes pass the limit, and are counted with what goes for them.
    room.put(5, 3).unwrap();
    if let Some((_, _, took)) = &mut *locked(&room.gc.counted) {
        *took = Duration::from_secs(3600);
    }
    let usage = room.gc.usage(&room.store).unwrap();
    assert_eq!(usage.used, room.store.used_bytes().unwrap());
    assert!(usage.used <= 10 * MIB as u64, "{usage:?}");
    assert_eq!(usage.used, usage.kept + usage.cached + usage.followed, "{usage:?}");
}
