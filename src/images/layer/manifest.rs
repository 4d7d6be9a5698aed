use std::collections::BTreeMap;

use ocipfs_oci::{Descriptor, Digest, MediaType, Platform, media_type};
use serde::{Deserialize, Serialize};

use crate::content::CidPath;

/// A longer document is no layer manifest.
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

/// What a layer is and where its bytes are (`application/vnd.ocipfs.layer.manifest.v1+json`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerManifest {
    /// The layer's media type.
    pub media_type: MediaType,
    /// The digest of the layer as it is stored.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where its bytes are.
    pub at: CidPath,
    /// The digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Other than linux/amd64, where it says so.
    pub platform: Option<Platform>,
    /// Further annotations, passed on as they are.
    pub annotations: BTreeMap<String, String>,
}

/// The document as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    layer: serde_json::Value,
}

/// The document as it is written; the order of the keys is part of the format.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    media_type: &'static str,
    layer: WrittenLayer<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenLayer<'a> {
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
    annotations: Annotations<'a>,
}

#[derive(Serialize)]
struct Annotations<'a> {
    #[serde(rename = "io.ocipfs.layer.ipfs.cid")]
    cid: &'a CidPath,
    #[serde(rename = "io.ocipfs.layer.fs.digest")]
    diff_id: &'a Digest,
    #[serde(flatten)]
    others: &'a BTreeMap<String, String>,
}

impl LayerManifest {
    /// Reads a layer manifest of any layout.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Error::Kind(format!("{} bytes, more than {MAX_BYTES}", bytes.len())));
        }
        let document: Document =
            serde_json::from_slice(bytes).map_err(|e| Error::Kind(format!("not its JSON ({e})")))?;
        if document.media_type != media_type::OCIPFS_LAYER_MANIFEST {
            let found: String = document.media_type.chars().take(80).collect();
            return Err(Error::Kind(format!(
                "its media type is {found:?}, not {}",
                media_type::OCIPFS_LAYER_MANIFEST
            )));
        }
        let layer =
            Descriptor::deserialize(document.layer).map_err(|e| Error::Malformed(format!("layer: {e}")))?;
        Self::from_descriptor(layer)
    }

    fn from_descriptor(layer: Descriptor) -> Result<Self, Error> {
        let malformed = |what: &str, why: String| Error::Malformed(format!("{what}: {why}"));
        if !layer.media_type.is_layer() {
            return Err(malformed("layer.mediaType", format!("{} is no layer's", layer.media_type)));
        }
        let mut annotations = layer.annotations;
        let mut take = |key: &str| {
            annotations.remove(key).ok_or_else(|| malformed(key, "the annotation is missing".into()))
        };
        let (at, diff_id) = (take(CID)?, take(DIFF_ID)?);
        Ok(Self {
            at: at.parse().map_err(|e: crate::content::PathError| malformed(CID, e.to_string()))?,
            diff_id: diff_id
                .parse()
                .map_err(|e: ocipfs_oci::digest::Error| malformed(DIFF_ID, e.to_string()))?,
            media_type: layer.media_type,
            digest: layer.digest,
            size: layer.size,
            platform: layer.platform,
            annotations,
        })
    }

    pub(super) fn descriptor(&self) -> LayerDescriptor<'_> {
        LayerDescriptor {
            media_type: &self.media_type,
            digest: &self.digest,
            size: self.size,
            annotations: Annotations { cid: &self.at, diff_id: &self.diff_id, others: &self.annotations },
        }
    }

    /// Writes the manifest: keys in the format's order, two spaces, a final newline.
    pub fn to_bytes(&self) -> Vec<u8> {
        let layer = WrittenLayer { layer: self.descriptor(), platform: self.platform.as_ref() };
        let document = Written { media_type: media_type::OCIPFS_LAYER_MANIFEST, layer };
        let mut bytes = serde_json::to_vec_pretty(&document).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// What the layer's file is called: the last name of its path, else its title.
    pub fn file_name(&self) -> Option<&str> {
        self.at.file_name().or_else(|| self.annotations.get(TITLE).map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the original ocipfs, byte for byte.
    const EXAMPLE: &[u8] = include_bytes!("../../../example/layer.json");

    fn broken(from: &str, to: &str) -> String {
        let text = String::from_utf8(EXAMPLE.to_vec()).unwrap();
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    }

    #[test]
    fn the_original_example_is_read_and_written_byte_for_byte() {
        let manifest = LayerManifest::parse(EXAMPLE).unwrap();
        assert_eq!(manifest.size, 168);
        assert_eq!(manifest.file_name(), Some("foo-0.1.0.tar.gz"));
        assert_eq!(String::from_utf8(manifest.to_bytes()).unwrap().as_bytes(), EXAMPLE);
    }

    #[test]
    fn platform_and_further_annotations_survive() {
        let mut manifest = LayerManifest::parse(EXAMPLE).unwrap();
        manifest.platform = Some("linux/arm64/v8".parse().unwrap());
        manifest.annotations.insert(TITLE.into(), "foo".into());
        assert_eq!(LayerManifest::parse(&manifest.to_bytes()).unwrap(), manifest);
    }

    #[test]
    fn another_kind_of_document_is_named_so() {
        let long = " ".repeat(MAX_BYTES as usize + 1);
        for text in ["", "{}", "[]", "hello", &broken("vnd.ocipfs.layer", "vnd.other.layer"), &long] {
            let error = LayerManifest::parse(text.as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Kind(_)), "{:.40}: {error}", text);
        }
    }

    #[test]
    fn a_malformed_manifest_is_refused_with_its_reason() {
        for (from, to, reason) in [
            ("168", "-1", "size"),
            ("168", "1.5", "size"),
            ("\"size\": 168,", "", "size"),
            ("sha256:cfb9", "sha256:CFB9", "hex"),
            ("sha256:cfb9", "md5:cfb9", "md5"),
            ("image.layer.v1.tar+gzip", "image.config.v1+json", "mediaType"),
            ("io.ocipfs.layer.ipfs.cid", "io.other", "io.ocipfs.layer.ipfs.cid"),
            ("io.ocipfs.layer.fs.digest", "io.other", "io.ocipfs.layer.fs.digest"),
            ("QmbSCQ", "notacid", "CID"),
            ("/foo-0.1.0.tar.gz", "/../secret", "path"),
            ("sha256:e02e", "sha256:e0", "hex digits"),
        ] {
            let error = LayerManifest::parse(broken(from, to).as_bytes()).unwrap_err();
            assert!(matches!(error, Error::Malformed(_)), "{from} -> {to}: {error}");
            assert!(error.to_string().contains(reason), "{from} -> {to}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = LayerManifest::parse(&bytes);
        }
    }
}
