use std::slice;

use ocipfs_oci::{Tag, media_type};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Error, Layer, LayerManifest, MAX_BYTES,
    manifest::{Read, WrittenManifest, parts},
};

/// Document that a layer name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerDocument {
    /// One image.
    Manifest(LayerManifest),
    /// An image for each of several platforms.
    Index(Vec<LayerManifest>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenIndex<'a> {
    media_type: &'static str,
    manifests: Vec<WrittenManifest<'a>>,
}

impl LayerDocument {
    /// Reads a document of any layout.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Error::Kind(format!("{} bytes, more than {MAX_BYTES}", bytes.len())));
        }
        let read: Read<'_> =
            serde_json::from_slice(bytes).map_err(|e| Error::Kind(format!("invalid JSON: {e}")))?;
        match read.media_type.as_str() {
            media_type::OCIPFS_LAYER_MANIFEST | media_type::OCIPFS_LAYER_LIST => {
                LayerManifest::from_read(read).map(Self::Manifest)
            }
            media_type::OCIPFS_LAYER_INDEX => {
                let Some(values) = parts(read.manifests) else {
                    return Err(Error::malformed("manifests", "not a list of layer manifests"));
                };
                let values = values.into_iter().enumerate();
                let manifests =
                    values.map(|(number, value)| manifest_in(value, number)).collect::<Result<_, _>>();
                Self::index(manifests?)
            }
            other => {
                let found: String = other.chars().take(80).collect();
                Err(Error::Kind(format!(
                    "media type is {found:?}, expected {}",
                    media_type::OCIPFS_LAYER_MANIFEST
                )))
            }
        }
    }

    /// Makes an index: each platform once.
    pub fn index(manifests: Vec<LayerManifest>) -> Result<Self, Error> {
        if manifests.is_empty() {
            return Err(Error::malformed("manifests", "expected at least one"));
        }
        for (number, manifest) in manifests.iter().enumerate() {
            let platform = |manifest: &LayerManifest| manifest.platform.clone().unwrap_or_default();
            let platform_here = platform(manifest);
            if manifests[..number].iter().any(|other| platform(other) == platform_here) {
                let at = format!("manifests[{number}]");
                return Err(Error::malformed(at, format!("duplicate platform {platform_here}")));
            }
        }
        Ok(Self::Index(manifests))
    }

    /// Writes the document: keys in the format's order, two spaces, a final newline.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = match self {
            Self::Manifest(manifest) => serde_json::to_vec_pretty(&manifest.written()),
            Self::Index(manifests) => serde_json::to_vec_pretty(&WrittenIndex {
                media_type: media_type::OCIPFS_LAYER_INDEX,
                manifests: manifests.iter().map(LayerManifest::written).collect(),
            }),
        }
        .unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The images: one, or one for each platform.
    pub fn manifests(&self) -> &[LayerManifest] {
        match self {
            Self::Manifest(manifest) => slice::from_ref(manifest),
            Self::Index(manifests) => manifests,
        }
    }

    /// The layers of all images.
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.manifests().iter().flat_map(|manifest| &manifest.layers)
    }

    /// The tags that the files of the last layers give, each once.
    pub fn file_tags(&self) -> Vec<Tag> {
        let mut tags: Vec<Tag> = self.manifests().iter().filter_map(LayerManifest::file_tag).collect();
        tags.sort();
        tags.dedup();
        tags
    }
}

fn manifest_in(value: &RawValue, number: usize) -> Result<LayerManifest, Error> {
    let at = format!("manifests[{number}]");
    let read: Read<'_> = serde_json::from_str(value.get()).map_err(|e| Error::malformed(&at, e))?;
    match read.media_type.as_str() {
        media_type::OCIPFS_LAYER_MANIFEST | media_type::OCIPFS_LAYER_LIST => LayerManifest::from_read(read)
            .map_err(|error| match error {
                Error::Malformed(why) => Error::Malformed(format!("{at}.{why}")),
                kind => kind,
            }),
        other => {
            let found: String = other.chars().take(80).collect();
            Err(Error::malformed(
                at,
                format!("unknown media type {found:?}: expected a layer manifest or layer list"),
            ))
        }
    }
}
