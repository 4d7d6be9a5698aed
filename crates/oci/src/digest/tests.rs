use proptest::prelude::*;

use super::*;

const EMPTY_256: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const EMPTY_512: &str = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";

#[test]
fn digests_of_empty_content_are_correct() {
    assert_eq!(Digest::sha256_of(b"").to_string(), EMPTY_256);
    assert_eq!(Hasher::new(Algorithm::Sha256).finish().to_string(), EMPTY_256);
    assert_eq!(Hasher::new(Algorithm::Sha512).finish().to_string(), EMPTY_512);
}

#[test]
fn a_digest_gives_its_parts() {
    let digest: Digest = EMPTY_512.parse().unwrap();
    assert_eq!(digest.algorithm(), Algorithm::Sha512);
    assert_eq!(digest.bytes().len(), 64);
    assert_eq!(format!("sha512:{}", digest.hex()), EMPTY_512);
    assert_eq!(digest.etag(), format!("\"{EMPTY_512}\""));
    let etag = digest.etag();
    for known in [&etag, "*", &format!("W/{etag}"), &format!("\"other\" , {etag}")] {
        assert!(digest.is_among(known), "{known}");
    }
    for other in ["", "\"other\"", "W/", EMPTY_512] {
        assert!(!digest.is_among(other), "{other}");
    }
    assert_eq!(format!("{digest:?}"), format!("Digest({EMPTY_512})"));
}

#[test]
fn an_invalid_digest_is_rejected_with_a_reason() {
    let short = &EMPTY_256[..70];
    let long = format!("{EMPTY_256}00");
    let upper = EMPTY_256.to_uppercase().replace("SHA", "sha");
    let table = [
        ("", "invalid digest"),
        ("latest", "invalid digest"),
        (":", "unsupported digest algorithm \"\""),
        ("md5:d41d8cd98f00b204e9800998ecf8427e", "unsupported digest algorithm \"md5\""),
        ("SHA256:00", "unsupported digest algorithm \"SHA256\""),
        ("sha256:", "of 0 digits: expected 64 hex digits"),
        ("sha512:00", "of 2 digits: expected 128 hex digits"),
        (short, "of 63 digits: expected 64 hex digits"),
        (&long, "of 66 digits: expected 64 hex digits"),
        (&upper, "expected lower-case hex digits"),
        ("sha256:../../etc/passwd", "expected lower-case hex digits"),
        ("sha256:é", "expected lower-case hex digits"),
    ];
    for (text, expected) in table {
        let message = text.parse::<Digest>().unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn a_hash_of_the_wrong_length_is_rejected() {
    let error = Digest::new(Algorithm::Sha256, &[0; 20]).unwrap_err();
    assert_eq!(error, Error::Length { algorithm: Algorithm::Sha256, digits: 40 });
    assert!(Digest::new(Algorithm::Sha512, &[0; 32]).is_err());
}

#[test]
fn a_digest_is_a_string_in_json() {
    let json = format!("\"{EMPTY_256}\"");
    let digest: Digest = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&digest).unwrap(), json);
    assert!(serde_json::from_str::<Digest>("\"sha256:x\"").is_err());
}

#[test]
fn the_memory_size_of_a_digest_is_small() {
    assert!(size_of::<Digest>() <= 40);
}

fn any_digest() -> impl Strategy<Value = Digest> {
    let (short, long) = (any::<[u8; 32]>(), prop::collection::vec(any::<u8>(), 64));
    prop_oneof![
        short.prop_map(|hash| Digest::new(Algorithm::Sha256, &hash).unwrap()),
        long.prop_map(|hash| Digest::new(Algorithm::Sha512, &hash).unwrap()),
    ]
}

proptest! {
    #[test]
    fn digests_round_trip_through_text(digest in any_digest()) {
        prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
    }

    #[test]
    fn digests_sort_as_their_texts(a in any_digest(), b in any_digest()) {
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
    }

    #[test]
    fn incremental_hashing_equals_hashing_at_once(bytes: Vec<u8>, cut: prop::sample::Index) {
        let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(head);
        hasher.update(tail);
        prop_assert_eq!(hasher.finish(), Digest::sha256_of(&bytes));
    }

    #[test]
    fn a_sha256_resumed_from_its_saved_state_has_the_same_digest(
        bytes: Vec<u8>, cut: prop::sample::Index, junk: Vec<u8>,
    ) {
        let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(head);
        let mut resumed = Hasher::resume(&hasher.state().unwrap()).unwrap();
        resumed.update(tail);
        prop_assert_eq!(resumed.finish(), Digest::sha256_of(&bytes));
        prop_assert!(Hasher::resume(&junk).is_none_or(|hasher| hasher.state() == Some(junk)));
        prop_assert!(Hasher::new(Algorithm::Sha512).state().is_none());
    }

    #[test]
    fn arbitrary_text_does_not_panic(text in "(sha(256|512):)?\\PC*") {
        if let Ok(digest) = text.parse::<Digest>() {
            prop_assert_eq!(digest.to_string(), text);
        }
    }
}
