use ocipfs_oci::Digest;

use super::{certificates::TrustStore, key::PublicKey};

/// What makes a signature valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// A public key of cosign.
    Cosign(PublicKey),
    /// Certificates of notation.
    Notation(TrustStore),
}

/// A key that signed, and until when that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The number of the key among all of the policies.
    pub(super) key: usize,
    /// Seconds since 1970.
    pub(super) until: u64,
}

/// A manifest whose layers were read: what it signs, and who signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What it is about.
    pub subject: Digest,
    /// The keys whose signatures are valid.
    pub signers: Vec<Signer>,
    /// Whether certificates say who signs: they are valid for a time.
    pub(super) has_certificates: bool,
}
