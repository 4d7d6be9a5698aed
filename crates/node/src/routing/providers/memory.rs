//! The memory of the table, counted by the allocator.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::Instant,
};

use libp2p::{
    Multiaddr, PeerId,
    kad::{ProviderRecord, RecordKey},
};
use multihash_codetable::{Code, MultihashDigest};

use super::Providers;

const KEYS: u32 = 10_000;

/// The system's allocator, which counts for each thread what it has taken and not given back.
struct Counting;

thread_local! {
    static TAKEN: Cell<i64> = const { Cell::new(0) };
}

// SAFETY: every call is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.set(TAKEN.get() + layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        TAKEN.set(TAKEN.get() - layout.size() as i64);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns the bytes of each key in a table whose keys have these many providers in all, with four addresses each.
fn bytes_per_key(providers: u32) -> i64 {
    let peers: Vec<PeerId> = (0..providers).map(|_| PeerId::random()).collect();
    let now = Instant::now();
    let before = TAKEN.get();
    let mut table = Providers::new(PeerId::random());
    for n in 0..KEYS {
        let key = RecordKey::new(&Code::Sha2_256.digest(&n.to_be_bytes()).to_bytes());
        let address = |port: u32| -> Multiaddr {
            format!("/ip4/192.0.2.{}/udp/{port}/quic-v1", n % 250).parse().unwrap()
        };
        let peer = peers[(n % providers) as usize];
        table.add(ProviderRecord::new(key, peer, (4001..4005).map(address).collect()), now).unwrap();
    }
    // What the keeper writes, and forgets.
    drop(table.changes().drain());
    let taken = TAKEN.get() - before;
    drop(table);
    taken / i64::from(KEYS)
}

#[test]
fn a_provider_record_takes_less_than_300_bytes_with_the_addresses_that_records_share() {
    let shared = bytes_per_key(KEYS / 10);
    assert!((100..300).contains(&shared), "{shared} bytes for each key of a provider with ten keys");
    // A provider of one key is the worst case; without compact rows it took 900.
    let single = bytes_per_key(KEYS);
    assert!((100..450).contains(&single), "{single} bytes for each key of a provider with one key");
}

#[test]
fn an_own_record_takes_less_than_150_bytes() {
    let me = PeerId::random();
    let before = TAKEN.get();
    let mut table = Providers::new(me);
    for n in 0..KEYS {
        let key = RecordKey::new(&Code::Sha2_256.digest(&n.to_be_bytes()).to_bytes());
        table.add(ProviderRecord::new(key, me, Vec::new()), Instant::now()).unwrap();
    }
    let each = (TAKEN.get() - before) / i64::from(KEYS);
    assert!((40..150).contains(&each), "{each} bytes");
    assert_eq!(table.own().count(), KEYS as usize);
}
