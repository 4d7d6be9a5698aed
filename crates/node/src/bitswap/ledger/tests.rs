use libp2p::multihash::Multihash;

use super::*;

fn cid(n: u32) -> Cid {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&n.to_be_bytes());
    Cid::new_v1(0x70, Multihash::wrap(0x12, &hash).unwrap())
}

fn entry(n: u32, kind: Kind) -> Entry {
    Entry { cid: cid(n), priority: 1, cancel: false, kind, send_dont_have: true }
}

fn block(n: u32) -> Entry {
    entry(n, Kind::Block)
}

fn have(n: u32) -> Entry {
    entry(n, Kind::Have)
}

fn cancel(n: u32) -> Entry {
    Entry { cancel: true, ..block(n) }
}

fn ledger(entries: Vec<Entry>) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.apply(false, entries);
    ledger
}

fn take(ledger: &mut Ledger) -> Want {
    ledger.take_block(|_, _| Ok::<_, ()>(0)).unwrap()
}

/// The blocks that are taken one after another, by number.
fn order(ledger: &mut Ledger, sent: impl Fn(&Cid) -> u32) -> Vec<u32> {
    let sent = |cid: &Cid, _| -> Result<u32, ()> { Ok(sent(cid)) };
    let number = |want: Want| u32::from_be_bytes(want.cid.hash().digest()[..4].try_into().unwrap());
    std::iter::from_fn(|| ledger.take_block(sent).ok().map(number)).collect()
}

#[test]
fn blocks_go_by_priority_and_then_in_the_order_asked() {
    let mut entries: Vec<_> = [5, 3, 9, 1].map(block).into();
    entries[2].priority = 2;
    assert_eq!(order(&mut ledger(entries), |_| 0), [9, 5, 3, 1]);
}

#[test]
fn what_others_were_just_sent_goes_last() {
    let mut one = ledger([1, 2, 3, 4].map(block).into());
    let sent = |name: &Cid| u32::from(*name == cid(1)) * 2 + u32::from(*name == cid(3));
    assert_eq!(order(&mut one, sent), [2, 4, 3, 1]);
}

#[test]
fn what_a_reader_waits_for_goes_first_whoever_has_it() {
    let mut one = ledger(vec![block(1), Entry { priority: URGENT, ..block(2) }]);
    assert_eq!(order(&mut one, |name| u32::from(*name == cid(2)) * 5), [2, 1]);
}

#[test]
fn a_block_that_has_to_wait_is_left_for_later_and_it_is_said_until_when() {
    let mut ledger = ledger([1, 2, 3].map(block).into());
    let until =
        |name: &Cid, _| if *name == cid(2) { Ok(0) } else { Err(if *name == cid(1) { 7 } else { 5 }) };
    assert_eq!(ledger.take_block(until).unwrap().cid, cid(2));
    assert_eq!(ledger.take_block(until), Err(Some(5)), "the first of them");
    assert!(ledger.is_ready(&cid(1)));
    ledger.apply(false, vec![Entry { priority: URGENT, ..block(1) }]);
    let urgent = |_: &Cid, urgent: bool| if urgent { Ok(7) } else { Err(()) };
    assert_eq!(ledger.take_block(urgent).unwrap().cid, cid(1), "a reader waits for it");
    assert_eq!(ledger.take_block(urgent), Err(Some(())));
    ledger.apply(true, vec![]);
    assert_eq!(ledger.take_block(urgent), Err(None));
}

#[test]
fn a_block_that_is_wanted_while_its_presence_is_looked_for_is_sent_too() {
    let mut ledger = ledger(vec![have(1), have(2)]);
    assert_eq!(ledger.take_haves(10).len(), 2);
    ledger.apply(false, vec![block(1)]);
    ledger.told(&cid(1));
    ledger.told(&cid(2));
    assert_eq!(order(&mut ledger, |_| 0), [1]);
}

#[test]
fn a_want_is_answered_once() {
    let mut ledger = ledger(vec![block(1), have(2)]);
    assert_eq!(ledger.take_haves(10).len(), 1);
    assert_eq!(order(&mut ledger, |_| 0), [1]);
    for want in [cid(1), cid(2)] {
        assert!(ledger.answered(&want) && !ledger.answered(&want));
    }
    assert!(ledger.is_empty());
}

#[test]
fn what_is_not_here_waits_until_it_comes() {
    let mut ledger = ledger(vec![block(1)]);
    take(&mut ledger);
    assert!(ledger.missing(&cid(1)), "it asked to be told");
    assert_eq!(order(&mut ledger, |_| 0), [0u32; 0]);
    assert!(!ledger.arrived(&cid(2)));
    assert!(ledger.arrived(&cid(1)));
    assert_eq!(order(&mut ledger, |_| 0), [1]);
}

#[test]
fn a_block_that_comes_while_it_is_looked_for_is_not_overlooked() {
    let mut ledger = ledger(vec![block(1)]);
    take(&mut ledger);
    assert!(!ledger.arrived(&cid(1)));
    assert!(!ledger.missing(&cid(1)), "it is here, so nobody is told otherwise");
    assert_eq!(order(&mut ledger, |_| 0), [1]);
}

#[test]
fn wants_change_as_the_table_says() {
    for (first, then, blocks, haves, what) in [
        (vec![block(1)], vec![cancel(1)], 0, 0, "a cancel takes back"),
        (vec![have(1)], vec![block(1)], 1, 0, "a block is more than its presence"),
        (vec![block(1)], vec![have(1)], 1, 0, "and is not taken back by it"),
        (vec![block(1), have(2)], vec![block(2), block(2)], 2, 0, "a double is one"),
        (vec![have(1)], vec![cancel(2)], 0, 1, "a cancel of nothing is nothing"),
    ] {
        let mut ledger = ledger(first);
        ledger.apply(false, then);
        assert_eq!((ledger.take_haves(10).len(), order(&mut ledger, |_| 0).len()), (haves, blocks), "{what}");
    }
}

#[test]
fn a_full_list_replaces_the_one_before() {
    let mut ledger = ledger(vec![block(1), block(2)]);
    ledger.apply(true, vec![block(3)]);
    assert_eq!(order(&mut ledger, |_| 0), [3]);
}

#[test]
fn who_asks_again_is_answered_again() {
    let mut ledger = ledger(vec![have(1)]);
    ledger.take_haves(1);
    assert!(ledger.missing(&cid(1)));
    ledger.apply(false, vec![have(1)]);
    assert_eq!(ledger.take_haves(1).len(), 1);
    assert!(ledger.missing(&cid(1)));
}

#[test]
fn a_million_wants_are_as_many_as_a_peer_may_have() {
    let mut ledger = ledger((0..1_000_000).map(block).collect());
    let taken = order(&mut ledger, |_| 0);
    assert_eq!(taken, (0..MAX_WANTS as u32).collect::<Vec<_>>());
    ledger.missing(&cid(7));
    ledger.apply(false, vec![block(2_000_000)]);
    assert_eq!(order(&mut ledger, |_| 0), [2_000_000], "what only waits makes room");
    assert!(!ledger.arrived(&cid(7)));
}

#[test]
fn wants_that_only_wait_make_room_many_at_once_so_that_a_full_list_costs_little() {
    let mut ledger = ledger((0..MAX_WANTS as u32).map(block).collect());
    for n in order(&mut ledger, |_| 0) {
        ledger.missing(&cid(n));
    }
    ledger.apply(false, vec![block(2_000_000)]);
    assert_eq!(ledger.lines.len(), MAX_WANTS - FORGOTTEN_AT_ONCE + 1);
    assert!(ledger.arrived(&cid(0)), "the oldest stay");
    ledger.apply(false, (3_000_000..3_010_000).map(block).collect());
    assert_eq!(ledger.lines.len(), MAX_WANTS);
}

#[test]
fn both_versions_of_a_cid_are_one_want() {
    let v0 = Cid::new_v0(*cid(1).hash()).unwrap();
    let mut ledger = ledger(vec![Entry { cid: v0, ..block(1) }]);
    let want = take(&mut ledger);
    assert_eq!(want.cid, v0, "answered as it was asked");
    ledger.missing(&v0);
    assert!(ledger.arrived(&cid(1)));
    ledger.apply(false, vec![cancel(1)]);
    assert!(ledger.is_empty());
}
