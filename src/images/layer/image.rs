use bytes::Bytes;
use ocipfs_oci::{Digest, Platform, media_type};
use serde::Serialize;

use super::{Layer, LayerManifest, manifest::LayerDescriptor};

/// An image: manifest and config made up from a layer manifest, the same bytes always.
#[derive(Clone, Debug)]
pub struct Image {
    /// The OCI image manifest.
    pub manifest: Bytes,
    /// Its digest, which names the image.
    pub manifest_digest: Digest,
    /// The OCI image configuration.
    pub config: Bytes,
    /// Its digest.
    pub config_digest: Digest,
}

// The structures of the original ocipfs, key by key, down to the config's empty annotations.

#[derive(Serialize)]
struct ConfigJson<'a> {
    architecture: &'a str,
    os: &'a str,
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    os_version: Option<&'a str>,
    #[serde(rename = "os.features", skip_serializing_if = "<[_]>::is_empty")]
    os_features: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
    rootfs: RootFs<'a>,
}

#[derive(Serialize)]
struct RootFs<'a> {
    r#type: &'static str,
    diff_ids: Vec<&'a Digest>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestJson<'a> {
    schema_version: u8,
    media_type: &'static str,
    config: ConfigDescriptor<'a>,
    layers: Vec<LayerDescriptor<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigDescriptor<'a> {
    media_type: &'static str,
    digest: &'a Digest,
    size: usize,
    annotations: Empty,
}

#[derive(Serialize)]
struct Empty {}

impl Image {
    /// The media type of `manifest`.
    pub const MEDIA_TYPE: &'static str = media_type::OCI_MANIFEST;
    /// The media type of `config`.
    pub const CONFIG_TYPE: &'static str = media_type::OCI_CONFIG;

    /// Makes the image of `manifest`.
    pub fn of(manifest: &LayerManifest) -> Self {
        let layers = &manifest.layers;
        let default = Platform::default();
        let platform = manifest.platform.as_ref().unwrap_or(&default);
        let config = json(&ConfigJson {
            architecture: &platform.architecture,
            os: &platform.os,
            os_version: platform.os_version.as_deref(),
            os_features: &platform.os_features,
            variant: platform.variant.as_deref(),
            rootfs: RootFs {
                r#type: "layers",
                diff_ids: layers.iter().map(|layer| &layer.diff_id).collect(),
            },
        });
        let config_digest = Digest::sha256_of(&config);
        let manifest = json(&ManifestJson {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST,
            config: ConfigDescriptor {
                media_type: media_type::OCI_CONFIG,
                digest: &config_digest,
                size: config.len(),
                annotations: Empty {},
            },
            layers: layers.iter().map(Layer::descriptor).collect(),
        });
        Self { manifest_digest: Digest::sha256_of(&manifest), manifest, config, config_digest }
    }
}

/// Writes a structure of strings and numbers, which cannot fail.
pub(super) fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}
