//! What cosign signs: simple signing payloads beside an image, and in-toto statements in DSSE envelopes, alone or in bundles.
//!
//! <https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>,
//! <https://github.com/secure-systems-lab/dsse/blob/master/protocol.md>,
//! <https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto>

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use ocipfs_oci::Digest;
use serde::{Deserialize, de::IgnoredAny};

use super::key::PublicKey;

/// What the payload of a signature says that it is.
const TYPES: [&str; 2] = ["cosign container image signature", "atomic container signature"];
/// The payload of an envelope that is an in-toto statement.
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The statement by which newer versions sign. Others attest something of an image, and do not sign it.
const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
/// Signatures of one envelope that are looked at.
const MAX_SIGNATURES: usize = 16;
/// The largest statement that signs. What is larger attests something, and is not verified.
const MAX_SIGNED_BYTES: usize = 64 << 10;

/// Nothing else is in it, so that a manifest of an image is none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SimpleSigning {
    critical: Critical,
    #[allow(dead_code, reason = "annotations of the signer")]
    optional: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: Digest,
}

/// Returns the digest that a simple signing payload names.
pub fn payload_subject(payload: &[u8]) -> Option<Digest> {
    let SimpleSigning { critical, .. } = serde_json::from_slice(payload).ok()?;
    TYPES.contains(&critical.kind.as_str()).then_some(critical.image.docker_manifest_digest)
}

/// Whether a key signed a simple signing payload; the signature is that of the annotation.
pub fn verify_payload(key: &PublicKey, payload: &[u8], signature: Option<&str>) -> bool {
    let signature = signature.and_then(|text| STANDARD.decode(text.trim()).ok());
    signature.is_some_and(|signature| key.verifies(payload, &signature))
}

/// An envelope with its payload decoded.
pub struct Envelope {
    payload: Vec<u8>,
    payload_type: String,
    signatures: Vec<Vec<u8>>,
    subjects: Vec<Digest>,
    signs: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DsseEnvelope {
    payload: String,
    payload_type: String,
    signatures: Vec<DsseSignature>,
}

#[derive(Deserialize)]
struct DsseSignature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: DsseEnvelope,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(default)]
    subject: Vec<Subject>,
    #[serde(default)]
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

impl Envelope {
    /// Reads an envelope.
    pub fn parse(json: &[u8]) -> Option<Self> {
        Self::of(serde_json::from_slice(json).ok()?)
    }

    /// Reads the envelope in a bundle.
    pub fn of_bundle(json: &[u8]) -> Option<Self> {
        Self::of(serde_json::from_slice::<Bundle>(json).ok()?.dsse_envelope)
    }

    fn of(DsseEnvelope { payload, payload_type, signatures }: DsseEnvelope) -> Option<Self> {
        let decoded = signatures.iter().take(MAX_SIGNATURES).filter_map(|one| STANDARD.decode(&one.sig).ok());
        let signatures = decoded.collect();
        let payload = STANDARD.decode(payload).ok()?;
        let is_statement = payload_type == IN_TOTO;
        let statement = is_statement.then(|| serde_json::from_slice::<Statement>(&payload).ok()).flatten();
        let Statement { subject, predicate_type } = statement.unwrap_or_default();
        let digests = subject.into_iter().flat_map(|subject| subject.digest);
        let subjects =
            digests.filter_map(|(algorithm, hex)| format!("{algorithm}:{hex}").parse().ok()).collect();
        let signs = predicate_type == SIGN_PREDICATE && payload.len() <= MAX_SIGNED_BYTES;
        Some(Self { payload, payload_type, signatures, subjects, signs })
    }

    /// The digests that its statement is about.
    pub fn subjects(&self) -> &[Digest] {
        &self.subjects
    }

    /// Whether its statement signs what it is about, and does not only attest something of that.
    pub fn signs(&self) -> bool {
        self.signs
    }

    /// How many signatures it has.
    pub fn signatures(&self) -> usize {
        self.signatures.len()
    }

    /// Whether a key signed it.
    pub fn verify(&self, key: &PublicKey) -> bool {
        let message = self.signed_bytes();
        self.signatures.iter().any(|signature| key.verifies(&message, signature))
    }

    /// The pre-authentication encoding.
    fn signed_bytes(&self) -> Vec<u8> {
        let head =
            format!("DSSEv1 {} {} {} ", self.payload_type.len(), self.payload_type, self.payload.len());
        [head.as_bytes(), &self.payload].concat()
    }
}
