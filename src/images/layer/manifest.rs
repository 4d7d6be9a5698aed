use std::collections::BTreeMap;

use ocipfs_node::Cid;
use ocipfs_oci::{Descriptor, Digest, MediaType, Platform, Tag, media_type};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::content::{Blob, CidPath};

/// Maximum size of a layer manifest.
pub const MAX_BYTES: u64 = 1 << 20;

pub(super) const CID: &str = "io.ocipfs.layer.ipfs.cid";
pub(super) const DIFF_ID: &str = "io.ocipfs.layer.fs.digest";
const TITLE: &str = "org.opencontainers.image.title";

/// Why bytes are no layer manifest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another kind of document: the CID is of something else.
    #[error("not a layer manifest: {0}")]
    Kind(String),
    /// A layer manifest, but not a sound one.
    #[error("a malformed layer manifest: {0}")]
    Malformed(String),
}

impl Error {
    pub(super) fn malformed(what: impl std::fmt::Display, why: impl std::fmt::Display) -> Self {
        Self::Malformed(format!("{what}: {why}"))
    }
}

/// A layer: what its bytes are and where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Its media type.
    pub media_type: MediaType,
    /// The digest of the layer as it is stored.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where its bytes are.
    pub at: CidPath,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Further annotations, passed on as they are.
    pub annotations: BTreeMap<String, String>,
}

/// The layers of one image, at least one and the lowest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerManifest {
    /// The layers.
    pub layers: Vec<Layer>,
    /// Other than linux/amd64, where it says so.
    pub platform: Option<Platform>,
}

/// A document of the family as it is read. Its parts stay text until the one that counts is known.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Read<'a> {
    #[serde(default)]
    pub media_type: String,
    #[serde(borrow)]
    layer: Option<&'a RawValue>,
    #[serde(borrow)]
    layers: Option<&'a RawValue>,
    #[serde(borrow)]
    platform: Option<&'a RawValue>,
    #[serde(borrow)]
    pub manifests: Option<&'a RawValue>,
}

/// Reads a list of which each part is read when its turn comes; none where it is not a list.
pub(super) fn parts(list: Option<&RawValue>) -> Option<Vec<&RawValue>> {
    serde_json::from_str(list?.get()).ok()
}

/// The document as it is written; the order of the keys is part of the format.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum WrittenManifest<'a> {
    /// One layer, as in the original ocipfs.
    #[serde(rename_all = "camelCase")]
    Single { media_type: &'static str, layer: WrittenLayer<'a> },
    /// Several.
    #[serde(rename_all = "camelCase")]
    List {
        media_type: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        platform: Option<&'a Platform>,
        layers: Vec<LayerDescriptor<'a>>,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WrittenLayer<'a> {
    #[serde(flatten)]
    layer: LayerDescriptor<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<&'a Platform>,
}

/// The layer's descriptor: annotations in ocipfs's order, then the others.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LayerDescriptor<'a> {
    media_type: &'a MediaType,
    digest: &'a Digest,
    size: u64,
    annotations: LayerAnnotations<'a>,
}

#[derive(Serialize)]
struct LayerAnnotations<'a> {
    #[serde(rename = "io.ocipfs.layer.ipfs.cid")]
    cid: &'a CidPath,
    #[serde(rename = "io.ocipfs.layer.fs.digest")]
    diff_id: &'a Digest,
    #[serde(flatten)]
    others: &'a BTreeMap<String, String>,
}

impl LayerManifest {
    /// Reads one that has a single layer, or several.
    pub(super) fn from_read(read: Read<'_>) -> Result<Self, Error> {
        if read.media_type == media_type::OCIPFS_LAYER_MANIFEST {
            let (layer, platform) = Layer::read(read.layer.unwrap_or(RawValue::NULL), "layer")?;
            return Ok(Self { layers: vec![layer], platform: complete(platform)? });
        }
        let platform = read.platform.map(|platform| serde_json::from_str(platform.get())).transpose();
        let platform = complete(platform.map_err(|e| Error::malformed("platform", e))?)?;
        let Some(values) = parts(read.layers) else {
            return Err(Error::malformed("layers", "not a list of layers"));
        };
        let mut layers = Vec::new();
        for (number, value) in values.into_iter().enumerate() {
            let at = format!("layers[{number}]");
            match Layer::read(value, &at)? {
                (layer, None) => layers.push(layer),
                (_, Some(_)) => {
                    return Err(Error::malformed(at, "the platform belongs beside the list, not in a layer"));
                }
            }
        }
        match layers.is_empty() {
            true => Err(Error::malformed("layers", "expected at least one")),
            false => Ok(Self { layers, platform }),
        }
    }

    /// The document, as it is written alone or in an index.
    pub(super) fn written(&self) -> WrittenManifest<'_> {
        let platform = self.platform.as_ref();
        match self.layers.as_slice() {
            [layer] => WrittenManifest::Single {
                media_type: media_type::OCIPFS_LAYER_MANIFEST,
                layer: WrittenLayer { layer: layer.descriptor(), platform },
            },
            layers => WrittenManifest::List {
                media_type: media_type::OCIPFS_LAYER_LIST,
                platform,
                layers: layers.iter().map(Layer::descriptor).collect(),
            },
        }
    }

    /// The tag that stands for its last layer's file, where that has a name.
    pub fn file_tag(&self) -> Option<Tag> {
        self.layers.last().and_then(Layer::file_name).and_then(Tag::from_file_name)
    }
}

/// Refuses a platform that lacks something: the image that is made of it says both.
fn complete(platform: Option<Platform>) -> Result<Option<Platform>, Error> {
    match platform.as_ref().is_none_or(Platform::is_complete) {
        true => Ok(platform),
        false => Err(Error::malformed("platform", "expected os and architecture")),
    }
}

impl Layer {
    /// Reads a descriptor; `at` names it in errors. A layer that stands alone may say its platform.
    fn read(value: &RawValue, at: &str) -> Result<(Self, Option<Platform>), Error> {
        let layer: Descriptor = serde_json::from_str(value.get()).map_err(|e| Error::malformed(at, e))?;
        let malformed = |what: &str, why: String| Error::malformed(format!("{at}.{what}"), why);
        let media_type: MediaType = layer
            .media_type
            .as_str()
            .parse()
            .map_err(|error: ocipfs_oci::media_type::Error| malformed("mediaType", error.to_string()))?;
        if !media_type.is_layer() {
            return Err(malformed("mediaType", format!("{media_type} is not the media type of a layer")));
        }
        let mut annotations = layer.annotations;
        let mut take = |key: &str| {
            annotations.remove(key).ok_or_else(|| malformed(key, "the annotation is missing".into()))
        };
        let (path, diff_id) = (take(CID)?, take(DIFF_ID)?);
        let read = Self {
            at: path.parse().map_err(|e: crate::content::PathError| malformed(CID, e.to_string()))?,
            diff_id: diff_id
                .parse()
                .map_err(|e: ocipfs_oci::digest::Error| malformed(DIFF_ID, e.to_string()))?,
            media_type,
            digest: layer.digest,
            size: layer.size,
            annotations,
        };
        Ok((read, layer.platform))
    }

    pub(super) fn descriptor(&self) -> LayerDescriptor<'_> {
        LayerDescriptor {
            media_type: &self.media_type,
            digest: &self.digest,
            size: self.size,
            annotations: LayerAnnotations {
                cid: &self.at,
                diff_id: &self.diff_id,
                others: &self.annotations,
            },
        }
    }

    /// The layer as a blob, retained by the document `gc_root`.
    pub fn blob(&self, gc_root: Cid) -> Blob {
        Blob { digest: self.digest.clone(), size: self.size, at: self.at.clone(), gc_root: Some(gc_root) }
    }

    /// Returns the file name of the layer: the last component of its path, else its title.
    pub fn file_name(&self) -> Option<&str> {
        self.at.file_name().or_else(|| self.annotations.get(TITLE).map(String::as_str))
    }
}
