//! Small images, and the files of a layout that holds them.

use ocipfs_oci::{Digest, media_type};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

use super::folder::Files;
use crate::harness::noise;

/// An image of one layer.
pub struct Image {
    pub manifest: Vec<u8>,
    pub media_type: &'static str,
    pub config: Vec<u8>,
    pub layer: Vec<u8>,
}

pub fn sha512(bytes: &[u8]) -> String {
    hex::encode(Sha512::digest(bytes))
}

/// A descriptor of these bytes.
pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::sha256_of(bytes).to_string(), "size": bytes.len()})
}

/// Returns `value` with another value at a key.
pub fn with(mut value: Value, key: &str, new: impl Into<Value>) -> Value {
    value[key] = new.into();
    value
}

/// A descriptor with the annotation that makes a tag.
pub fn tagged(descriptor: Value, tag: &str) -> Value {
    with(descriptor, "annotations", json!({"org.opencontainers.image.ref.name": tag}))
}

pub fn index(manifests: &[Value]) -> Vec<u8> {
    json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests}).to_string().into()
}

pub fn config(layer: &[u8], note: &str) -> Vec<u8> {
    json!({
        "architecture": "amd64", "os": "linux", "author": note, "config": {"Entrypoint": ["/hello"]},
        "rootfs": {"type": "layers", "diff_ids": [Digest::sha256_of(layer).to_string()]},
    })
    .to_string()
    .into()
}

impl Image {
    /// An image of a layer that no client would unpack, of so many bytes.
    pub fn of(note: &str, size: usize) -> Self {
        Self::with_layer(note, noise(size))
    }

    pub fn with_layer(note: &str, layer: Vec<u8>) -> Self {
        let config = config(&layer, note);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": descriptor(media_type::OCI_CONFIG, &config),
            "layers": [descriptor(media_type::OCI_LAYER_TAR, &layer)],
        });
        Self { manifest: manifest.to_string().into(), media_type: media_type::OCI_MANIFEST, config, layer }
    }

    /// Compresses the layer.
    pub fn gzipped(self) -> Self {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut gzip, &self.layer).unwrap();
        let layer = gzip.finish().unwrap();
        let mut manifest: Value = serde_json::from_slice(&self.manifest).unwrap();
        manifest["layers"] = json!([descriptor(media_type::OCI_LAYER_TAR_GZIP, &layer)]);
        Self { manifest: manifest.to_string().into(), layer, ..self }
    }

    /// Removes the media type from the manifest, as in older manifests.
    pub fn silent(self) -> Self {
        let mut manifest: Value = serde_json::from_slice(&self.manifest).unwrap();
        manifest.as_object_mut().unwrap().remove("mediaType");
        Self { manifest: manifest.to_string().into(), ..self }
    }

    pub fn digest(&self) -> String {
        Digest::sha256_of(&self.manifest).to_string()
    }

    pub fn descriptor(&self) -> Value {
        descriptor(self.media_type, &self.manifest)
    }

    /// Returns the blobs that are pulled with the manifest.
    pub fn blobs(&self) -> [&[u8]; 2] {
        [&self.config, &self.layer]
    }
}

/// The files of a layout below `at` (which ends in `/`, or is empty) with these entries in its `index.json`.
pub fn layout(at: &str, entries: &[Value], images: &[&Image], more: &[&[u8]]) -> Files {
    let blobs = images.iter().flat_map(|image| [&image.manifest[..], &image.config, &image.layer]);
    let blobs = blobs.chain(more.iter().copied());
    let mut files: Files = blobs
        .map(|blob| (format!("{at}blobs/sha256/{}", Digest::sha256_of(blob).hex()), blob.to_vec()))
        .collect();
    files.insert(format!("{at}oci-layout"), br#"{"imageLayoutVersion": "1.0.0"}"#.to_vec());
    files.insert(format!("{at}index.json"), index(entries));
    files
}
