use std::time::Duration;

use libp2p::identity::Keypair;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// Returns a record of `key` that is valid until `until`.
pub fn record(key: &Keypair, sequence: u64, until: SystemTime) -> Vec<u8> {
    let value = "/ipfs/bafkqaaa";
    rust_ipns::Record::new(key, value, until.into(), sequence, HOUR).unwrap().encode().unwrap()
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
