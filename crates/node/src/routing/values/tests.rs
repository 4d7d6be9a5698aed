use std::time::Duration;

use libp2p::identity::Keypair;

use super::{
    super::{RateLimiter, VERIFY_BURST, VERIFY_INTERVAL, ipns::tests::record},
    *,
};

const HOUR: Duration = Duration::from_secs(3600);

fn ipns_key(key: &Keypair) -> RecordKey {
    [&b"/ipns/"[..], &key.public().to_peer_id().to_bytes()].concat().into()
}

/// A table at a fixed time, without a rate limit.
struct Table {
    values: Values,
    now: Now,
}

impl Table {
    fn new() -> Self {
        Self { values: Values::new(PeerId::random()), now: Now::read() }
    }

    fn put(&mut self, key: &RecordKey, value: Vec<u8>) -> Result<(), PutError> {
        self.values.put(Record::new(key.clone(), value), self.now, || true)
    }

    fn get(&self, key: &RecordKey) -> Option<Vec<u8>> {
        self.values.get(key, self.now.instant).map(|record| record.value)
    }

    /// Returns a record that expires this many hours after the table's time.
    fn record(&self, key: &Keypair, sequence: u64, hours: u32) -> Vec<u8> {
        record(key, sequence, self.now.wall + HOUR * hours)
    }
}

#[test]
fn only_a_newer_record_replaces_a_stored_one() {
    let (mut table, key) = (Table::new(), Keypair::generate_ed25519());
    let name = ipns_key(&key);
    for (sequence, hours, kept) in
        [(5, 2, true), (4, 9, false), (5, 1, false), (5, 3, true), (6, 1, true), (6, 1, true)]
    {
        let offered = table.record(&key, sequence, hours);
        let put = table.put(&name, offered.clone());
        assert_eq!(put.is_ok(), kept, "{sequence} for {hours} h: {put:?}");
        assert_eq!(table.get(&name) == Some(offered), kept, "{sequence} for {hours} h");
    }
}

#[test]
fn a_value_that_cannot_be_verified_is_rejected() {
    let (mut table, key, other) = (Table::new(), Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let (good, late) = (table.record(&key, 1, 1), record(&key, 1, table.now.wall - HOUR));
    let public = key.public().encode_protobuf();
    let pk = |key: &Keypair| RecordKey::from([&b"/pk/"[..], &key.public().to_peer_id().to_bytes()].concat());
    let plain = |text: &str| RecordKey::new(&text);
    for (what, key, value) in [
        ("another's name", ipns_key(&other), good.clone()),
        ("an expired record", ipns_key(&key), late),
        ("garbage", ipns_key(&key), b"nonsense".to_vec()),
        ("too much", ipns_key(&key), vec![0; ipns::MAX_BYTES + 1]),
        ("no name", plain("/ipns/nobody"), good.clone()),
        ("a namespace of others", plain("/provenance/x"), good.clone()),
        ("no namespace", plain("x"), good),
        ("another's public key", pk(&other), public.clone()),
        ("more than a public key", pk(&key), [&public[..], &[0x18, 1]].concat()),
        ("no public key", pk(&key), b"nonsense".to_vec()),
    ] {
        assert!(table.put(&key, value).is_err(), "{what}");
        assert_eq!(table.get(&key), None, "{what}");
    }
    table.put(&pk(&key), public.clone()).unwrap();
    assert_eq!(table.get(&pk(&key)), Some(public));
}

#[test]
fn a_value_expires_at_its_expiry_its_end_of_validity_or_after_its_lifetime() {
    let (mut table, key) = (Table::new(), Keypair::generate_ed25519());
    let (name, start) = (ipns_key(&key), table.now);
    for (sequence, said, valid, ends) in
        [(1, None, 5, 5), (2, Some(3), 5, 3), (3, None, 90, 48), (4, Some(90), 90, 48)]
    {
        table.now = start;
        let record = Record {
            expires: said.map(|hours| start.instant + HOUR * hours),
            ..Record::new(name.clone(), table.record(&key, sequence, valid))
        };
        table.values.put(record, start, || true).unwrap();
        // The expiry is exact to a nanosecond; rounding does not matter.
        table.now = start.after(HOUR * ends - Duration::from_secs(1));
        assert!(table.get(&name).is_some(), "{sequence}");
        table.now = start.after(HOUR * ends + Duration::from_secs(1));
        assert!(table.get(&name).is_none(), "{sequence}");
        table.values.sweep(None, table.now.instant);
        assert_eq!(table.values.iter().count(), 0, "{sequence}");
    }
}

#[test]
fn an_expired_value_is_replaced_by_an_older_valid_one() {
    let (mut table, key) = (Table::new(), Keypair::generate_ed25519());
    let (name, start) = (ipns_key(&key), table.now);
    let (newer, older) = (table.record(&key, 2, 1), table.record(&key, 1, 9));
    table.put(&name, newer).unwrap();
    table.now = start.after(HOUR * 2);
    table.put(&name, older.clone()).unwrap();
    assert_eq!(table.get(&name), Some(older));
}

#[test]
fn an_expired_record_is_stored_where_clocks_may_be_wrong_and_a_newer_one_replaces_it() {
    let (mut table, key) = (Table::new(), Keypair::generate_ed25519());
    table.values.use_expired();
    let name = ipns_key(&key);
    let years_ago = table.now.wall - HOUR * 24 * 365 * 3;
    let [old, newer] = [1, 2].map(|sequence| record(&key, sequence, years_ago));
    table.put(&name, old.clone()).unwrap();
    assert_eq!(table.get(&name), Some(old.clone()));
    table.put(&name, newer.clone()).unwrap();
    assert!(matches!(table.put(&name, old), Err(PutError::Older)));
    assert_eq!(table.get(&name), Some(newer));
    table.now = table.now.after(HOUR * 49);
    assert_eq!(table.get(&name), None, "no peer has sent it for two days");
}

#[test]
fn a_republished_value_is_not_verified_again() {
    let (mut table, key) = (Table::new(), Keypair::generate_ed25519());
    let (name, start) = (ipns_key(&key), table.now);
    let bytes = table.record(&key, 1, 90);
    let record = Record::new(name.clone(), bytes.clone());
    let refused = table.values.put(record.clone(), start, || false);
    assert!(matches!(refused, Err(PutError::TooOften)), "{refused:?}");
    table.put(&name, bytes.clone()).unwrap();
    table.now = start.after(HOUR * 40);
    table.values.put(record, table.now, || false).unwrap();
    table.now = start.after(HOUR * 60);
    assert_eq!(table.get(&name), Some(bytes));
}

#[test]
fn values_are_bounded() {
    let mut table = Table::new();
    let put = (0..CAPACITY.keys + 50).filter(|_| {
        let public = Keypair::generate_ed25519().public();
        let key = [&b"/pk/"[..], &public.to_peer_id().to_bytes()].concat().into();
        table.put(&key, public.encode_protobuf()).is_ok()
    });
    assert!(put.count() >= CAPACITY.keys);
    assert_eq!(table.values.iter().count(), CAPACITY.keys);
}

#[test]
fn a_flood_of_nearer_keys_does_not_evict_own_and_followed_names() {
    let mut table = Table::new();
    table.values = Values::with_capacity(PeerId::random(), Capacity { keys: 4, bytes: 4 * ipns::MAX_BYTES });
    let mut keys: Vec<_> = (0..9).map(|_| Keypair::generate_ed25519()).collect();
    keys.sort_by_key(|key| table.values.others.distance_to(&ipns_key(key)));
    let (followed, followed_later) = (ipns_key(&keys[8]), ipns_key(&keys[7]));
    table.values.reserve(followed.clone());
    for key in keys.iter().rev() {
        let _ = table.put(&ipns_key(key), table.record(key, 1, 5));
        if ipns_key(key) == followed_later {
            // It was put like any other, and its place is reserved from now on.
            table.values.reserve(followed_later.clone());
        }
    }
    let is_kept =
        |table: &Table| keys.iter().map(|key| table.get(&ipns_key(key)).is_some()).collect::<Vec<_>>();
    assert_eq!(is_kept(&table), [true, true, true, true, false, false, false, true, true]);
    assert_eq!(table.values.iter().count(), 6);
    assert!(table.values.changes().drain().contains(&followed), "the file is updated");
    let newer = table.record(&keys[8], 2, 5);
    table.put(&followed, newer.clone()).unwrap();
    assert!(table.put(&followed, table.record(&keys[8], 1, 9)).is_err(), "older");
    assert_eq!(table.get(&followed), Some(newer));
    table.values.release(followed.clone());
    assert_eq!(table.get(&followed), None, "it is one of many now, and the farthest");
}

#[test]
fn invalid_values_from_many_peers_are_rate_limited() {
    let (mut table, mut limiter) = (Table::new(), RateLimiter::new(VERIFY_INTERVAL, VERIFY_BURST));
    let (peers, honest) = ([(); 100].map(|()| PeerId::random()), PeerId::random());
    let name = ipns_key(&Keypair::generate_ed25519());
    let verified = |table: &mut Table, limiter: &mut RateLimiter| {
        let all = peers.iter().flat_map(|peer| [peer; 1000]);
        let mut put = |peer: &PeerId| {
            let junk = Record::new(name.clone(), b"junk".to_vec());
            let put = table.values.put(junk, table.now, || limiter.allow(*peer, table.now.instant));
            !matches!(put, Err(PutError::TooOften))
        };
        all.filter(|peer| put(peer)).count()
    };
    assert_eq!(verified(&mut table, &mut limiter), 100 * VERIFY_BURST as usize);
    assert_eq!(verified(&mut table, &mut limiter), 0);
    table.now = table.now.after(Duration::from_secs(1));
    assert_eq!(verified(&mut table, &mut limiter), 100 * 25);
    let key = Keypair::generate_ed25519();
    let record = Record::new(ipns_key(&key), table.record(&key, 1, 1));
    table.values.put(record, table.now, || limiter.allow(honest, table.now.instant)).unwrap();
}
