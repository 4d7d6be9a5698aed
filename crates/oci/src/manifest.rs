//! Image manifests and indexes: read leniently, written in one order.
//!
//! What was pushed or fetched is kept as its bytes, and these types only look into it; writing is for what
//! is made here.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{Descriptor, MediaType, lenient, media_type};

/// Tells why bytes are no manifest or no index.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are no image manifest.
    #[error("this is no image manifest (JSON with schemaVersion 2, config and layers): {0}")]
    Manifest(#[source] serde_json::Error),
    /// The bytes are no image index.
    #[error("this is no image index (JSON with schemaVersion 2 and manifests): {0}")]
    Index(#[source] serde_json::Error),
}

/// The only schema version there is: it is read and written as 2.
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
/// The order of the fields is that of the JSON, and may not change: people pin the digests of manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: SchemaVersion,
    /// The kind of this manifest; older OCI manifests do not say.
    #[serde(default, deserialize_with = "not_an_index", skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The kind of artifact.
    #[serde(default, deserialize_with = "lenient::non_empty", skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<MediaType>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    #[serde(deserialize_with = "lenient::or_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Notes, sorted by their keys.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Makes an OCI image manifest.
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

    /// Reads a manifest; fields it does not know are passed over, and an index is refused.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(json).map_err(Error::Manifest)
    }

    /// Returns what the image is made of: the configuration, then the layers.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

/// A list of manifests, of OCI or Docker, mostly one for each platform.
///
/// The order of the fields is that of the JSON, and may not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: SchemaVersion,
    /// The kind of this index; the `index.json` of a layout may not say.
    #[serde(default, deserialize_with = "not_a_manifest", skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The kind of artifact.
    #[serde(default, deserialize_with = "lenient::non_empty", skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<MediaType>,
    /// The manifests, or further indexes.
    #[serde(deserialize_with = "lenient::or_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Notes, sorted by their keys.
    #[serde(default, deserialize_with = "lenient::or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// Makes an OCI image index.
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

    /// Reads an index; fields it does not know are passed over, and an image manifest is refused.
    pub fn parse(json: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(json).map_err(Error::Index)
    }
}

// One digest must not mean two things to two clients (CVE-2021-41190), so the stated kind counts.
fn not_an_index<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MediaType>, D::Error> {
    let media_type: Option<MediaType> = lenient::non_empty(deserializer)?;
    match media_type {
        Some(index) if index.is_index() => {
            Err(D::Error::custom(format_args!("mediaType {index} is that of an index")))
        }
        other => Ok(other),
    }
}

fn not_a_manifest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<MediaType>, D::Error> {
    let media_type: Option<MediaType> = lenient::non_empty(deserializer)?;
    match media_type {
        Some(image) if image.is_manifest() => {
            Err(D::Error::custom(format_args!("mediaType {image} is that of an image manifest")))
        }
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests;
