//! Trust stores: certificates to which the chain of a signer has to lead.

use std::time::Duration;

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime, pem::PemObject};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring as algorithms};
use x509_parser::{parse_x509_certificate, prelude::X509Name};

/// id-kp-codeSigning (RFC 5280, section 4.2.1.12).
const CODE_SIGNING: [u8; 8] = [0x2b, 6, 1, 5, 5, 7, 3, 3];
/// What notation writes before the subject of a certificate.
const IDENTITY_PREFIX: &str = "x509.subject:";
/// Certificates of one trust store.
const MAX_ANCHORS: usize = 100;

/// Certificates of authorities, and the signers that are trusted of those that they certify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustStore {
    anchors: Vec<CertificateDer<'static>>,
    /// Subjects, each as its attributes; all signers where there are none.
    identities: Vec<Vec<(String, String)>>,
}

impl TrustStore {
    /// Reads PEM files, and the subjects of signers, such as `x509.subject: C=US, O=acme`.
    ///
    /// # Errors
    /// Says what is wrong with a file or a subject.
    pub fn new<'a>(files: impl Iterator<Item = &'a [u8]>, identities: &[String]) -> Result<Self, String> {
        let mut anchors = Vec::new();
        for pem in files {
            let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
            anchors.extend(read.map_err(|error| format!("invalid PEM: {error}"))?);
        }
        if anchors.is_empty() || anchors.len() > MAX_ANCHORS {
            return Err(format!(
                "{} certificates found: expected 1 to {MAX_ANCHORS} PEM blocks that begin with -----BEGIN CERTIFICATE-----",
                anchors.len()
            ));
        }
        if let Some(error) = anchors.iter().find_map(|anchor| anchor_from_trusted_cert(anchor).err()) {
            return Err(format!("invalid certificate: {error}"));
        }
        let identities = identities.iter().map(|text| attributes(text)).collect::<Result<_, _>>()?;
        Ok(Self { anchors, identities })
    }

    /// Whether a certificate leads to the store at `now`, for signing code, and is of a trusted signer. Returns until when: the
    /// first end of the certificates.
    pub fn trusts(&self, own: &[u8], others: &[Vec<u8>], now: u64) -> Option<u64> {
        let own = CertificateDer::from(own);
        if !self.is_trusted_signer(&own)? {
            return None;
        }
        let others: Vec<CertificateDer<'_>> = others.iter().map(|one| one.as_slice().into()).collect();
        let anchors: Vec<TrustAnchor<'_>> =
            self.anchors.iter().filter_map(|anchor| anchor_from_trusted_cert(anchor).ok()).collect();
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let usage = KeyUsage::required_if_present(&CODE_SIGNING);
        let leaf = EndEntityCert::try_from(&own).ok()?;
        let path = leaf.verify_for_usage(ALGORITHMS, &anchors, &others, time, usage, None, None);
        path.ok()?;
        // Those beside the path shorten the time as well: a signer has no reason to send others.
        std::iter::once(&own).chain(&others).filter_map(|one| end_of(one)).min()
    }

    fn is_trusted_signer(&self, own: &[u8]) -> Option<bool> {
        if self.identities.is_empty() {
            return Some(true);
        }
        let (_, leaf) = parse_x509_certificate(own).ok()?;
        let has = |(key, value): &(String, String)| has_attribute(leaf.subject(), key, value);
        Some(self.identities.iter().any(|identity| identity.iter().all(has)))
    }
}

/// The algorithms of signatures of certificates.
static ALGORITHMS: &[&dyn rustls::pki_types::SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// The last second at which a certificate is valid.
fn end_of(certificate: &[u8]) -> Option<u64> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok()
}

/// Reads `C=US, O=acme`, with or without what notation writes before it.
fn attributes(text: &str) -> Result<Vec<(String, String)>, String> {
    let invalid =
        || format!("invalid identity {text:?}: expected a subject such as \"x509.subject: C=US, O=acme\"");
    let subject = text.strip_prefix(IDENTITY_PREFIX).unwrap_or(text);
    let attribute = |part: &str| {
        let (key, value) = part.split_once('=').ok_or_else(invalid)?;
        let key = key.trim().to_ascii_uppercase();
        let is_known = matches!(key.as_str(), "C" | "ST" | "L" | "O" | "OU" | "CN");
        is_known.then(|| (key, value.trim().into())).ok_or_else(invalid)
    };
    subject.split(',').map(attribute).collect()
}

fn has_attribute(subject: &X509Name<'_>, key: &str, value: &str) -> bool {
    let is_value = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        attribute.as_str().is_ok_and(|own| own == value)
    };
    match key {
        "C" => subject.iter_country().any(is_value),
        "ST" => subject.iter_state_or_province().any(is_value),
        "L" => subject.iter_locality().any(is_value),
        "O" => subject.iter_organization().any(is_value),
        "OU" => subject.iter_organizational_unit().any(is_value),
        _ => subject.iter_common_name().any(is_value),
    }
}
