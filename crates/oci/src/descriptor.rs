//! Descriptors: how a manifest refers to a blob.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, Unexpected, Visitor},
};

use crate::{Digest, MediaType, Platform, lenient};

/// A reference to a blob in a manifest (OCI image spec, `descriptor.md`).
///
/// The digest and the size are validated. What only describes the blob is read as it is, since a registry keeps
/// manifests that it does not understand.
///
/// The fields are in the order of the JSON, which must not change: digests of manifests depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type of the blob, as the document states it: empty where it does not.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub media_type: MediaType,
    /// The digest of the blob.
    pub digest: Digest,
    /// The size of the blob, in bytes.
    #[serde(deserialize_with = "size")]
    pub size: u64,
    /// Further locations of the blob, such as `ipfs://<cid>`.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Annotations, sorted by key.
    #[serde(default, deserialize_with = "lenient::annotations", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The blob itself in base64, not verified against `digest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The platform, if the blob is a manifest in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The artifact type, if the blob is a manifest.
    #[serde(default, deserialize_with = "lenient::stated", skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<MediaType>,
}

impl Descriptor {
    /// Creates a descriptor with the required fields only.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            platform: None,
            artifact_type: None,
        }
    }

    /// Returns the annotation with this key.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// Returns whether registries and archives may lack the blob: a layer that is not to be distributed, or one with `urls`
    /// (OCI image spec, `layer.md`, non-distributable layers).
    pub fn is_foreign(&self) -> bool {
        let kind = self.media_type.as_str();
        !self.urls.is_empty()
            || kind.starts_with("application/vnd.oci.image.layer.nondistributable.")
            || kind.starts_with("application/vnd.docker.image.rootfs.foreign.")
    }
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_u64(Size)
}

struct Size;

impl Visitor<'_> for Size {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a descriptor's size: a whole number of bytes, not negative")
    }

    fn visit_u64<E: Error>(self, size: u64) -> Result<u64, E> {
        Ok(size)
    }

    fn visit_i64<E: Error>(self, size: i64) -> Result<u64, E> {
        size.try_into().map_err(|_| E::invalid_value(Unexpected::Signed(size), &self))
    }
}

#[cfg(test)]
mod tests;
