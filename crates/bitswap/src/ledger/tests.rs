use libp2p::multihash::Multihash;

use super::*;

fn cid(n: u32) -> Cid {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&n.to_be_bytes());
    Cid::new_v1(0x70, Multihash::wrap(0x12, &hash).unwrap())
}

fn entry(n: u32, kind: Kind) -> WantlistEntry {
    WantlistEntry { cid: cid(n), priority: 1, cancel: false, kind, send_dont_have: true }
}

fn block(n: u32) -> WantlistEntry {
    entry(n, Kind::Block)
}

fn have(n: u32) -> WantlistEntry {
    entry(n, Kind::Have)
}

fn cancel(n: u32) -> WantlistEntry {
    WantlistEntry { cancel: true, ..block(n) }
}

fn ledger(entries: Vec<WantlistEntry>) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.apply(false, entries);
    ledger
}

fn next(ledger: &mut Ledger) -> Want {
    ledger.next_block(|_, _| Ok::<_, ()>(0)).unwrap()
}

/// Returns the blocks in the order in which they are taken, by number.
fn order(ledger: &mut Ledger, sent: impl Fn(&Cid) -> u32) -> Vec<u32> {
    let sent = |cid: &Cid, _| -> Result<u32, ()> { Ok(sent(cid)) };
    let number = |want: Want| u32::from_be_bytes(want.cid.hash().digest()[..4].try_into().unwrap());
    std::iter::from_fn(|| ledger.next_block(sent).ok().map(number)).collect()
}

#[test]
fn blocks_are_sent_by_priority_and_then_in_request_order() {
    let mut entries: Vec<_> = [5, 3, 9, 1].map(block).into();
    entries[2].priority = 2;
    assert_eq!(order(&mut ledger(entries), |_| 0), [9, 5, 3, 1]);
}

#[test]
fn blocks_recently_sent_to_other_peers_are_sent_last() {
    let mut one = ledger([1, 2, 3, 4].map(block).into());
    let sent = |name: &Cid| u32::from(*name == cid(1)) * 2 + u32::from(*name == cid(3));
    assert_eq!(order(&mut one, sent), [2, 4, 3, 1]);
}

#[test]
fn an_urgent_block_is_sent_first_even_if_other_peers_have_it() {
    let mut one = ledger(vec![block(1), WantlistEntry { priority: URGENT, ..block(2) }]);
    assert_eq!(order(&mut one, |name| u32::from(*name == cid(2)) * 5), [2, 1]);
}

#[test]
fn a_held_block_is_deferred_until_its_deadline() {
    let mut ledger = ledger([1, 2, 3].map(block).into());
    let until =
        |name: &Cid, _| if *name == cid(2) { Ok(0) } else { Err(if *name == cid(1) { 7 } else { 5 }) };
    assert_eq!(ledger.next_block(until).unwrap().cid, cid(2));
    assert_eq!(ledger.next_block(until), Err(Some(5)), "the first of them");
    assert!(ledger.is_ready(&cid(1)));
    ledger.apply(false, vec![WantlistEntry { priority: URGENT, ..block(1) }]);
    let urgent = |_: &Cid, urgent: bool| if urgent { Ok(7) } else { Err(()) };
    assert_eq!(ledger.next_block(urgent).unwrap().cid, cid(1), "a reader waits for it");
    assert_eq!(ledger.next_block(urgent), Err(Some(())));
    ledger.apply(true, vec![]);
    assert_eq!(ledger.next_block(urgent), Err(None));
}

#[test]
fn a_want_block_that_follows_a_want_have_is_answered_too() {
    let mut ledger = ledger(vec![have(1), have(2)]);
    assert_eq!(ledger.next_haves(10).len(), 2);
    ledger.apply(false, vec![block(1)]);
    ledger.presence_sent(&cid(1));
    ledger.presence_sent(&cid(2));
    assert_eq!(order(&mut ledger, |_| 0), [1]);
}

#[test]
fn a_want_is_answered_once() {
    let mut ledger = ledger(vec![block(1), have(2)]);
    assert_eq!(ledger.next_haves(10).len(), 1);
    assert_eq!(order(&mut ledger, |_| 0), [1]);
    for want in [cid(1), cid(2)] {
        assert!(ledger.block_sent(&want) && !ledger.block_sent(&want));
    }
    assert!(ledger.is_empty());
}

#[test]
fn a_want_for_a_missing_block_waits_until_the_block_arrives() {
    let mut ledger = ledger(vec![block(1)]);
    next(&mut ledger);
    assert!(ledger.not_found(&cid(1)), "it asked to be told");
    assert_eq!(order(&mut ledger, |_| 0), [0u32; 0]);
    assert!(!ledger.arrived(&cid(2)));
    assert!(ledger.arrived(&cid(1)));
    assert_eq!(order(&mut ledger, |_| 0), [1]);
}

#[test]
fn a_block_that_arrives_during_its_lookup_is_sent() {
    let mut ledger = ledger(vec![block(1)]);
    next(&mut ledger);
    assert!(!ledger.arrived(&cid(1)));
    assert!(!ledger.not_found(&cid(1)), "the block is stored, so no DONT_HAVE is sent");
    assert_eq!(order(&mut ledger, |_| 0), [1]);
}

#[test]
fn cancels_and_repeated_wants_change_the_wantlist() {
    for (first, then, blocks, haves, what) in [
        (vec![block(1)], vec![cancel(1)], 0, 0, "a cancel takes back"),
        (vec![have(1)], vec![block(1)], 1, 0, "a block is more than its presence"),
        (vec![block(1)], vec![have(1)], 1, 0, "and is not taken back by it"),
        (vec![block(1), have(2)], vec![block(2), block(2)], 2, 0, "a double is one"),
        (vec![have(1)], vec![cancel(2)], 0, 1, "a cancel of nothing is nothing"),
    ] {
        let mut ledger = ledger(first);
        ledger.apply(false, then);
        assert_eq!((ledger.next_haves(10).len(), order(&mut ledger, |_| 0).len()), (haves, blocks), "{what}");
    }
}

#[test]
fn a_full_want_list_replaces_the_previous_one() {
    let mut ledger = ledger(vec![block(1), block(2)]);
    ledger.apply(true, vec![block(3)]);
    assert_eq!(order(&mut ledger, |_| 0), [3]);
}

#[test]
fn a_repeated_want_is_answered_again() {
    let mut ledger = ledger(vec![have(1)]);
    ledger.next_haves(1);
    assert!(ledger.not_found(&cid(1)));
    ledger.apply(false, vec![have(1)]);
    assert_eq!(ledger.next_haves(1).len(), 1);
    assert!(ledger.not_found(&cid(1)));
}

#[test]
fn a_peer_has_at_most_the_maximum_number_of_wants() {
    let mut ledger = ledger((0..1_000_000).map(block).collect());
    let taken = order(&mut ledger, |_| 0);
    assert_eq!(taken, (0..MAX_WANTS as u32).collect::<Vec<_>>());
    ledger.not_found(&cid(7));
    ledger.apply(false, vec![block(2_000_000)]);
    assert_eq!(order(&mut ledger, |_| 0), [2_000_000], "waiting wants are evicted");
    assert!(!ledger.arrived(&cid(7)));
}

#[test]
fn waiting_wants_are_evicted_in_batches() {
    let mut ledger = ledger((0..MAX_WANTS as u32).map(block).collect());
    for n in order(&mut ledger, |_| 0) {
        ledger.not_found(&cid(n));
    }
    ledger.apply(false, vec![block(2_000_000)]);
    assert_eq!(ledger.entries.len(), MAX_WANTS - EVICTED_WANTS + 1);
    assert!(ledger.arrived(&cid(0)), "the oldest stay");
    ledger.apply(false, (3_000_000..3_010_000).map(block).collect());
    assert_eq!(ledger.entries.len(), MAX_WANTS);
}

#[test]
fn both_versions_of_a_cid_are_one_want() {
    let v0 = Cid::new_v0(*cid(1).hash()).unwrap();
    let mut ledger = ledger(vec![WantlistEntry { cid: v0, ..block(1) }]);
    let want = next(&mut ledger);
    assert_eq!(want.cid, v0, "answered as it was asked");
    ledger.not_found(&v0);
    assert!(ledger.arrived(&cid(1)));
    ledger.apply(false, vec![cancel(1)]);
    assert!(ledger.is_empty());
}
