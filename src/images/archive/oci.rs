//! OCI image layouts: from `index.json` down to the layers, which are all checked to be there.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use ocipfs_oci::{Descriptor, Digest, Index, Manifest, MediaType, media_type};
use serde::Deserialize;

use super::{
    ArchiveParts, ArchivedImage, ArchivedName, Error, Images, MAX_DEPTH, MAX_MANIFEST, ManifestOrIndex,
    attested, cosign,
    name::{IMAGE_NAME, REF_NAME, REPOSITORY, repository},
    parts::ArchiveFile,
    path::blob_path,
    stage::StagedEntry,
};
use crate::images::pack::inspect::Compression;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutVersion {
    image_layout_version: String,
}

/// Reads the images that `index.json` names; also what each manifest, index and blob is called from then on.
pub fn read(parts: &mut ArchiveParts, index: &Bytes) -> Result<(Images, HashMap<Digest, Descriptor>), Error> {
    let missing = || Error::Missing { what: "oci-layout".into(), by: "the image layout format".into() };
    let layout = parts.document("oci-layout")?.ok_or_else(missing)?;
    let layout: LayoutVersion =
        serde_json::from_slice(&layout).map_err(|e| Error::document("oci-layout", e))?;
    if !layout.image_layout_version.starts_with("1.") {
        let why = format!("version {:?} is not known", layout.image_layout_version);
        return Err(Error::document("oci-layout", why));
    }
    let index = Index::parse(index).map_err(|e| Error::document("index.json", e))?;
    let mut walk =
        IndexWalk { parts, images: Images::default(), known: HashMap::new(), within: HashSet::new() };
    for descriptor in &index.manifests {
        walk.entry(descriptor, &index.manifests)?;
    }
    walk.unlisted()?;
    Ok((walk.images, walk.known))
}

/// Returns what the annotations of an entry of `index.json` call it.
fn name(descriptor: &Descriptor) -> ArchivedName {
    let text = |key| descriptor.annotation(key).filter(|text| !text.is_empty());
    let name = match (text(IMAGE_NAME), text(REF_NAME)) {
        (Some(image), _) => ArchivedName::of_image(image),
        (None, Some(reference)) => ArchivedName::of_ref(reference),
        (None, None) => ArchivedName::default(),
    };
    let given = text(REPOSITORY).and_then(repository);
    ArchivedName { repository: name.repository.or(given), ..name }
}

fn absent(descriptor: &Descriptor, by: &str) -> Error {
    Error::Missing { what: blob_path(&descriptor.digest), by: by.into() }
}

struct IndexWalk<'a> {
    parts: &'a mut ArchiveParts,
    images: Images,
    /// Resulting descriptors of manifests and indexes that were visited.
    known: HashMap<Digest, Descriptor>,
    /// The indexes on the way down.
    within: HashSet<Digest>,
}

impl IndexWalk<'_> {
    /// Takes one of the `entries` of `index.json` with all below it.
    fn entry(&mut self, entry: &Descriptor, entries: &[Descriptor]) -> Result<(), Error> {
        let mut name = name(entry);
        let mut top = self.node(entry, "index.json")?.ok_or_else(|| absent(entry, "index.json"))?;
        for key in [IMAGE_NAME, REF_NAME, REPOSITORY] {
            top.annotations.remove(key);
        }
        let mut subject = self.images.node(&top)?.and_then(|node| node.subject().cloned());
        if cosign::is_signature(entry) {
            let (image, tag) = cosign::signature(entry, entries).unzip();
            name.tag = tag;
            // Where it cannot be told what it is about, it is still not an image.
            subject = image.or(subject).or(Some(entry.digest.clone()));
        }
        let subject = subject.or_else(|| cosign::subject_of_tag(name.tag.as_ref()?));
        self.images.pictures.push(ArchivedImage { name, top, subject });
        Ok(())
    }

    /// Takes manifests that no index lists and that refer to one that is here, as cosign keeps its bundles.
    fn unlisted(&mut self) -> Result<(), Error> {
        let mut waiting = self.parts.unlisted(|digest| self.known.contains_key(digest))?;
        loop {
            let (mut next, mut rest) = (Vec::new(), Vec::new());
            for (digest, bytes) in waiting {
                let refers = self.refers_to_known(&bytes)?;
                if refers { &mut next } else { &mut rest }.push((digest, bytes));
            }
            if next.is_empty() {
                return Ok(());
            }
            for (digest, bytes) in next {
                let kind = Manifest::parse(&bytes).ok().and_then(|manifest| manifest.media_type);
                let kind = kind.unwrap_or(MediaType::from_static(media_type::OCI_MANIFEST));
                self.entry(&Descriptor::new(kind, digest, bytes.len() as u64), &[])?;
            }
            waiting = rest;
        }
    }

    /// Whether bytes are a complete manifest whose subject is imported.
    fn refers_to_known(&self, bytes: &[u8]) -> Result<bool, Error> {
        let Ok(manifest) = Manifest::parse(bytes) else { return Ok(false) };
        let subject = manifest.subject.as_ref().map(|subject| &subject.digest);
        if subject.is_none_or(|subject| !self.known.contains_key(subject)) {
            return Ok(false);
        }
        for blob in manifest.blobs() {
            if !self.known.contains_key(&blob.digest) && !self.parts.has(&blob_path(&blob.digest))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes a manifest, an index or another blob with all below it; what it is called from then on.
    fn node(&mut self, descriptor: &Descriptor, by: &str) -> Result<Option<Descriptor>, Error> {
        if let Some(known) = self.known.get(&descriptor.digest) {
            return Ok(Some(renamed(descriptor, known)));
        }
        // Where the media type is not stated, the bytes tell.
        let is_unstated = descriptor.media_type.as_str().is_empty();
        if !ManifestOrIndex::is(descriptor) && !is_unstated {
            return self.blob(descriptor, by);
        }
        if self.within.len() >= MAX_DEPTH || self.within.contains(&descriptor.digest) {
            return Err(Error::Cycle(descriptor.digest.clone()));
        }
        let path = blob_path(&descriptor.digest);
        if descriptor.size > MAX_MANIFEST && !is_unstated {
            return Err(Error::TooLarge { what: path, limit: MAX_MANIFEST });
        }
        let bytes = match self.parts.find(&path)? {
            Some(ArchiveFile::Document(bytes)) => bytes,
            Some(staged) if is_unstated => return self.found(descriptor, staged, by).map(Some),
            Some(ArchiveFile::Staged(_)) => {
                return Err(Error::document(path, "expected JSON of at most 4 MiB"));
            }
            None => return Ok(None),
        };
        let Some(node) = ManifestOrIndex::of(descriptor, &bytes)? else {
            return self.found(descriptor, ArchiveFile::Document(bytes), by).map(Some);
        };
        right_size(descriptor, bytes.len() as u64)?;
        self.within.insert(descriptor.digest.clone());
        let by = descriptor.digest.to_string();
        let made = match node {
            ManifestOrIndex::Index(index) => self.index(*index, descriptor, &by)?,
            ManifestOrIndex::Manifest(manifest) => self.manifest(*manifest, descriptor, &by)?,
        };
        self.within.remove(&descriptor.digest);
        let made = made.unwrap_or_else(|| {
            self.images.documents.insert(descriptor.digest.clone(), bytes);
            descriptor.clone()
        });
        self.known.insert(descriptor.digest.clone(), made.clone());
        Ok(Some(made))
    }

    /// Takes what an index names; a new index where something of it is called otherwise now.
    fn index(&mut self, mut index: Index, as_in: &Descriptor, by: &str) -> Result<Option<Descriptor>, Error> {
        let before = index.manifests.clone();
        let mut missing = Vec::new();
        for child in &mut index.manifests {
            match self.node(child, by)? {
                Some(made) => *child = made,
                None => missing.push(child.clone()),
            }
        }
        // Docker saves the platforms that it has, and the whole index.
        match missing.first() {
            Some(first) if missing.len() == before.len() => return Err(absent(first, by)),
            Some(_) => {
                let platforms = missing.iter().map(|child| match &child.platform {
                    Some(platform) => platform.to_string(),
                    None => child.digest.to_string(),
                });
                let platforms: Vec<_> = platforms.collect();
                let text = format!("the archive has no image for {}, which {by} lists", platforms.join(", "));
                self.images.warnings.push(text);
            }
            None => {}
        }
        if index.manifests == before {
            return Ok(None);
        }
        let renamed: HashMap<Digest, Digest> = before
            .iter()
            .zip(&index.manifests)
            .map(|(old, new)| (old.digest.clone(), new.digest.clone()))
            .collect();
        attested::rename(&mut index.manifests, |digest| renamed.get(digest).cloned());
        let bytes = serde_json::to_vec(&index).map_err(|e| Error::document(by, e))?;
        Ok(Some(self.images.add(bytes, as_in)))
    }

    /// Takes the configuration and the layers; a new manifest where a layer was compressed.
    fn manifest(
        &mut self,
        mut manifest: Manifest,
        as_in: &Descriptor,
        by: &str,
    ) -> Result<Option<Descriptor>, Error> {
        self.blob(&manifest.config, by)?.ok_or_else(|| absent(&manifest.config, by))?;
        let before = manifest.layers.clone();
        for layer in &mut manifest.layers {
            match self.blob(layer, by)? {
                Some(made) => *layer = made,
                // What is fetched from elsewhere is not in archives.
                None if layer.is_foreign() => {}
                None => return Err(absent(layer, by)),
            }
        }
        if manifest.layers == before {
            return Ok(None);
        }
        let bytes = serde_json::to_vec(&manifest).map_err(|e| Error::document(by, e))?;
        Ok(Some(self.images.add(bytes, as_in)))
    }

    /// Takes a blob as it is, or compressed where it is an uncompressed layer and that is wanted.
    fn blob(&mut self, descriptor: &Descriptor, by: &str) -> Result<Option<Descriptor>, Error> {
        if let Some(known) = self.known.get(&descriptor.digest) {
            return Ok(Some(renamed(descriptor, known)));
        }
        match self.parts.find(&blob_path(&descriptor.digest))? {
            None => Ok(None),
            Some(found) => self.found(descriptor, found, by).map(Some),
        }
    }

    fn found(&mut self, descriptor: &Descriptor, found: ArchiveFile, by: &str) -> Result<Descriptor, Error> {
        let made = match found {
            ArchiveFile::Document(bytes) => {
                right_size(descriptor, bytes.len() as u64)?;
                self.images.documents.insert(descriptor.digest.clone(), bytes);
                descriptor.clone()
            }
            ArchiveFile::Staged(taken) => self.staged(descriptor, *taken, by)?,
        };
        self.known.insert(descriptor.digest.clone(), made.clone());
        Ok(made)
    }

    fn staged(&mut self, descriptor: &Descriptor, taken: StagedEntry, by: &str) -> Result<Descriptor, Error> {
        let is_plain = matches!(
            descriptor.media_type.as_str(),
            media_type::OCI_LAYER_TAR | media_type::DOCKER_LAYER_TAR
        );
        let (piece, descriptor) = match taken {
            StagedEntry { compressed: Some(piece), kept, .. } if is_plain && self.parts.replaces() => {
                drop(kept);
                let media_type = compressed_type(descriptor, piece.compression);
                let (digest, size) = (piece.digest.clone(), piece.size);
                (piece, Descriptor { media_type, digest, size, data: None, ..descriptor.clone() })
            }
            StagedEntry { kept: Some(piece), .. } => {
                right_size(descriptor, piece.size)?;
                (piece, descriptor.clone())
            }
            _ => return Err(absent(descriptor, by)),
        };
        self.images.pieces.insert(piece.digest.clone(), piece);
        Ok(descriptor)
    }
}

/// The media type of a layer that was a plain tar.
fn compressed_type(descriptor: &Descriptor, compression: Compression) -> MediaType {
    let is_docker = descriptor.media_type == media_type::DOCKER_LAYER_TAR;
    match compression {
        Compression::Gzip if is_docker => MediaType::from_static(media_type::DOCKER_LAYER_TAR_GZIP),
        other => MediaType::from_static(other.media_type()),
    }
}

/// A descriptor of the same blob that is known to be called otherwise now.
fn renamed(descriptor: &Descriptor, known: &Descriptor) -> Descriptor {
    let is_same = known.digest == descriptor.digest;
    let Descriptor { media_type, digest, size, .. } = known.clone();
    let data = descriptor.data.clone().filter(|_| is_same);
    match is_same {
        true => descriptor.clone(),
        false => Descriptor { media_type, digest, size, data, ..descriptor.clone() },
    }
}

fn right_size(descriptor: &Descriptor, size: u64) -> Result<(), Error> {
    if descriptor.size == size {
        return Ok(());
    }
    let why = format!("size is {size} bytes, expected {}", descriptor.size);
    Err(Error::Lie { what: descriptor.digest.to_string(), why })
}
