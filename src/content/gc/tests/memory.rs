//! Memory that a garbage collection needs, counted by the allocator.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use super::*;
use crate::content::{retain_root, store::counting::fill};

/// The system's allocator, which counts for each thread what it has taken and not given back, and the most of that.
struct Counting;

thread_local! {
    static NOW: Cell<i64> = const { Cell::new(0) };
    static MOST: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    let now = NOW.get() + bytes;
    NOW.set(now);
    MOST.set(MOST.get().max(now));
}

// SAFETY: every call is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that a collection took of memory in a store of so many blobs, half of which go.
fn memory_of_a_collection(blobs: u32) -> i64 {
    let room = room(None, None);
    let roots = fill(&room.store, blobs);
    room.store
        .database()
        .write(|write| {
            let kept = roots.iter().enumerate().filter(|(n, _)| n % 2 == 0);
            kept.into_iter()
                .try_for_each(|(n, root)| retain_root(write, &format!("repository/app/{n}"), root))
        })
        .unwrap();
    let before = NOW.get();
    MOST.set(before);
    assert_eq!(room.gc.collect(&room.store, false).unwrap().blobs, u64::from(blobs / 2));
    MOST.get() - before
}

#[test]
fn the_memory_of_garbage_collection_does_not_grow_with_the_number_of_blobs() {
    let [few, many] = [2_500, 10_000].map(memory_of_a_collection);
    assert!(many * 2 < few * 3, "{few} bytes for 2,500 blobs, {many} for 10,000");
}
