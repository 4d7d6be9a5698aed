use std::time::Duration;

use libp2p::identity::Keypair;
use ocipfs_bitswap::wire::fields::put_varint;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// Returns a record of `key` that is valid until `until`.
pub fn record(key: &Keypair, sequence: u64, until: SystemTime) -> Vec<u8> {
    let value = "/ipfs/bafkqaaa";
    rust_ipns::Record::new(key, value, until.into(), sequence, HOUR).unwrap().encode().unwrap()
}

/// Returns the field `number` of a protobuf message, with bytes or a number in it.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(value.len() as u64), value].concat()
}

fn number(number: u8, value: u64) -> Vec<u8> {
    [vec![number << 3], varint(value)].concat()
}

fn varint(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, value);
    out
}

/// The parts of a record, each with its fields.
struct Parts {
    value: Vec<u8>,
    signature_v1: Vec<u8>,
    /// Validity type, validity, sequence and TTL.
    copies: Vec<u8>,
    key: Vec<u8>,
    signature_v2: Vec<u8>,
    data: Vec<u8>,
}

impl Parts {
    /// Signs a record for [`VALUE`] with the sequence 3.
    fn signed(key: &Keypair, until: SystemTime) -> Self {
        let validity = chrono::DateTime::<chrono::Utc>::from(until)
            .to_rfc3339_opts(chrono::SecondsFormat::Nanos, true)
            .into_bytes();
        let sign = |what: &[&[u8]]| key.sign(&what.concat()).unwrap();
        let data = serde_ipld_dagcbor::to_vec(&rust_ipns::Data {
            value: VALUE.into(),
            validity_type: rust_ipns::ValidityType::EOL,
            validity: validity.clone().into(),
            sequence: 3,
            ttl: HOUR.as_nanos() as u64,
            metadata: Default::default(),
        })
        .unwrap();
        let ttl = HOUR.as_nanos() as u64;
        let encoded = key.public().encode_protobuf();
        Self {
            value: field(1, VALUE),
            signature_v1: field(2, &sign(&[VALUE, &validity, b"EOL"])),
            copies: [number(3, 0), field(4, &validity), number(5, 3), number(6, ttl)].concat(),
            key: if encoded.len() > 42 { field(7, &encoded) } else { Vec::new() },
            signature_v2: field(8, &sign(&[b"ipns-signature:", &data])),
            data: field(9, &data),
        }
    }

    fn v1(&self) -> Vec<u8> {
        [&self.value[..], &self.signature_v1, &self.copies].concat()
    }

    fn v2(&self) -> Vec<u8> {
        [&self.key[..], &self.signature_v2, &self.data].concat()
    }
}

const VALUE: &[u8] = b"/ipfs/bafkqaaa";

/// Returns a record of `key` without the fields of version 1, as Kubo writes it with `--v1compat=false`.
pub fn v2_only(key: &Keypair, until: SystemTime) -> Vec<u8> {
    Parts::signed(key, until).v2()
}

#[test]
fn an_ipns_record_with_version_2_only_is_valid() {
    let now = SystemTime::now();
    for key in [Keypair::generate_ed25519(), Keypair::generate_secp256k1(), Keypair::generate_ecdsa()] {
        let parts = Parts::signed(&key, now + HOUR);
        let verified = |bytes| Record::verify(name(&key), bytes, now).unwrap();
        let both = verified([parts.v1(), parts.v2()].concat());
        let only = verified(parts.v2());
        assert_eq!((only.value(), only.sequence(), only.ttl()), (VALUE, 3, HOUR));
        assert_eq!(only, both, "the same signed content");
        let late = Record::verify(name(&key), parts.v2(), now + HOUR);
        assert!(matches!(late, Err(Error::Expired)), "{late:?}");
        // A copy without a value or a signature of version 1 means nothing.
        assert_eq!(verified([number(5, 9), parts.v2()].concat()), only);
        // The signature of version 1 is not verified.
        let forged = [&parts.value[..], &field(2, b"forged"), &parts.copies].concat();
        assert_eq!(verified([forged, parts.v2()].concat()), only);
    }
}

#[test]
fn copies_of_version_1_in_an_ipns_record_must_equal_the_signed_data() {
    let (key, other, now) = (Keypair::generate_ed25519(), Keypair::generate_ed25519(), SystemTime::now());
    let (parts, later) = (Parts::signed(&key, now + HOUR), Parts::signed(&key, now + HOUR * 2));
    let both = [parts.v1(), parts.v2()].concat();
    let with = |extra: Vec<u8>| [both.clone(), extra].concat();
    for (what, bytes) in [
        ("version 1 only", parts.v1()),
        ("version 1 with data that is not signed", [parts.v1(), parts.data.clone()].concat()),
        ("a signature without data", [parts.v1(), parts.signature_v2.clone()].concat()),
        ("another value", with(field(1, b"/ipfs/other"))),
        ("another validity", [later.v1(), parts.v2()].concat()),
        ("another validity type", with(number(3, 1))),
        ("another sequence", with(number(5, 4))),
        ("another TTL", with(number(6, 1))),
        ("no copies but the value", [parts.value.clone(), parts.v2()].concat()),
        ("no copies but the signature", [parts.signature_v1.clone(), parts.v2()].concat()),
        ("the signature of other data", [parts.signature_v2.clone(), later.data.clone()].concat()),
        ("the signature of version 1", [field(8, &parts.signature_v1[2..]), parts.data.clone()].concat()),
        ("another's signature", Parts::signed(&other, now + HOUR).v2()),
    ] {
        let refused = Record::verify(name(&key), bytes, now);
        assert!(matches!(refused, Err(Error::Invalid(_))), "{what}: {refused:?}");
    }
}

fn name(key: &Keypair) -> PeerId {
    key.public().to_peer_id()
}

#[test]
fn ipns_records_of_all_key_types_are_verified() {
    let now = SystemTime::now();
    for key in [Keypair::generate_ed25519(), Keypair::generate_secp256k1(), Keypair::generate_ecdsa()] {
        let bytes = record(&key, 7, now + HOUR);
        let verified = Record::verify(name(&key), bytes.clone(), now).unwrap();
        assert_eq!((verified.sequence, verified.bytes()), (7, &bytes[..]));
        assert!(verified.until() > now + HOUR - Duration::from_secs(1));
    }
}

#[test]
fn an_invalid_ipns_record_is_rejected() {
    let (key, other, now) = (Keypair::generate_ed25519(), Keypair::generate_ed25519(), SystemTime::now());
    let good = record(&key, 1, now + HOUR);
    let with = |extra: &[u8]| [&good[..], extra].concat();
    let mut signed_by_other = with(&[0x3a, 36]);
    signed_by_other.extend(other.public().encode_protobuf());
    for (what, bytes) in [
        ("another's", record(&other, 1, now + HOUR)),
        ("nothing", Vec::new()),
        ("garbage", vec![0xff; 200]),
        ("a cut one", good[..good.len() / 2].to_vec()),
        ("one with another's key in it", signed_by_other),
        // Field 5, the sequence, once more: it differs from the signed one.
        ("another sequence", with(&[0x28, 9])),
        ("too large", with(&[0; MAX_BYTES])),
    ] {
        let refused = Record::verify(name(&key), bytes, now);
        assert!(matches!(refused, Err(Error::Invalid(_))), "{what}: {refused:?}");
    }
    let late = Record::verify(name(&key), good, now + HOUR);
    assert!(matches!(late, Err(Error::Expired)), "{late:?}");
}

#[test]
fn changing_any_signed_byte_invalidates_an_ipns_record() {
    let (key, now) = (Keypair::generate_ed25519(), SystemTime::now());
    let good = record(&key, 1, now + HOUR);
    let signed = rust_ipns::Record::decode(&good).unwrap();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        // The old signature is not checked.
        if Record::verify(name(&key), bytes.clone(), now).is_ok() {
            let accepted = rust_ipns::Record::decode(&bytes).unwrap();
            assert_eq!(accepted.data().unwrap().value(), signed.data().unwrap().value(), "byte {at}");
            assert_eq!((accepted.sequence(), accepted.ttl()), (signed.sequence(), signed.ttl()), "byte {at}");
        }
    }
}

#[test]
fn the_higher_ipns_sequence_wins_and_then_the_later_expiry() {
    let (key, now) = (Keypair::generate_ed25519(), SystemTime::now());
    let verified = |sequence, hours| {
        Record::verify(name(&key), record(&key, sequence, now + HOUR * hours), now).unwrap()
    };
    let all = [verified(1, 9), verified(2, 1), verified(2, 5), verified(0, 20)];
    assert_eq!(select(&all), Some(&all[2]));
    assert_eq!(select(&all[..2]), Some(&all[1]));
    assert_eq!(select([]), None);
}

#[test]
fn ipns_records_with_the_same_signed_content_are_equal() {
    let (key, now) = (Keypair::generate_ed25519(), SystemTime::now());
    let good = record(&key, 1, now + HOUR);
    let verified = |bytes| Record::verify(name(&key), bytes, now).unwrap();
    // Field 99, which no reader knows: a peer can add any number of them.
    let padded = [&good[..], &[0x9a, 0x06, 3, b'a', b'b', b'c']].concat();
    let (good, padded) = (verified(good), verified(padded));
    assert_ne!(good.bytes(), padded.bytes());
    assert_eq!(good, padded);
    assert_eq!(select([&good, &padded]).unwrap().sequence(), 1);
    assert_ne!(good, verified(record(&key, 1, now + HOUR * 2)));
}
