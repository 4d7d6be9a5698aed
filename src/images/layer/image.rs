use bytes::Bytes;
use ocipfs_oci::{Digest, Platform, media_type};
use serde::Serialize;

use super::{LayerManifest, manifest::LayerDescriptor};

/// The image of one layer: manifest and config made up from a layer manifest, the same bytes always.
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
struct Config<'a> {
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
    diff_ids: [&'a Digest; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u8,
    media_type: &'static str,
    config: ConfigDescriptor<'a>,
    layers: [LayerDescriptor<'a>; 1],
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

    /// Makes the image of `layer`.
    pub fn of(layer: &LayerManifest) -> Self {
        let default = Platform::default();
        let platform = layer.platform.as_ref().unwrap_or(&default);
        let config = json(&Config {
            architecture: &platform.architecture,
            os: &platform.os,
            os_version: platform.os_version.as_deref(),
            os_features: &platform.os_features,
            variant: platform.variant.as_deref(),
            rootfs: RootFs { r#type: "layers", diff_ids: [&layer.diff_id] },
        });
        let config_digest = Digest::sha256_of(&config);
        let manifest = json(&Manifest {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST,
            config: ConfigDescriptor {
                media_type: media_type::OCI_CONFIG,
                digest: &config_digest,
                size: config.len(),
                annotations: Empty {},
            },
            layers: [layer.descriptor()],
        });
        Self { manifest_digest: Digest::sha256_of(&manifest), manifest, config, config_digest }
    }
}

/// Writes a structure of strings and numbers, which cannot fail.
fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> LayerManifest {
        LayerManifest::parse(include_bytes!("../../../example/layer.json")).unwrap()
    }

    #[test]
    fn the_image_of_the_original_example_never_changes() {
        let image = Image::of(&example());
        assert_eq!(
            std::str::from_utf8(&image.config).unwrap(),
            r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:e02ebdee01b51ceb76a06a45debfb962d6484728f4c348b9ca0c8a2309830ec6"]}}"#
        );
        assert_eq!(
            std::str::from_utf8(&image.manifest).unwrap(),
            concat!(
                r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","#,
                r#""config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:33feab50c2fa3b1dc84f3590f6d939766d1ef1b5198a87d12faf8c19e0e75983","size":151,"annotations":{}},"#,
                r#""layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:cfb9359acc6d98d593d724bb9f0fd4b12dd12688eb44ee9ac391fb3fde6c0415","size":168,"#,
                r#""annotations":{"io.ocipfs.layer.ipfs.cid":"QmbSCQoNkbvuYXpjUsERkG13em9WXeSiw5m5omLUnrcTT4/foo-0.1.0.tar.gz","#,
                r#""io.ocipfs.layer.fs.digest":"sha256:e02ebdee01b51ceb76a06a45debfb962d6484728f4c348b9ca0c8a2309830ec6"}}]}"#
            )
        );
        assert_eq!(
            image.config_digest.to_string(),
            "sha256:33feab50c2fa3b1dc84f3590f6d939766d1ef1b5198a87d12faf8c19e0e75983"
        );
        assert_eq!(
            image.manifest_digest.to_string(),
            "sha256:b588c6d2f8ba7c4275aa80975b8eaf489ea6456c9ea44297960a34a07f7ab059"
        );
    }

    #[test]
    fn a_platform_is_told_by_the_config() {
        let layer = LayerManifest { platform: Some("linux/arm64/v8".parse().unwrap()), ..example() };
        let config: serde_json::Value = serde_json::from_slice(&Image::of(&layer).config).unwrap();
        assert_eq!(
            (&config["architecture"], &config["os"], &config["variant"]),
            (&"arm64".into(), &"linux".into(), &"v8".into())
        );
        assert_ne!(Image::of(&layer).manifest_digest, Image::of(&example()).manifest_digest);
    }

    #[test]
    fn what_is_made_is_an_oci_manifest() {
        let manifest = ocipfs_oci::Manifest::parse(&Image::of(&example()).manifest).unwrap();
        assert_eq!(manifest.config.digest, Image::of(&example()).config_digest);
        assert_eq!(manifest.layers[0].digest, example().digest);
    }
}
