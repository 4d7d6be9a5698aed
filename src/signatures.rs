//! Which images have to be signed, and by whom: a policy file, and the check of signatures of cosign and notation. Pure: it
//! knows bytes and keys, and neither repositories nor requests; nothing is asked of a network.
//!
//! ```text
//! file (policy.toml) ──► Policies ──► of(repository) ──► Verdict  of the keys that signed
//!                          │
//! manifest ──► SignatureManifest ──► SignaturePart ──► signers    the keys whose signature of a digest is valid
//!                                      ├─► cosign        simple signing payloads, DSSE envelopes, bundles
//!                                      └─► notation      JWS and COSE envelopes with certificates
//! ```
//!
//! What `images::signed` gathers from a repository, and what it decides of that, is not known here.

mod attached;
mod certificates;
mod cose;
mod cosign;
mod file;
mod form;
mod jws;
mod key;
mod manifest;
mod notation;
mod policy;
mod pushed;
mod signer;
mod source;
mod spelling;
mod verdict;

#[cfg(test)]
mod tests;

pub use attached::{collects_signatures, is_attached, keeps_layers};
pub use certificates::TrustStore;
pub use file::{Error, MAX_POLICY_BYTES};
pub use key::{KeyError, PublicKey};
pub use manifest::{
    MAX_PART_BYTES, MAX_PARTS, SignatureManifest, SignaturePart, is_signature_type, signed_by_tag, tags_of,
};
pub use policy::{Policies, SignaturePolicy};
pub use pushed::{is_signature, signed_by_cosign};
pub use signer::{Checked, Key, Signer};
pub use source::PolicySource;
pub use verdict::{Require, Verdict, Withheld};
