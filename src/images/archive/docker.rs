//! Docker's archives: `manifest.json` names a configuration and layers by their paths.

use std::collections::HashMap;

use bytes::Bytes;
use ocipfs_oci::{Algorithm, Descriptor, Digest, Manifest, MediaType, media_type};
use serde::Deserialize;

use super::{
    ArchiveParts, ArchivedImage, ArchivedName, Error, Images,
    listing::{self, DockerEntry},
    parts::ArchiveFile,
    path::digest_of,
    stage::{StagedBlob, StagedEntry},
};

/// Layers whose digest is their diff ID.
const PLAIN: [&str; 2] = [media_type::OCI_LAYER_TAR, media_type::DOCKER_LAYER_TAR];

#[derive(Deserialize)]
struct DockerConfig {
    rootfs: DockerRootFs,
}

#[derive(Deserialize)]
struct DockerRootFs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

/// A layer that was taken before.
#[derive(Clone)]
struct DockerLayer {
    descriptor: Descriptor,
    /// None where its name says the digest of its compressed bytes, which were verified by that.
    diff_id: Option<Digest>,
}

/// Adds the images that `manifest.json` names and `images` does not have, as OCI images, and the names that it alone knows;
/// `known` says what blobs that were taken before are called now.
pub fn read(
    parts: &mut ArchiveParts,
    manifest: &Bytes,
    images: &mut Images,
    known: &HashMap<Digest, Descriptor>,
) -> Result<(), Error> {
    let mut have = Vec::new();
    for picture in &images.pictures {
        have.push(images.below(&picture.top)?);
    }
    let mut reader = DockerReader { parts, images, known, layers: HashMap::new() };
    for entry in listing::parse(manifest)? {
        let names: Vec<_> = entry.repo_tags.iter().flatten().map(|tag| ArchivedName::of_image(tag)).collect();
        let (digest, bytes) = reader.config(&entry)?;
        let at: Vec<usize> = (0..have.len()).filter(|at| have[*at].contains(&digest)).collect();
        match at.is_empty() {
            true => {
                let top = reader.image(&entry, digest, bytes)?;
                reader.add(&top, names);
            }
            false => reader.name(&at, names),
        }
    }
    Ok(())
}

struct DockerReader<'a> {
    parts: &'a mut ArchiveParts,
    images: &'a mut Images,
    known: &'a HashMap<Digest, Descriptor>,
    /// By the path at which it is.
    layers: HashMap<String, DockerLayer>,
}

fn missing(what: &str) -> Error {
    Error::Missing { what: what.into(), by: "manifest.json".into() }
}

impl DockerReader<'_> {
    fn add(&mut self, top: &Descriptor, names: Vec<ArchivedName>) {
        let names = if names.is_empty() { vec![ArchivedName::default()] } else { names };
        let picture = |name| ArchivedImage { name, top: top.clone(), subject: None };
        self.images.pictures.extend(names.into_iter().map(picture));
    }

    /// Gives an image of the index, which is at each of these places, the names that only `manifest.json` has.
    fn name(&mut self, at: &[usize], names: Vec<ArchivedName>) {
        for name in names {
            let pictures = &mut self.images.pictures;
            let is_known = |at: &usize| {
                let known = &pictures[*at].name;
                known.repository == name.repository && known.tag == name.tag
            };
            if at.iter().any(is_known) {
                continue;
            }
            let is_open = |at: &&usize| {
                let known = &pictures[**at].name;
                known.repository.is_none() && (known.tag.is_none() || known.tag == name.tag)
            };
            match at.iter().find(is_open).copied() {
                Some(at) => pictures[at].name = name,
                None => {
                    let top = pictures[at[0]].top.clone();
                    self.add(&top, vec![name]);
                }
            }
        }
    }

    /// Reads the configuration of an image.
    fn config(&mut self, entry: &DockerEntry) -> Result<(Digest, Bytes), Error> {
        let path = &entry.config;
        let taken = digest_of(&self.parts.follow(path)?);
        if let Some((digest, bytes)) = taken.and_then(|digest| self.images.documents.get_key_value(&digest)) {
            return Ok((digest.clone(), bytes.clone()));
        }
        let bytes = self.parts.document(path)?.ok_or_else(|| missing(path))?;
        let digest = Digest::sha256_of(&bytes);
        // docker and podman name it by its digest.
        if let Some(stated) = path.strip_suffix(".json")
            && stated.len() == digest.hex().len()
            && stated != digest.hex()
        {
            return Err(Error::Lie { what: path.clone(), why: format!("digest is {digest}") });
        }
        Ok((digest, bytes))
    }

    /// Makes the manifest of an image.
    fn image(&mut self, entry: &DockerEntry, digest: Digest, bytes: Bytes) -> Result<Descriptor, Error> {
        let config: DockerConfig =
            serde_json::from_slice(&bytes).map_err(|e| Error::document(&entry.config, e))?;
        let paths = entry.layers.as_deref().unwrap_or_default();
        let diff_ids = config.rootfs.diff_ids.unwrap_or_default();
        if diff_ids.len() != paths.len() {
            let why = format!("it has {} diff_ids for {} layers", diff_ids.len(), paths.len());
            return Err(Error::Lie { what: entry.config.clone(), why });
        }
        let mut descriptors = Vec::new();
        for (path, stated) in paths.iter().zip(&diff_ids) {
            let layer = self.layer(path)?;
            if let Some(found) = layer.diff_id.filter(|found| found != stated) {
                let why = format!("digest is {found}, the configuration declares {stated}");
                return Err(Error::Lie { what: path.clone(), why });
            }
            descriptors.push(layer.descriptor);
        }
        let config = MediaType::from_static(media_type::OCI_CONFIG);
        let config = Descriptor::new(config, digest.clone(), bytes.len() as u64);
        self.images.documents.insert(digest.clone(), bytes);
        let manifest = Manifest::new(config, descriptors);
        let bytes = serde_json::to_vec(&manifest).map_err(|e| Error::document("manifest.json", e))?;
        let kind = MediaType::from_static(media_type::OCI_MANIFEST);
        Ok(self.images.add(bytes, &Descriptor::new(kind, digest, 0)))
    }

    fn layer(&mut self, path: &str) -> Result<DockerLayer, Error> {
        let at = self.parts.follow(path)?;
        if let Some(layer) = self.layers.get(&at) {
            return Ok(layer.clone());
        }
        let known = digest_of(&at).and_then(|digest| self.known.get(&digest).map(|known| (digest, known)));
        let layer = match known {
            Some((digest, known)) => {
                let media_type = known.media_type.clone();
                let descriptor = Descriptor::new(media_type, known.digest.clone(), known.size);
                let is_plain = digest != known.digest || PLAIN.contains(&known.media_type.as_str());
                let is_diff_id = is_plain && digest.algorithm() == Algorithm::Sha256;
                DockerLayer { descriptor, diff_id: is_diff_id.then_some(digest) }
            }
            None => {
                let found = self.parts.find(&at)?.ok_or_else(|| missing(path))?;
                self.staged(path, found)?
            }
        };
        self.layers.insert(at, layer.clone());
        Ok(layer)
    }

    fn staged(&mut self, path: &str, found: ArchiveFile) -> Result<DockerLayer, Error> {
        let ArchiveFile::Staged(taken) = found else { return Err(Error::document(path, "not a layer")) };
        let StagedEntry { kept, compressed, diff_id } = *taken;
        let piece = compressed.or(kept).ok_or_else(|| Error::document(path, "not a layer"))?;
        let StagedBlob { digest, size, compression, .. } = &piece;
        let kind = MediaType::from_static(compression.media_type());
        let descriptor = Descriptor::new(kind, digest.clone(), *size);
        self.images.pieces.insert(digest.clone(), piece);
        Ok(DockerLayer { descriptor, diff_id })
    }
}
