//! Public keys as cosign writes them, and the signatures that they verify.

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
use x509_parser::{oid_registry as oid, prelude::FromDer, x509::SubjectPublicKeyInfo};

/// Why a public key is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is none in the file.
    #[error("no public key found: expected a PEM block that begins with -----BEGIN PUBLIC KEY-----")]
    Missing,
    /// Its algorithm is not supported.
    #[error(
        "unsupported public key: expected ECDSA on P-256 or P-384, RSA with 2048 to 8192 bits, or Ed25519"
    )]
    Unsupported,
}

/// The kind of a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    P256,
    P384,
    Rsa,
    Ed25519,
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    kind: KeyKind,
    /// The key itself, as ring takes it.
    bytes: Vec<u8>,
}

impl PublicKey {
    /// Reads a PEM file.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let info = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|_| KeyError::Missing)?;
        let (_, info) = SubjectPublicKeyInfo::from_der(&info).map_err(|_| KeyError::Missing)?;
        Self::of(&info).ok_or(KeyError::Unsupported)
    }

    /// Returns the key of a certificate; none of an algorithm that is not supported.
    pub(super) fn of(info: &SubjectPublicKeyInfo<'_>) -> Option<Self> {
        let algorithm = &info.algorithm.algorithm;
        let curve = || info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        let kind = if *algorithm == oid::OID_PKCS1_RSAENCRYPTION {
            KeyKind::Rsa
        } else if *algorithm == oid::OID_SIG_ED25519 {
            KeyKind::Ed25519
        } else if *algorithm == oid::OID_KEY_TYPE_EC_PUBLIC_KEY {
            match curve()? {
                curve if curve == oid::OID_EC_P256 => KeyKind::P256,
                curve if curve == oid::OID_NIST_EC_P384 => KeyKind::P384,
                _ => return None,
            }
        } else {
            return None;
        };
        Some(Self { kind, bytes: info.subject_public_key.data.to_vec() })
    }

    pub(super) fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Whether a signature of cosign is valid: in ASN.1 where the key is on a curve. Its tools hash with SHA-256 whatever the
    /// curve, and newer ones as the curve suggests.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithms: &[&'static dyn VerificationAlgorithm] = match self.kind {
            KeyKind::P256 => &[&signature::ECDSA_P256_SHA256_ASN1],
            KeyKind::P384 => &[&signature::ECDSA_P384_SHA384_ASN1, &signature::ECDSA_P384_SHA256_ASN1],
            KeyKind::Rsa => &[&signature::RSA_PKCS1_2048_8192_SHA256],
            KeyKind::Ed25519 => &[&signature::ED25519],
        };
        algorithms.iter().any(|algorithm| self.verifies_as(*algorithm, message, signature))
    }

    pub(super) fn verifies_as(
        &self,
        algorithm: &'static dyn VerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        UnparsedPublicKey::new(algorithm, &self.bytes).verify(message, signature).is_ok()
    }
}
