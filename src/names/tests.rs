use multihash_codetable::{Code, MultihashDigest};
use ocipfs_node::{Block, inline_text};
use proptest::prelude::*;

use super::*;

const V1: &str = "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu";
const KEY: &str = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";
const V0: &str = "QmPgRXXDD193VeyEQMgxY2RkNFZ7Ni2cNd3w43Srm59hJc";

/// The dockerized forms of `V0`.
fn hashes() -> [String; 2] {
    let bytes = Cid::try_from(V0).unwrap().to_bytes();
    [base32(&bytes), hex::encode(bytes)]
}

fn base32(bytes: &[u8]) -> String {
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let digit = |chunk: &[u8]| {
        let bits = format!("{:0<5}", std::str::from_utf8(chunk).unwrap());
        char::from(b"abcdefghijklmnopqrstuvwxyz234567"[usize::from_str_radix(&bits, 2).unwrap()])
    };
    bits.as_bytes().chunks(5).map(digit).collect()
}

fn path_of(name: &str) -> String {
    match NameKind::parse(name).unwrap() {
        NameKind::Ipfs { at, .. } | NameKind::Dockerized { at, .. } => at.to_string(),
        NameKind::Layer { cid, .. } => cid.to_string(),
        NameKind::Ipns { key, below, .. } => format!("{key}/{below}"),
        NameKind::Hosted { name } => name.to_string(),
    }
}

#[test]
fn a_name_of_each_kind_is_parsed() {
    let [base32, hex] = hashes();
    assert!(base32.starts_with("ciq") && hex.starts_with("1220"), "{base32} {hex}");
    for (name, at) in [
        (format!("layer/{V1}"), V1.to_string()),
        (format!("ipfs/{V1}"), V1.to_string()),
        (format!("ipns/{KEY}/a/b"), format!("{KEY}/a/b")),
        ("ipns/example.org/app".into(), "example.org/app".into()),
        ("ipns/xn--bcher-kva.example".into(), "xn--bcher-kva.example/".into()),
        (format!("ipfs/{V1}/library/busybox"), format!("{V1}/library/busybox")),
        (format!("ipfs/{V1}/manifests/blobs"), format!("{V1}/manifests/blobs")),
        (format!("{base32}/busybox"), format!("{V0}/busybox")),
        (format!("{hex}/library/busybox"), format!("{V0}/library/busybox")),
    ] {
        assert_eq!(path_of(&name), at, "{name}");
    }
}

#[test]
fn a_cidv0_is_rejected_with_the_cidv1_to_use() {
    for name in [format!("layer/{V0}"), format!("ipfs/{V0}"), format!("ipfs/{V0}/busybox"), format!("{V0}/x")]
    {
        let error = NameKind::parse(&name).unwrap_err();
        assert!(matches!(error, Error::CidV0 { .. }) && error.to_string().contains(V1), "{error}");
    }
}

#[test]
fn an_upper_case_cid_is_rejected_with_the_lower_case_one() {
    let error = NameKind::parse(&format!("ipfs/{}", V1.to_uppercase())).unwrap_err();
    assert!(matches!(error, Error::UpperCase { .. }) && error.to_string().contains(V1), "{error}");
}

#[test]
fn an_upper_case_ipns_name_or_domain_is_rejected_with_the_lower_case_one() {
    let key: ocipfs_node::IpnsName = KEY.parse().unwrap();
    for (name, instead) in [
        (format!("ipns/{}/app", key.peer()), KEY),
        (format!("ipns/{}", KEY.to_uppercase()), KEY),
        ("ipns/Example.org/app".into(), "example.org"),
    ] {
        let error = NameKind::parse(&name).unwrap_err();
        assert!(matches!(error, Error::UpperCase { .. }) && error.to_string().contains(instead), "{error}");
    }
}

#[test]
fn any_other_name_is_a_hosted_repository() {
    for text in ["busybox", "library/busybox", "ciqual/busybox", "layers/x", "ipns-x/y"] {
        assert_eq!(NameKind::parse(text).unwrap(), NameKind::Hosted { name: text.parse().unwrap() });
    }
}

#[test]
fn invalid_repository_name_is_rejected_with_the_expected_form() {
    let [base32, hex] = hashes();
    let cid = Cid::try_from(V1).unwrap();
    let [cbor, key] = [0x71, LIBP2P_KEY].map(|codec| Cid::new_v1(codec, *cid.hash()));
    let deep = format!("ipfs/{V1}{}", "/a".repeat(65));
    for (name, told) in [
        ("layer/nonsense".to_string(), "expected a CIDv1 in lower case"),
        ("ipfs/example.org/app".into(), "use ipns/example.org"),
        ("ipfs/nonsense".into(), "invalid CID \"nonsense\" in ipfs/nonsense"),
        (format!("ipfs/{cbor}"), "codec 0x71"),
        (format!("ipfs/{key}"), "IPNS key: use ipns/"),
        (format!("{}/busybox", &hex[..60]), "68 characters"),
        (format!("{}/busybox", &base32[..50]), "55 characters"),
        ("ipfs".into(), "expected ipfs/<cid>[/<dir>...]"),
        ("layer".into(), "expected layer/<cid>"),
        (hex, "expected <ciq... or 1220...>/<name>"),
        (deep, "at most 64"),
        ("ipns".into(), "expected ipns/<k51... or domain>[/<dir>...]"),
        ("ipns/localhost".into(), "expected the CID of a key (k51...) or a domain"),
        (format!("ipns/{V1}"), "expected the CID of a key (k51...) or a domain"),
        (format!("ipns/{}.org", "a".repeat(64)), "1 to 63 letters"),
        (format!("layer/{V1}/more"), &format!("expected layer/{V1}")),
        (V1.into(), &format!("expected ipfs/{V1} or layer/{V1}")),
        (format!("{V1}/app"), &format!("expected ipfs/{V1}/app")),
        (format!("{KEY}/app"), &format!("expected ipns/{KEY}/app")),
        ("Layer/x".into(), "upper-case"),
        (String::new(), "empty"),
    ] {
        let error = NameKind::parse(&name).unwrap_err().to_string();
        assert!(error.contains(told), "{name}: {error}");
    }
}

#[test]
fn a_repository_name_may_hold_a_cid_that_carries_up_to_128_bytes() {
    let cid = |codec: u64, length: usize| {
        let data = vec![b'x'; length].into();
        inline_text(&Block { cid: Cid::new_v1(codec, Code::Sha2_256.digest(b"")), data })
    };
    for length in [0, 10, 64, 65, 100, 128] {
        let name = format!("ipfs/{}/a", cid(0x70, length));
        let NameKind::Ipfs { at, .. } = NameKind::parse(&name).unwrap() else { panic!("{name}") };
        assert_eq!(format!("ipfs/{at}"), name);
    }
    let error = NameKind::parse(&format!("ipfs/{}", cid(0x55, 129))).unwrap_err().to_string();
    assert!(error.contains("129 bytes: at most 128"), "{error}");
    let error = NameKind::parse(&format!("layer/{}", cid(0x55, 100))).unwrap_err().to_string();
    assert!(error.contains("at most 64"), "{error}");
}

proptest! {
    #[test]
    fn arbitrary_text_does_not_panic(text in "\\PC*") {
        let _ = NameKind::parse(&text);
    }

    /// Names near to those that are understood: what is read once is read the same again.
    #[test]
    fn parsed_repository_name_round_trips(
        first in prop_oneof![
            Just("ipfs".to_string()), Just("layer".into()), Just("ipns".into()), Just(V1.into()), Just(V0.into()),
            Just(hashes()[0].clone()), Just(hashes()[1].clone()), "[a-zé1-9/]{0,70}",
        ],
        second in prop_oneof![Just(V1.to_string()), Just(V0.into()), Just(KEY.into()), "[a-z2-7]{0,60}", "[a-zA-Z0-9_.-]{0,30}"],
        rest in "(/[a-z0-9._-]{0,8}){0,4}",
    ) {
        if let Ok(kind) = NameKind::parse(&format!("{first}/{second}{rest}")) {
            prop_assert_eq!(NameKind::parse(kind.name().as_str()).unwrap(), kind);
        }
    }
}
