//! Signatures that are made here, with one thing wrong in each or with none.

use base64::{Engine, engine::general_purpose::STANDARD};
use ocipfs_oci::Digest;
use proptest::{prelude::*, sample::select};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    },
};
use serde_json::json;

use super::*;

/// A key that signs.
enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Pair {
    fn make(kind: usize) -> Self {
        let random = SystemRandom::new();
        let ecdsa = |algorithm: &'static _| {
            let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            Self::Ecdsa(EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap())
        };
        match kind {
            0 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
            1 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING),
            _ => {
                let key = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                Self::Ed25519(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Ecdsa(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// The public key as PEM: what comes before the key itself depends on its kind alone.
    fn pem(&self) -> String {
        let (head, key): (&[u8], &[u8]) = match self {
            Self::Ecdsa(pair) if pair.public_key().as_ref().len() == 65 => (
                &[
                    0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48,
                    0xce, 0x3d, 3, 1, 7, 3, 0x42, 0,
                ],
                pair.public_key().as_ref(),
            ),
            Self::Ecdsa(pair) => (
                &[
                    0x30, 0x76, 0x30, 0x10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0,
                    0x22, 3, 0x62, 0,
                ],
                pair.public_key().as_ref(),
            ),
            Self::Ed25519(pair) => {
                (&[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0], pair.public_key().as_ref())
            }
        };
        let body = STANDARD.encode([head, key].concat());
        format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    }
}

/// What is wrong with a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    NoSignature,
    OtherKey,
    OtherImage,
    DamagedSignature,
    /// What is signed says something else than what is stored.
    OtherPayload,
    OtherKind,
    NotBase64,
}

const WRONG: [Wrong; 7] = [
    Wrong::NoSignature,
    Wrong::OtherKey,
    Wrong::OtherImage,
    Wrong::DamagedSignature,
    Wrong::OtherPayload,
    Wrong::OtherKind,
    Wrong::NotBase64,
];

/// A signature of an image, of the older or the newer form: its manifest and its layer.
fn signed(pair: &Pair, other: &Pair, image: &Digest, wrong: Wrong, is_bundle: bool) -> (Vec<u8>, Vec<u8>) {
    let named = if wrong == Wrong::OtherImage { Digest::sha256_of(b"other") } else { image.clone() };
    let payload = match (is_bundle, wrong == Wrong::OtherKind) {
        (false, is_other) => {
            let kind = if is_other { "something else" } else { "cosign container image signature" };
            json!({ "critical": { "identity": { "docker-reference": "" }, "type": kind,
                "image": { "docker-manifest-digest": named.to_string() } }, "optional": null })
        }
        (true, is_other) => {
            let kind = if is_other {
                "https://slsa.dev/provenance/v1"
            } else {
                "https://sigstore.dev/cosign/sign/v1"
            };
            json!({ "_type": "https://in-toto.io/Statement/v1", "predicateType": kind,
                "subject": [{ "digest": { "sha256": named.hex() } }] })
        }
    };
    let payload = payload.to_string();
    let kind = "application/vnd.in-toto+json";
    let message = |payload: &str| match is_bundle {
        true => format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len()),
        false => payload.to_string(),
    };
    let signer = if wrong == Wrong::OtherKey { other } else { pair };
    let told = if wrong == Wrong::OtherPayload { payload.clone() + " " } else { payload.clone() };
    let mut signature = signer.sign(message(&told).as_bytes());
    if wrong == Wrong::DamagedSignature {
        let last = signature.len() - 1;
        signature[last] ^= 1;
    }
    let signature = match wrong {
        Wrong::NoSignature => String::new(),
        Wrong::NotBase64 => "?".into(),
        _ => STANDARD.encode(signature),
    };
    let (layer, kind) = match is_bundle {
        false => (payload, "application/vnd.dev.cosign.simplesigning.v1+json"),
        true => {
            let envelope = json!({ "payload": STANDARD.encode(&payload), "payloadType": kind,
                "signatures": [{ "sig": signature }] });
            (json!({ "dsseEnvelope": envelope }).to_string(), "application/vnd.dev.sigstore.bundle.v0.3+json")
        }
    };
    let descriptor = |kind: &str, bytes: &str| json!({ "mediaType": kind, "digest": Digest::sha256_of(bytes.as_bytes()).to_string(), "size": bytes.len() });
    let mut described = descriptor(kind, &layer);
    if !is_bundle {
        described["annotations"] = json!({ "dev.cosignproject.cosign/signature": signature });
    }
    let manifest = json!({ "schemaVersion": 2, "config": descriptor("application/vnd.oci.empty.v1+json", "{}"),
        "layers": [described] });
    (manifest.to_string().into_bytes(), layer.into_bytes())
}

fn keys() -> [[Pair; 2]; 3] {
    [0, 1, 2].map(|kind| [Pair::make(kind), Pair::make(kind)])
}

/// Whether an image counts as signed by one signature.
fn passes(pairs: &[Pair; 2], image: &Digest, wrong: Wrong, is_bundle: bool) -> bool {
    let text = format!(
        "[keys.x]\ncosign = '''{}'''\n[[policy]]\nrepositories = ['*']\nkeys = ['x']\n",
        pairs[0].pem()
    );
    let policies = Policies::parse(&text, load).unwrap();
    let (manifest, layer) = signed(&pairs[0], &pairs[1], image, wrong, is_bundle);
    let checked = check(&policies, &manifest, &layer, SIGNED_AT).filter(|checked| checked.subject == *image);
    let signers = checked.map(|checked| checked.signers).unwrap_or_default();
    policies.judge("app", &signers, SIGNED_AT).is_passed()
}

#[test]
fn generated_signatures_pass_only_if_nothing_is_wrong_with_them() {
    let (keys, mut served) = (keys(), 0);
    let config = ProptestConfig { cases: 1000, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let case = (0..3usize, select(&WRONG[..]), any::<bool>(), any::<u64>());
    runner
        .run(&case, |(kind, wrong, is_bundle, image)| {
            let image = Digest::sha256_of(&image.to_be_bytes());
            prop_assert!(!passes(&keys[kind], &image, wrong, is_bundle), "{wrong:?}");
            Ok(())
        })
        .unwrap();
    for pairs in &keys {
        for is_bundle in [false, true] {
            served += usize::from(passes(pairs, &image(), Wrong::Nothing, is_bundle));
        }
    }
    assert_eq!(served, 6);
}

proptest! {
    /// What strangers push is read without a panic, whatever it is.
    #[test]
    fn damaged_signatures_are_read_without_a_panic_and_sign_nothing(
        which in 0..4usize, at in any::<prop::sample::Index>(), bits in 1..=255u8,
    ) {
        let policies = policies();
        let (_, manifest, layer) = made()[which];
        let mut layer = layer.to_vec();
        let at = at.index(layer.len());
        layer[at] ^= bits;
        let _ = check(&policies, manifest, &layer, SIGNED_AT);
        let mut manifest = manifest.to_vec();
        let at = at % manifest.len();
        manifest[at] ^= bits;
        let _ = SignatureManifest::parse(&manifest);
    }
}
