//! Docker archives without an index: `manifest.json` names a configuration and layers by their paths.

use std::collections::HashMap;

use bytes::Bytes;
use ocipfs_oci::{Descriptor, Digest, Manifest, MediaType, media_type};
use serde::Deserialize;

use super::{
    ArchiveParts, ArchivedImage, Error, Images, name,
    parts::ArchiveFile,
    stage::{StagedBlob, StagedEntry},
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct DockerConfig {
    rootfs: DockerRootFs,
}

#[derive(Deserialize)]
struct DockerRootFs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

/// A layer that was taken before, by the path at which it is.
struct DockerLayer {
    descriptor: Descriptor,
    diff_id: Digest,
}

/// Reads the images that `manifest.json` names, as OCI images.
pub fn read(parts: &mut ArchiveParts, manifest: &Bytes) -> Result<Images, Error> {
    let entries: Vec<DockerEntry> =
        serde_json::from_slice(manifest).map_err(|e| Error::document("manifest.json", e))?;
    if entries.is_empty() {
        return Err(Error::Unknown("its manifest.json lists no image"));
    }
    let (mut images, mut layers) = (Images::default(), HashMap::new());
    for entry in entries {
        let top = image(parts, &mut images, &mut layers, &entry)?;
        let tags = entry.repo_tags.unwrap_or_default();
        for tag in &tags {
            let (repository, tag) = name::split(tag)?;
            images.pictures.push(ArchivedImage { repository: Some(repository), tag, top: top.clone() });
        }
        if tags.is_empty() {
            images.pictures.push(ArchivedImage { repository: None, tag: None, top });
        }
    }
    Ok(images)
}

fn image(
    parts: &mut ArchiveParts,
    images: &mut Images,
    layers: &mut HashMap<String, DockerLayer>,
    entry: &DockerEntry,
) -> Result<Descriptor, Error> {
    let missing = |what: &str| Error::Missing { what: what.into(), by: "manifest.json".into() };
    let bytes = parts.document(&entry.config)?.ok_or_else(|| missing(&entry.config))?;
    let config: DockerConfig =
        serde_json::from_slice(&bytes).map_err(|e| Error::document(&entry.config, e))?;
    let digest = Digest::sha256_of(&bytes);
    // docker and podman name it by its digest.
    if let Some(stated) = entry.config.strip_suffix(".json")
        && stated.len() == digest.hex().len()
        && stated != digest.hex()
    {
        return Err(Error::Lie { what: entry.config.clone(), why: format!("digest is {digest}") });
    }
    let paths = entry.layers.as_deref().unwrap_or_default();
    let diff_ids = config.rootfs.diff_ids.unwrap_or_default();
    if diff_ids.len() != paths.len() {
        let why = format!("it has {} diff_ids for {} layers", diff_ids.len(), paths.len());
        return Err(Error::Lie { what: entry.config.clone(), why });
    }
    let mut descriptors = Vec::new();
    for (path, stated) in paths.iter().zip(&diff_ids) {
        let at = parts.follow(path)?;
        if !layers.contains_key(&at) {
            let found = parts.find(&at)?.ok_or_else(|| missing(path))?;
            layers.insert(at.clone(), layer(images, path, found)?);
        }
        let layer = layers.get(&at).ok_or_else(|| missing(path))?;
        if layer.diff_id != *stated {
            let why = format!("digest is {}, the configuration declares {stated}", layer.diff_id);
            return Err(Error::Lie { what: path.clone(), why });
        }
        descriptors.push(layer.descriptor.clone());
    }
    let config = MediaType::from_static(media_type::OCI_CONFIG);
    let config = Descriptor::new(config, digest.clone(), bytes.len() as u64);
    images.documents.insert(digest.clone(), bytes);
    let manifest = Manifest::new(config, descriptors);
    let bytes = serde_json::to_vec(&manifest).map_err(|e| Error::document("manifest.json", e))?;
    let kind = MediaType::from_static(media_type::OCI_MANIFEST);
    Ok(images.add(bytes, &Descriptor::new(kind, digest, 0)))
}

fn layer(images: &mut Images, path: &str, found: ArchiveFile) -> Result<DockerLayer, Error> {
    let ArchiveFile::Staged(taken) = found else { return Err(Error::document(path, "not a layer")) };
    let StagedEntry { kept, compressed, diff_id } = *taken;
    let (Some(piece), Some(diff_id)) = (compressed.or(kept), diff_id) else {
        return Err(Error::document(path, "not a layer"));
    };
    let StagedBlob { digest, size, compression, .. } = &piece;
    let kind = MediaType::from_static(compression.media_type());
    let descriptor = Descriptor::new(kind, digest.clone(), *size);
    images.pieces.insert(digest.clone(), piece);
    Ok(DockerLayer { descriptor, diff_id })
}
