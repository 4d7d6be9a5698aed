mod compact;
mod limits;
mod memory;
mod released;

use bytes::Bytes;
use multihash_codetable::{Code, MultihashDigest};
use ocipfs_node::{Block, Cid};
use ocipfs_oci::Digest;
use tempfile::TempDir;

use super::*;
use crate::content::{
    BlobWriter, Document, GcRoot, Profile, Settings, locked, release_root, retain_root,
    store::index::{Index, RetainedCounts},
    store::{Leaf, Store, now},
};

const MIB: usize = 1 << 20;

struct Room {
    _dir: TempDir,
    store: Store,
    index: Index,
    gc: Arc<GarbageCollector>,
}

fn room(cache: Option<usize>, max: Option<usize>) -> Room {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let bytes = |mib: Option<usize>| mib.map(|mib| (mib * MIB) as u64);
    let gc = Arc::new(GarbageCollector::new(bytes(cache), bytes(max), Arc::default()));
    gc.install_in(&store);
    Room { index: Index::new(store.database()), _dir: dir, store, gc }
}

/// A blob that can be told from others.
fn bytes(n: u8, mib: usize) -> Bytes {
    let mut bytes = vec![n; mib * MIB];
    bytes.chunks_mut(64).enumerate().for_each(|(at, chunk)| chunk[..8].copy_from_slice(&at.to_le_bytes()));
    bytes.into()
}

impl Room {
    fn put(&self, n: u8, mib: usize) -> Result<Cid, Error> {
        let mut put = BlobWriter::new(&self.store, Profile::UnixfsV1)?;
        put.write(bytes(n, mib))?;
        Ok(put.store()?.1.cid)
    }

    fn hold(&self, n: u8, mib: usize, is_kept: bool) -> Cid {
        let root = self.put(n, mib).unwrap();
        let gc_root_key = self.gc_root_key(n);
        let blobs = vec![(Digest::sha256_of(&bytes(n, mib)), root.into())];
        self.index.retain(&gc_root_key, &GcRoot::new(is_kept, &[gc_root_key, root], blobs)).unwrap();
        root
    }

    /// The block of a document that names a blob.
    fn gc_root_key(&self, n: u8) -> Cid {
        let block = block(&[n]);
        self.store.put_blocks(std::slice::from_ref(&block)).unwrap();
        block.cid
    }

    fn has(&self, root: &Cid) -> bool {
        self.store.file(root).unwrap().is_some()
    }

    /// Has a file begin to come, as a pull does; whether it may be kept.
    fn begins(&self, size: usize) -> (crate::content::store::PartialBlob, bool) {
        let cid = Cid::new_v1(0x70, Code::Sha2_256.digest(&size.to_le_bytes()));
        let file = self.store.begin_partial(cid, size as u64).unwrap();
        let admitted = self.gc.admits(&self.store).unwrap();
        (file, admitted)
    }

    /// Has a file that may be kept come.
    fn comes(&self, size: usize) -> crate::content::store::PartialBlob {
        let (file, admitted) = self.begins(size);
        assert!(admitted);
        file.cache();
        let bytes = bytes(77, 1);
        for offset in (0..size as u64).step_by(MIB) {
            let cid = Cid::new_v1(0x55, Code::Sha2_256.digest(&bytes));
            file.write(&Leaf { cid, offset, length: MIB as u64 }, &bytes, 0..MIB).unwrap();
        }
        file
    }
}

fn block(data: &[u8]) -> Block {
    let cid = Cid::new_v1(0x55, Code::Sha2_256.digest(data));
    Block { cid, data: Bytes::copy_from_slice(data) }
}

#[test]
fn a_file_used_before_the_clock_was_set_back_is_collected_like_others() {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    let room = room(None, None);
    let roots = [1, 2].map(|n| room.put(n, 1).unwrap());
    let id = room.store.file(&roots[0]).unwrap().unwrap().id;
    room.store.use_file_at(id, now() + DAY);
    let collect =
        |before| room.gc.collect_older(&room.store, false, Some(before), &mut |_| {}).unwrap().blobs;
    assert_eq!(collect(now() - DAY), 0, "both may be in use");
    // A while later neither was used again.
    assert_eq!(collect(now() + DAY / 2), 2);
    assert!(!room.has(&roots[0]) && !room.has(&roots[1]));
}

#[test]
fn eviction_is_least_recently_used_and_keeps_kept_content() {
    let room = room(Some(10), None);
    let own = room.hold(1, 6, true);
    let pulled: Vec<Cid> = (2..6).map(|n| room.hold(n, 2, false)).collect();
    room.index.pin(&pulled[1], &[pulled[1]]).unwrap();
    room.store.use_file(room.store.file(&pulled[0]).unwrap().unwrap().id);
    let _file = room.comes(5 * MIB);
    let here: Vec<bool> = pulled.iter().map(|root| room.has(root)).collect();
    assert_eq!(here, [true, true, false, true], "the least recently used one");
    assert!(room.has(&own));
    let usage = room.gc.mark_all(&room.store).unwrap().counted.usage;
    assert!(usage.cached <= 10 * MIB as u64 && usage.kept >= 8 * MIB as u64, "{usage:?}");
    assert_eq!(usage.pinned, 2 * MIB as u64);
    assert_eq!(
        room.index.counts().unwrap(),
        RetainedCounts { images: 0, layers: 1, pulled: 3 },
        "its GC root went too"
    );
}

#[test]
fn content_larger_than_the_cache_is_not_admitted_and_evicts_nothing() {
    let room = room(Some(10), None);
    let pulled = room.hold(1, 8, false);
    assert!(!room.begins(11 * MIB).1);
    let first = room.begins(9 * MIB);
    assert!(first.1 && room.has(&pulled), "a size alone takes no room");
    assert!(!room.begins(2 * MIB).1, "both would not fit");
    drop(first);
    let first = room.comes(9 * MIB);
    assert!(!room.has(&pulled));
    assert!(!room.begins(2 * MIB).1, "what is coming is not put away");
    drop(first);
}

#[test]
fn a_put_beyond_the_quota_is_rejected_once_all_cached_content_is_evicted() {
    let room = room(None, Some(10));
    let (own, pulled) = (room.hold(1, 5, true), room.hold(2, 4, false));
    let other = room.put(3, 4).unwrap();
    assert!(room.has(&own) && room.has(&other) && !room.has(&pulled));
    room.index.pin(&other, &[other]).unwrap();
    assert!(matches!(room.put(4, 4), Err(Error::Quota { limit }) if limit == 10 * MIB as u64));
    assert!(room.store.put_blocks(&[block(&vec![7; 2 * MIB])]).is_err());
    assert!(room.store.used_bytes().unwrap() <= 10 * MIB as u64, "a refused draft leaves nothing");
    assert!(room.has(&own) && room.has(&other));
}

#[test]
fn gc_collects_unreachable_and_keeps_reachable_content() {
    let room = room(None, None);
    let kept = room.hold(1, 1, true);
    let orphan = room.put(2, 1).unwrap();
    let file = Document::file(Bytes::from_static(b"a document"), Profile::UnixfsV1);
    let directory = Document::directory("file", &file.root, Profile::UnixfsV1);
    room.store.put_blocks(&file.blocks).unwrap();
    room.store.put_blocks(&directory.blocks).unwrap();
    room.index.pin(&directory.root.cid, &[directory.root.cid]).unwrap();
    room.store.put_blocks(&[block(b"alone")]).unwrap();
    let partial = room.store.begin_partial(Cid::new_v1(0x70, Code::Sha2_256.digest(b"partial")), 99).unwrap();
    let dry = room.gc.collect(&room.store, true).unwrap();
    assert_eq!(dry, Collected { blobs: 1, partial: 0, blocks: 1, bytes: MIB as u64 + 5 });
    assert!(room.has(&orphan));
    assert_eq!(room.gc.collect(&room.store, false).unwrap(), dry);
    assert!(room.has(&kept) && !room.has(&orphan));
    assert!(room.store.get(&file.root.cid).unwrap().is_some());
    assert!(room.store.get(&block(b"alone").cid).unwrap().is_none());
    assert_eq!(room.gc.collect(&room.store, false).unwrap(), Collected::default());
    drop(partial);
}

#[tokio::test]
async fn background_collection_spares_blocks_that_a_client_may_pin_later() {
    let dir = tempfile::tempdir().unwrap();
    let (store, node) = (Store::open(dir.path()).unwrap(), ocipfs_node::Node::offline(dir.path()).unwrap());
    let content = Content::new(store, node, Settings::default()).unwrap();
    let (young, fetched) = (block(b"of a client"), block(b"of a path"));
    content.put_blocks(vec![young.clone()]).await.unwrap();
    content.store().put_blocks(std::slice::from_ref(&fetched)).unwrap();
    let is_here = |block: &Block| content.store().get(&block.cid).unwrap().is_some();
    let collect =
        |before| content.0.gc.collect_older(content.store(), false, before, &mut |_| {}).unwrap().blocks;
    assert_eq!((collect(Some(now())), is_here(&young), is_here(&fetched)), (1, true, false));
    assert_eq!((collect(None), is_here(&young)), (1, false), "at once for the user");
}

#[test]
fn gc_keeps_content_under_a_guard() {
    let room = room(None, None);
    let root = room.put(1, 1).unwrap();
    let guard = room.store.gc_guard();
    // A caller finds that it is here already.
    room.put(1, 1).unwrap();
    room.store.put_blocks(&[block(b"found")]).unwrap();
    assert_eq!(room.gc.collect(&room.store, false).unwrap(), Collected::default());
    assert!(room.has(&root));
    drop(guard);
    assert_eq!(room.gc.collect(&room.store, false).unwrap().blobs, 1);
}

#[test]
fn released_content_stays_if_a_pin_reaches_it() {
    let room = room(None, None);
    let root = room.hold(1, 1, true);
    let file = crate::content::Root { cid: root, size: MIB as u64, dag_size: MIB as u64 };
    let directory = Document::directory("file", &file, Profile::UnixfsV1);
    room.store.put_blocks(&directory.blocks).unwrap();
    room.index.pin(&directory.root.cid, &[directory.root.cid]).unwrap();
    let gc_root_key = room.gc_root_key(1);
    let released = room.index.release(&gc_root_key).unwrap().unwrap();
    room.gc.collect_roots_now(&room.store, &released).unwrap();
    assert!(room.has(&root) && room.store.get(&gc_root_key).unwrap().is_none());
    let free = room.index.unpin(&directory.root.cid).unwrap().unwrap();
    room.gc.collect_roots_now(&room.store, &free).unwrap();
    room.gc.collect(&room.store, false).unwrap();
    assert!(!room.has(&root));
}

#[test]
fn last_uses_are_recorded_for_eviction_and_removed_with_their_files() {
    let room = room(None, None);
    let root = room.hold(1, 1, false);
    let id = room.store.file(&root).unwrap().unwrap().id;
    let used = || {
        let mut used = None;
        let census = room.gc.mark_all(&room.store).unwrap();
        census
            .marks
            .for_each_evictable(|evictable| {
                used = Some(evictable.used);
                Ok(false)
            })
            .unwrap();
        used
    };
    let before = used().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(5));
    room.store.use_file(id);
    room.store.save_uses().unwrap();
    assert!(used().unwrap() > before);
    room.store.remove(&root).unwrap();
    room.store.use_file(id);
    room.store.save_uses().unwrap();
    assert_eq!(used(), None);
}

#[test]
fn followed_content_is_evicted_last_and_its_small_blobs_never() {
    let room = room(Some(10), None);
    let follow =
        |root: &Cid| room.store.database().write(|write| retain_root(write, "follow/k51", root)).unwrap();
    let (large, small) = (room.hold(1, 4, false), room.gc_root_key(99));
    [large, small].iter().for_each(follow);
    let pulled = room.hold(2, 4, false);
    room.store.use_file(room.store.file(&pulled).unwrap().unwrap().id);
    let usage = room.gc.mark_all(&room.store).unwrap().counted.usage;
    assert_eq!((usage.followed, usage.cached, usage.kept), (4 * MIB as u64 + 1, 4 * MIB as u64 + 2, 0));
    let _first = room.comes(5 * MIB);
    assert!(room.has(&large) && !room.has(&pulled), "pulled content goes first, though it was used since");
    let _second = room.comes(4 * MIB);
    assert!(!room.has(&large) && room.store.get(&small).unwrap().is_some());
    assert_eq!(room.gc.collect(&room.store, false).unwrap().blocks, 0);
}

#[test]
fn a_full_store_marks_once_for_all_rejected_writes_until_a_release() {
    let room = room(None, Some(10));
    let gc_root_key = "repository/app/blobs/x";
    let kept = room.put(1, 8).unwrap();
    room.store.database().write(|write| retain_root(write, gc_root_key, &kept)).unwrap();
    assert!(room.put(2, 4).is_err());
    let marks_taken = || room.gc.marks_taken.load(Ordering::Relaxed);
    let before = marks_taken();
    (0..5).for_each(|n| assert!(room.put(n + 3, 4).is_err()));
    assert_eq!(marks_taken(), before);
    room.store.database().write(|write| release_root(write, gc_root_key, &kept)).unwrap();
    room.put(2, 4).unwrap();
    assert!(!room.has(&kept));
}

#[test]
fn a_full_cache_is_marked_once_for_many_pushes() {
    let room = room(Some(32), None);
    // Less than the slack is left.
    (0..7).for_each(|n| assert!(room.has(&room.hold(n, 4, false))));
    (7..10).for_each(|n| assert!(room.has(&room.hold(n, 1, false))));
    room.gc.evict(&room.store, 0, 0).unwrap();
    let before = room.gc.marks_taken.load(Ordering::Relaxed);
    for n in 0..16 {
        let root = room.put(100 + n, 1).unwrap();
        room.store
            .database()
            .write(|write| retain_root(write, &format!("repository/app/{n}"), &root))
            .unwrap();
        if room.gc.over(&room.store).unwrap() > 0 {
            room.gc.evict(&room.store, 1, 0).unwrap();
        }
    }
    let counted = room.gc.marks_taken.load(Ordering::Relaxed) - before;
    assert!(counted <= 8, "{counted} marks_taken for 16 pushes of a MiB");
    let usage = room.gc.mark_all(&room.store).unwrap().counted.usage;
    assert!(usage.cached > 20 << 20 && usage.cached <= 32 << 20, "{usage:?}");
}

#[test]
fn gc_collects_released_roots_unless_a_pin_or_guard_keeps_them() {
    let room = room(None, None);
    let roots = [1, 2, 3].map(|n| room.put(n, 1).unwrap());
    let database = room.store.database();
    for root in &roots {
        database.write(|write| retain_root(write, "repository/a", root)).unwrap();
    }
    room.index.pin(&roots[1], &[roots[1]]).unwrap();
    let guard = room.store.gc_guard();
    room.put(3, 1).unwrap();
    for root in &roots {
        database.write(|write| release_root(write, "repository/a", root)).unwrap();
    }
    assert_eq!(room.gc.collect_released(&room.store).unwrap().blobs, 1);
    assert_eq!(roots.map(|root| room.has(&root)), [false, true, true]);
    drop(guard);
    let collected = room.gc.collect_released(&room.store).unwrap();
    assert_eq!((collected.blobs, collected.bytes), (1, MIB as u64));
    assert_eq!(room.gc.collect_released(&room.store).unwrap(), Collected::default());
}

#[test]
fn beyond_the_quota_the_oldest_untagged_content_is_released_first() {
    let room = room(None, Some(10));
    let old: Vec<Cid> = (1..4).map(|n| room.put(n, 3).unwrap()).collect();
    let database = room.store.database();
    for root in &old {
        database.write(|write| retain_root(write, "repository/a", root)).unwrap();
    }
    let left = Mutex::new(old.clone());
    let release_root = move |bytes: u64| {
        let gone = left.lock().unwrap().remove(0);
        database.write(|write| release_root(write, "repository/a", &gone))?;
        Ok(bytes.min(3 * MIB as u64))
    };
    assert!(room.gc.when_full.set(Box::new(release_root)).is_ok());
    room.put(4, 3).unwrap();
    let here: Vec<bool> = old.iter().map(|root| room.has(root)).collect();
    assert_eq!(here, [false, true, true], "the oldest, and only as many as needed");
}
