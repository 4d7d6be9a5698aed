//! Signatures of notation: an envelope, as JWS or as COSE, with the certificates of its signer.
//!
//! <https://github.com/notaryproject/specifications/blob/main/specs/signature-specification.md>

use ocipfs_oci::Digest;
use ring::signature::{self, VerificationAlgorithm};
use serde::Deserialize;
use x509_parser::parse_x509_certificate;

use super::{
    certificates::TrustStore,
    key::{KeyKind, PublicKey},
};

/// The kind of payload that all envelopes have.
pub const PAYLOAD_TYPE: &str = "application/vnd.cncf.notary.payload.v1+json";
/// The only way to sign that needs no other party: the certificates say who signs.
pub const SCHEME: &str = "notary.x509";
/// Headers that a signature may require its readers to know.
pub const KNOWN_CRITICAL: [&str; 2] = ["io.cncf.notary.signingScheme", "io.cncf.notary.expiry"];
/// Certificates of one envelope.
pub const MAX_CERTIFICATES: usize = 10;

/// The algorithms of envelopes that ring has; ES512 is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
}

impl Algorithm {
    /// Returns the kind of key that it needs, and how that verifies.
    fn of_ring(self) -> (KeyKind, &'static dyn VerificationAlgorithm) {
        match self {
            Self::Ps256 => (KeyKind::Rsa, &signature::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => (KeyKind::Rsa, &signature::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => (KeyKind::Rsa, &signature::RSA_PSS_2048_8192_SHA512),
            Self::Es256 => (KeyKind::P256, &signature::ECDSA_P256_SHA256_FIXED),
            Self::Es384 => (KeyKind::P384, &signature::ECDSA_P384_SHA384_FIXED),
        }
    }
}

/// An envelope, whatever its format.
pub struct Envelope {
    pub algorithm: Option<Algorithm>,
    /// Whether its protected headers are those of a signature that can be verified here.
    pub is_understood: bool,
    /// When it stops to be valid, in seconds since 1970, if it says so.
    pub expires: Option<u64>,
    /// The certificates, that of the signer first.
    pub certificates: Vec<Vec<u8>>,
    pub payload: Vec<u8>,
    /// What is signed.
    pub signed_bytes: Vec<u8>,
    pub signature: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    target_artifact: Target,
}

#[derive(Deserialize)]
struct Target {
    digest: Digest,
}

impl Envelope {
    /// The digest that it is about.
    pub fn subject(&self) -> Option<Digest> {
        let Payload { target_artifact } = serde_json::from_slice(&self.payload).ok()?;
        Some(target_artifact.digest)
    }

    /// Whether it is valid at `now` for a trust store, and until when: the first of its own end and those of the certificates.
    pub fn verify(&self, store: &TrustStore, now: u64) -> Option<u64> {
        let (kind, algorithm) = self.algorithm.filter(|_| self.is_understood)?.of_ring();
        let expires = self.expires.unwrap_or(u64::MAX);
        if expires <= now || self.certificates.len() > MAX_CERTIFICATES {
            return None;
        }
        let (own, others) = self.certificates.split_first()?;
        let (_, leaf) = parse_x509_certificate(own).ok()?;
        let key = PublicKey::of(leaf.public_key()).filter(|key| key.kind() == kind)?;
        if !key.verifies_as(algorithm, &self.signed_bytes, &self.signature) {
            return None;
        }
        Some(store.trusts(own, others, now)?.min(expires))
    }
}
