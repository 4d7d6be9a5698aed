//! The vocabulary of OCI registries, as values that are checked once and then trusted.
//!
//! ```text
//!   manifest     Manifest, Index                what a registry's JSON says
//!      |
//!   descriptor   Descriptor                     what points at a blob
//!      |
//!   digest, media_type, platform                what a descriptor holds
//!
//!   name, reference, range                      what a request holds
//! ```
//!
//! Parsing is pure: nothing here opens a file or a socket. Text becomes a value through
//! [`FromStr`](std::str::FromStr) or serde and goes back through [`Display`](std::fmt::Display); each module
//! has its own `Error`.
//!
//! The `oci-spec` crate is not used: manifests are kept byte for byte, read leniently (a Go client's `null` is
//! an empty list) and written in one key order that may never change, all of which has to be held here anyway.

#![warn(missing_docs)]

pub mod descriptor;
pub mod digest;
mod keys;
mod lenient;
pub mod manifest;
pub mod media_type;
pub mod name;
mod part_hasher;
pub mod platform;
pub mod range;
pub mod reference;

pub use {
    descriptor::Descriptor,
    digest::{Algorithm, Digest, Hasher},
    keys::check_keys,
    manifest::{Index, Manifest},
    media_type::MediaType,
    name::Name,
    part_hasher::PartHasher,
    platform::Platform,
    range::{ByteRanges, TooManyRanges, Unsatisfiable},
    reference::{Reference, Tag},
};

/// Truncates untrusted text for an error message.
fn excerpt(text: &str) -> String {
    const MAX_EXCERPT: usize = 80;
    match text.char_indices().nth(MAX_EXCERPT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn an_excerpt_is_truncated_between_characters() {
        assert_eq!(excerpt("short"), "short");
        assert_eq!(excerpt(&"é".repeat(80)), "é".repeat(80));
        assert_eq!(excerpt(&"é".repeat(81)), format!("{}...", "é".repeat(80)));
    }
}
