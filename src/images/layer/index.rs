use bytes::Bytes;
use ocipfs_oci::{Digest, Platform, media_type};
use serde::Serialize;

use super::{Image, LayerManifest, image::json};

/// The images of several platforms and the OCI index over them, the same bytes always.
#[derive(Clone, Debug)]
pub struct ImageIndex {
    /// The OCI image index.
    pub bytes: Bytes,
    /// Its digest, which names all of it.
    pub digest: Digest,
    /// The images, in the order of the index.
    pub images: Vec<Image>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenTop<'a> {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<WrittenEntry<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenEntry<'a> {
    media_type: &'static str,
    digest: &'a Digest,
    size: usize,
    platform: &'a Platform,
}

impl ImageIndex {
    /// The media type of `bytes`.
    pub const MEDIA_TYPE: &'static str = media_type::OCI_INDEX;

    /// Makes the images of `manifests`.
    pub fn of(manifests: &[LayerManifest]) -> Self {
        let images: Vec<Image> = manifests.iter().map(Image::of).collect();
        let default = Platform::default();
        let entries = manifests.iter().zip(&images).map(|(manifest, image)| WrittenEntry {
            media_type: Image::MEDIA_TYPE,
            digest: &image.manifest_digest,
            size: image.manifest.len(),
            platform: manifest.platform.as_ref().unwrap_or(&default),
        });
        let bytes = json(&WrittenTop {
            schema_version: 2,
            media_type: Self::MEDIA_TYPE,
            manifests: entries.collect(),
        });
        Self { digest: Digest::sha256_of(&bytes), bytes, images }
    }
}
