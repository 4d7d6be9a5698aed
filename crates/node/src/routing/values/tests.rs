use std::time::Duration;

use libp2p::identity::Keypair;

use super::{
    super::{Rates, VERIFIED_AT_ONCE, VERIFIED_EVERY, ipns::tests::record},
    *,
};

const HOUR: Duration = Duration::from_secs(3600);

fn ipns_key(key: &Keypair) -> RecordKey {
    [&b"/ipns/"[..], &key.public().to_peer_id().to_bytes()].concat().into()
}

/// A table at one moment, in which everything may be verified.
struct Table {
    values: Values,
    now: Now,
}

impl Table {
    fn new() -> Self {
        Self { values: Values::new(PeerId::random()), now: Now::read() }
    }

    fn put(&mut self, key: &RecordKey, value: Vec<u8>) -> Result<(), Refusal> {
        self.values.put(Record::new(key.clone(), value), self.now, || true)
    }

    fn get(&self, key: &RecordKey) -> Option<Vec<u8>> {
        self.values.get(key, self.now.instant).map(|record| record.value)
    }

    /// A record that ends so many hours after the table's time.
    fn record(&self, key: &Keypair, sequence: u64, hours: u32) -> Vec<u8> {
        record(key, sequence, self.now.wall + HOUR * hours)
    }
}

#[test]
fn only_a_better_record_takes_the_place_of_one() {
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
fn what_cannot_be_verified_is_refused() {
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
fn a_value_ends_when_its_sender_says_or_its_validity_or_its_time() {
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
        // The record's own end is told to the nanosecond, but rounding is nobody's concern.
        table.now = start.after(HOUR * ends - Duration::from_secs(1));
        assert!(table.get(&name).is_some(), "{sequence}");
        table.now = start.after(HOUR * ends + Duration::from_secs(1));
        assert!(table.get(&name).is_none(), "{sequence}");
        table.values.sweep(None, table.now.instant);
        assert_eq!(table.values.iter().count(), 0, "{sequence}");
    }
}

#[test]
fn one_that_has_expired_here_does_not_stand_in_the_way_of_an_older_one() {
    let (mut table, key) = (Table::new(), Keypair::generate_ed25519());
    let (name, start) = (ipns_key(&key), table.now);
    let (newer, older) = (table.record(&key, 2, 1), table.record(&key, 1, 9));
    table.put(&name, newer).unwrap();
    table.now = start.after(HOUR * 2);
    table.put(&name, older.clone()).unwrap();
    assert_eq!(table.get(&name), Some(older));
}

#[test]
fn what_is_kept_already_lives_on_without_being_verified_again() {
    let (mut table, key) = (Table::new(), Keypair::generate_ed25519());
    let (name, start) = (ipns_key(&key), table.now);
    let bytes = table.record(&key, 1, 90);
    let record = Record::new(name.clone(), bytes.clone());
    let refused = table.values.put(record.clone(), start, || false);
    assert!(matches!(refused, Err(Refusal::TooOften)), "{refused:?}");
    table.put(&name, bytes.clone()).unwrap();
    table.now = start.after(HOUR * 40);
    table.values.put(record, table.now, || false).unwrap();
    table.now = start.after(HOUR * 60);
    assert_eq!(table.get(&name), Some(bytes));
}

#[test]
fn values_are_bounded() {
    let mut table = Table::new();
    let put = (0..ROOM.keys + 50).filter(|_| {
        let public = Keypair::generate_ed25519().public();
        let key = [&b"/pk/"[..], &public.to_peer_id().to_bytes()].concat().into();
        table.put(&key, public.encode_protobuf()).is_ok()
    });
    assert!(put.count() >= ROOM.keys);
    assert_eq!(table.values.iter().count(), ROOM.keys);
}

#[test]
fn own_and_followed_names_are_not_crowded_out_by_a_flood_of_nearer_keys() {
    let mut table = Table::new();
    table.values = Values::with_room(PeerId::random(), Room { keys: 4, bytes: 4 * ipns::MAX_BYTES });
    let mut keys: Vec<_> = (0..9).map(|_| Keypair::generate_ed25519()).collect();
    keys.sort_by_key(|key| table.values.others.distance_to(&ipns_key(key)));
    let (followed, followed_later) = (ipns_key(&keys[8]), ipns_key(&keys[7]));
    table.values.reserve(followed.clone());
    for key in keys.iter().rev() {
        let _ = table.put(&ipns_key(key), table.record(key, 1, 5));
        if ipns_key(key) == followed_later {
            // It was put as any other's, and its place is kept from now on.
            table.values.reserve(followed_later.clone());
        }
    }
    let is_kept =
        |table: &Table| keys.iter().map(|key| table.get(&ipns_key(key)).is_some()).collect::<Vec<_>>();
    assert_eq!(is_kept(&table), [true, true, true, true, false, false, false, true, true]);
    assert_eq!(table.values.iter().count(), 6);
    assert!(table.values.changes().take().contains(&followed), "the file is told");
    let newer = table.record(&keys[8], 2, 5);
    table.put(&followed, newer.clone()).unwrap();
    assert!(table.put(&followed, table.record(&keys[8], 1, 9)).is_err(), "older");
    assert_eq!(table.get(&followed), Some(newer));
    table.values.release(followed.clone());
    assert_eq!(table.get(&followed), None, "it is one of many now, and the farthest");
}

#[test]
fn junk_values_of_100_peers_cost_a_bounded_number_of_verifications() {
    let (mut table, mut rates) = (Table::new(), Rates::new(VERIFIED_EVERY, VERIFIED_AT_ONCE));
    let (peers, honest) = ([(); 100].map(|()| PeerId::random()), PeerId::random());
    let name = ipns_key(&Keypair::generate_ed25519());
    let verified = |table: &mut Table, rates: &mut Rates| {
        let all = peers.iter().flat_map(|peer| [peer; 1000]);
        let mut put = |peer: &PeerId| {
            let junk = Record::new(name.clone(), b"junk".to_vec());
            let put = table.values.put(junk, table.now, || rates.allow(*peer, table.now.instant));
            !matches!(put, Err(Refusal::TooOften))
        };
        all.filter(|peer| put(peer)).count()
    };
    assert_eq!(verified(&mut table, &mut rates), 100 * VERIFIED_AT_ONCE as usize);
    assert_eq!(verified(&mut table, &mut rates), 0);
    table.now = table.now.after(Duration::from_secs(1));
    assert_eq!(verified(&mut table, &mut rates), 100 * 25);
    let key = Keypair::generate_ed25519();
    let record = Record::new(ipns_key(&key), table.record(&key, 1, 1));
    table.values.put(record, table.now, || rates.allow(honest, table.now.instant)).unwrap();
}
