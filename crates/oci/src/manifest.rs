//! Image manifests and indexes: parsed leniently, written in one order.
//!
//! Pushed and fetched manifests are kept as bytes, and these types only read them; writing is for manifests created
//! here.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{Descriptor, MediaType, check_keys, lenient, media_type};

/// Why bytes are not a manifest or an index.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are not an image manifest.
    #[error("invalid image manifest: expected JSON with schemaVersion 2, config and layers: {0}")]
    Manifest(#[source] serde_json::Error),
    /// The bytes are not an image index.
    #[error("invalid image index: expected JSON with schemaVersion 2 and manifests: {0}")]
    Index(#[source] serde_json::Error),
}

/// The only schema version: read and written as 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchemaVersion;

impl Serialize for SchemaVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(2)
    }
}

impl<'de> Deserialize<'de> for SchemaVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            2 => Ok(Self),
            other => Err(D::Error::custom(format_args!("schemaVersion {other} is not supported: 2 is"))),
        }
    }
}

/// The manifest of one image or artifact, of OCI or Docker schema 2.
///
/// The fields are in the order of the JSON, which must not change: clients pin the digests of manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: SchemaVersion,
    /// The media type of this manifest; missing in older OCI manifests.
    #[serde(default, deserialize_with = "not_an_index", skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The artifact type.
    #[serde(default, deserialize_with = "lenient::stated", skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<MediaType>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the lowest one first.
    #[serde(deserialize_with = "lenient::or_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations, sorted by key.
    #[serde(default, deserialize_with = "lenient::annotations", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Creates an OCI image manifest.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: SchemaVersion,
            media_type: Some(MediaType::from_static(media_type::OCI_MANIFEST)),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Parses a manifest. Unknown fields are ignored; an index is rejected, and a known field in another case.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let parsed = serde_json::from_slice(json).map_err(Error::Manifest)?;
        check_keys(json).map_err(Error::Manifest)?;
        Ok(parsed)
    }

    /// Returns the blobs of the image: the configuration, then the layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

/// A list of manifests, of OCI or Docker, usually one per platform.
///
/// The fields are in the order of the JSON, which must not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: SchemaVersion,
    /// The media type of this index; may be missing in the `index.json` of a layout.
    #[serde(default, deserialize_with = "not_a_manifest", skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The artifact type.
    #[serde(default, deserialize_with = "lenient::stated", skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<MediaType>,
    /// The manifests, or further indexes.
    #[serde(deserialize_with = "lenient::or_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations, sorted by key.
    #[serde(default, deserialize_with = "lenient::annotations", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// Creates an OCI image index.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: SchemaVersion,
            media_type: Some(MediaType::from_static(media_type::OCI_INDEX)),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Parses an index. Unknown fields are ignored; an image manifest is rejected, and a known field in another case.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        let parsed = serde_json::from_slice(json).map_err(Error::Index)?;
        check_keys(json).map_err(Error::Index)?;
        Ok(parsed)
    }
}

// A digest must mean the same to all clients (CVE-2021-41190), so a media type that contradicts is an error.
fn not_an_index<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MediaType>, D::Error> {
    match lenient::stated(deserializer)? {
        Some(index) if index.is_index() => {
            Err(D::Error::custom(format_args!("mediaType {index} is that of an index")))
        }
        other => Ok(other),
    }
}

fn not_a_manifest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MediaType>, D::Error> {
    match lenient::stated(deserializer)? {
        Some(image) if image.is_manifest() => {
            Err(D::Error::custom(format_args!("mediaType {image} is that of an image manifest")))
        }
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests;
