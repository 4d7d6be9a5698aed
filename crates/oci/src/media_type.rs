//! Media types, and the constants for those of images.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::excerpt;

/// An OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The JSON value `{}`, for an artifact without configuration.
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// An OCI layer, uncompressed.
pub const OCI_LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// An OCI layer, compressed with gzip.
pub const OCI_LAYER_TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// An OCI layer, compressed with zstd.
pub const OCI_LAYER_TAR_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// An OCI layer that may not be pushed, uncompressed.
pub const OCI_NONDISTRIBUTABLE_TAR: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
/// An OCI layer that may not be pushed, compressed with gzip.
pub const OCI_NONDISTRIBUTABLE_TAR_GZIP: &str =
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
/// An OCI layer that may not be pushed, compressed with zstd.
pub const OCI_NONDISTRIBUTABLE_TAR_ZSTD: &str =
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";
/// A Docker manifest list, the predecessor of the OCI index.
pub const DOCKER_MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// A Docker manifest of schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// A Docker image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// A Docker layer, uncompressed.
pub const DOCKER_LAYER_TAR: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// A Docker layer, compressed with gzip.
pub const DOCKER_LAYER_TAR_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// A Docker layer that is fetched from its `urls`, uncompressed.
pub const DOCKER_FOREIGN_TAR: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";
/// A Docker layer that is fetched from its `urls`, compressed with gzip.
pub const DOCKER_FOREIGN_TAR_GZIP: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
/// A layer manifest of ocipfs: one layer, named by a CID.
pub const OCIPFS_LAYER_MANIFEST: &str = "application/vnd.ocipfs.layer.manifest.v1+json";
/// A layer manifest of ocipfs with several layers, the lowest first.
pub const OCIPFS_LAYER_LIST: &str = "application/vnd.ocipfs.layer.list.v1+json";
/// Layer manifests of ocipfs for several platforms.
pub const OCIPFS_LAYER_INDEX: &str = "application/vnd.ocipfs.layer.index.v1+json";

/// A text is not a media type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid media type {0:?}: expected `type/subtype` without parameters, each a letter or digit and then at most \
     126 letters, digits or any of `!#$&-^_.+`"
)]
pub struct Error(String);

/// A media type, as it was written.
///
/// One that is parsed with [`FromStr`] has no parameters (RFC 6838, section 4.2). One that a JSON document states may be any
/// text: manifests are kept byte for byte, and others write `text/plain; charset=utf-8`, `sbom` or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct MediaType(Cow<'static, str>);

impl MediaType {
    /// Creates a media type from one of this module's constants.
    ///
    /// # Panics
    ///
    /// If the text is not a media type; in a `const` that is a compile error.
    pub const fn from_static(text: &'static str) -> Self {
        assert!(is_media_type(text.as_bytes()), "invalid media type");
        Self(Cow::Borrowed(text))
    }

    /// Creates a media type from what a document states, whatever text that is.
    pub fn stated(text: impl Into<String>) -> Self {
        Self(Cow::Owned(text.into()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the text without parameters.
    pub fn essence(&self) -> &str {
        essence(&self.0)
    }

    /// Returns whether this is a file system layer of OCI or Docker, with any compression or encryption.
    pub fn is_layer(&self) -> bool {
        // By prefix, since compressions and `+encrypted` are suffixes and more may come.
        self.0.starts_with("application/vnd.oci.image.layer.")
            || self.0.starts_with("application/vnd.docker.image.rootfs.")
    }

    /// Returns the type that OCI has for what Docker calls so; any other type as it is.
    pub fn to_oci(&self) -> Self {
        Self::from_static(match self.as_str() {
            DOCKER_MANIFEST_LIST => OCI_INDEX,
            DOCKER_MANIFEST => OCI_MANIFEST,
            DOCKER_CONFIG => OCI_CONFIG,
            DOCKER_LAYER_TAR => OCI_LAYER_TAR,
            DOCKER_LAYER_TAR_GZIP => OCI_LAYER_TAR_GZIP,
            DOCKER_FOREIGN_TAR => OCI_NONDISTRIBUTABLE_TAR,
            DOCKER_FOREIGN_TAR_GZIP => OCI_NONDISTRIBUTABLE_TAR_GZIP,
            _ => return self.clone(),
        })
    }

    /// Returns whether this is a list of manifests, of OCI or Docker.
    pub fn is_index(&self) -> bool {
        matches!(self.essence(), OCI_INDEX | DOCKER_MANIFEST_LIST)
    }

    /// Returns whether this is the manifest of one image, of OCI or Docker.
    pub fn is_manifest(&self) -> bool {
        matches!(self.essence(), OCI_MANIFEST | DOCKER_MANIFEST)
    }
}

/// Returns the text of a media type without its parameters, such as `; charset=utf-8`.
pub fn essence(text: &str) -> &str {
    text.split_once(';').map_or(text, |(essence, _)| essence).trim()
}

// Without iterators, since it is a `const fn`.
const fn is_media_type(text: &[u8]) -> bool {
    let mut slash = 0;
    while slash < text.len() && text[slash] != b'/' {
        slash += 1;
    }
    slash < text.len()
        && is_restricted_name(text, 0, slash)
        && is_restricted_name(text, slash + 1, text.len())
}

const fn is_restricted_name(text: &[u8], start: usize, end: usize) -> bool {
    if start >= end || end - start > 127 || !text[start].is_ascii_alphanumeric() {
        return false;
    }
    let mut at = start;
    while at < end {
        let punctuation = matches!(text[at], b'!' | b'#' | b'$' | b'&' | b'-' | b'^' | b'_' | b'.' | b'+');
        if !text[at].is_ascii_alphanumeric() && !punctuation {
            return false;
        }
        at += 1;
    }
    true
}

impl FromStr for MediaType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if is_media_type(text.as_bytes()) { Ok(Self::stated(text)) } else { Err(Error(excerpt(text))) }
    }
}

impl From<String> for MediaType {
    fn from(text: String) -> Self {
        Self::stated(text)
    }
}

impl AsRef<str> for MediaType {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for MediaType {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for MediaType {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl PartialEq<MediaType> for str {
    fn eq(&self, other: &MediaType) -> bool {
        other == self
    }
}

impl PartialEq<MediaType> for &str {
    fn eq(&self, other: &MediaType) -> bool {
        other == self
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
