use proptest::prelude::*;

use super::*;

const EMPTY_256: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const EMPTY_512: &str = "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";

#[test]
fn digests_of_nothing_are_the_known_ones() {
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
fn a_refused_digest_says_what_is_wrong() {
    let short = &EMPTY_256[..70];
    let long = format!("{EMPTY_256}00");
    let upper = EMPTY_256.to_uppercase().replace("SHA", "sha");
    let table = [
        ("", "is no digest"),
        ("latest", "is no digest"),
        (":", "algorithm \"\" is not supported"),
        ("md5:d41d8cd98f00b204e9800998ecf8427e", "algorithm \"md5\" is not supported"),
        ("SHA256:00", "algorithm \"SHA256\" is not supported"),
        ("sha256:", "has 64 hex digits, not 0"),
        ("sha512:00", "has 128 hex digits, not 2"),
        (short, "has 64 hex digits, not 63"),
        (&long, "has 64 hex digits, not 66"),
        (&upper, "in lower case"),
        ("sha256:../../etc/passwd", "only the hex digits"),
        ("sha256:é", "only the hex digits"),
    ];
    for (text, expected) in table {
        let message = text.parse::<Digest>().unwrap_err().to_string();
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn a_hash_of_the_wrong_length_is_refused() {
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
fn a_digest_stays_small() {
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
    fn a_digest_survives_its_text(digest in any_digest()) {
        prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
    }

    #[test]
    fn digests_sort_as_their_texts(a in any_digest(), b in any_digest()) {
        prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
    }

    #[test]
    fn hashing_in_pieces_equals_hashing_at_once(bytes: Vec<u8>, cut: prop::sample::Index) {
        let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(head);
        hasher.update(tail);
        prop_assert_eq!(hasher.finish(), Digest::sha256_of(&bytes));
    }

    #[test]
    fn a_sha256_resumed_from_its_saved_state_ends_as_one_that_was_not_interrupted(
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
    fn no_text_makes_the_parser_panic(text in "(sha(256|512):)?\\PC*") {
        if let Ok(digest) = text.parse::<Digest>() {
            prop_assert_eq!(digest.to_string(), text);
        }
    }
}
