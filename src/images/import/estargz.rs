//! `--estargz`: layers become eStargz layers, and the configurations, manifests and indexes above them follow.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Seek, SeekFrom},
};

use ocipfs_oci::{Descriptor, Digest, Index, Manifest, MediaType, media_type};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Error;
use crate::{
    content::{Profile, Store},
    images::{
        archive::{
            self, Decompressed, EncodedBlob, Images, ManifestOrIndex, StagedBlob, attested, decompressed,
        },
        export::is_loadable,
        pack::{
            estargz::{self, Repeated, TOC_DIGEST, UNCOMPRESSED_SIZE},
            inspect::Compression,
        },
    },
};

/// Converts the layers of all images. What cannot be converted stays as it is, with a warning.
pub fn convert(store: &Store, profile: Profile, images: &mut Images) -> Result<(), Error> {
    let kept = kept(images);
    let pictures = std::mem::take(&mut images.pictures);
    // Where there is nothing else, a referrer is what is pulled.
    let is_all_about = pictures.iter().all(|picture| picture.subject.is_some());
    let (mut tops, about): (Vec<_>, Vec<_>) =
        pictures.into_iter().partition(|picture| is_all_about || picture.subject.is_none());
    if !about.is_empty() {
        images.warnings.push(format!(
            "{} signatures and other referrers are left out: they are about the images before the conversion",
            about.len()
        ));
    }
    let (known, layers) = (BTreeMap::new(), BTreeMap::new());
    let mut conversion = Conversion { store, profile, images, kept, known, layers };
    for picture in &mut tops {
        picture.top = conversion.node(&picture.top)?;
    }
    images.pictures = tops;
    Ok(())
}

/// The blobs of manifests that are not converted.
fn kept(images: &Images) -> BTreeSet<Digest> {
    let manifests = images.documents.values().filter_map(|bytes| Manifest::parse(bytes).ok());
    let others = manifests.filter(|manifest| !is_loadable(manifest));
    others.flat_map(|manifest| manifest.layers).map(|layer| layer.digest).collect()
}

struct Conversion<'a> {
    store: &'a Store,
    profile: Profile,
    images: &'a mut Images,
    /// Blobs that other manifests need as they are.
    kept: BTreeSet<Digest>,
    /// What manifests and indexes became.
    known: BTreeMap<Digest, Descriptor>,
    /// What layers became; none where they stay.
    layers: BTreeMap<Digest, Option<Converted>>,
}

/// A layer that was converted.
#[derive(Clone)]
struct Converted {
    digest: Digest,
    size: u64,
    written: estargz::Written,
}

/// The `rootfs` of a configuration.
#[derive(Deserialize, Serialize)]
struct Rootfs {
    #[serde(rename = "type")]
    kind: String,
    diff_ids: Vec<String>,
}

/// A configuration, of which nothing else is looked at.
type Config = BTreeMap<String, Box<RawValue>>;

impl Conversion<'_> {
    fn node(&mut self, descriptor: &Descriptor) -> Result<Descriptor, Error> {
        if let Some(Descriptor { media_type, digest, size, .. }) = self.known.get(&descriptor.digest).cloned()
        {
            return Ok(Descriptor { media_type, digest, size, data: None, ..descriptor.clone() });
        }
        let made = match self.images.node(descriptor)? {
            Some(ManifestOrIndex::Index(index)) => self.index(*index, descriptor)?,
            Some(ManifestOrIndex::Manifest(manifest)) if is_loadable(&manifest) => {
                self.manifest(*manifest, descriptor)?
            }
            _ => None,
        };
        let made = made.unwrap_or_else(|| descriptor.clone());
        self.known.insert(descriptor.digest.clone(), made.clone());
        Ok(made)
    }

    fn index(&mut self, mut index: Index, as_in: &Descriptor) -> Result<Option<Descriptor>, Error> {
        let before = index.manifests.clone();
        for child in &mut index.manifests {
            *child = self.node(child)?;
        }
        if index.manifests == before {
            return Ok(None);
        }
        let is_child = |digest: &Digest| before.iter().any(|child| child.digest == *digest);
        attested::rename(&mut index.manifests, |digest| {
            self.known.get(digest).filter(|_| is_child(digest)).map(|made| made.digest.clone())
        });
        index.media_type = index.media_type.map(|media_type| media_type.to_oci());
        self.add(&index, as_in).map(Some)
    }

    fn manifest(&mut self, mut manifest: Manifest, as_in: &Descriptor) -> Result<Option<Descriptor>, Error> {
        if !manifest.layers.iter().any(|layer| layer.media_type.is_layer()) {
            return Ok(None);
        }
        let (mut config, mut rootfs) = match self.config(&manifest) {
            Ok(found) => found,
            Err(why) => {
                let text = format!("{} stays as it is: its configuration {why}", as_in.digest);
                self.images.warnings.push(text);
                return Ok(None);
            }
        };
        let mut is_changed = false;
        for (layer, diff_id) in manifest.layers.iter_mut().zip(&mut rootfs.diff_ids) {
            if let Some(converted) = self.layer(layer)? {
                *diff_id = converted.written.diff_id.to_string();
                *layer = converted.descriptor(layer);
                is_changed = true;
            }
        }
        if !is_changed {
            return Ok(None);
        }
        let json = serde_json::value::to_raw_value(&rootfs).map_err(invalid)?;
        config.insert("rootfs".into(), json);
        without_former_image(&mut config)?;
        manifest.config = self.add(&config, &manifest.config)?;
        manifest.media_type = manifest.media_type.map(|media_type| media_type.to_oci());
        for layer in &mut manifest.layers {
            layer.media_type = layer.media_type.to_oci();
        }
        self.add(&manifest, as_in).map(Some)
    }

    /// The configuration of an image whose layers are named in it.
    fn config(&self, manifest: &Manifest) -> Result<(Config, Rootfs), String> {
        let bytes =
            self.images.documents.get(&manifest.config.digest).ok_or("is not JSON of at most 4 MiB")?;
        let config: Config = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let rootfs = config.get("rootfs").ok_or("has no rootfs")?;
        let rootfs: Rootfs = serde_json::from_str(rootfs.get()).map_err(|error| error.to_string())?;
        let (named, there) = (rootfs.diff_ids.len(), manifest.layers.len());
        match named == there {
            true => Ok((config, rootfs)),
            false => Err(format!("names {named} layers, and the manifest {there}")),
        }
    }

    /// Adds a document in the place of another one.
    fn add(&mut self, document: &impl Serialize, as_in: &Descriptor) -> Result<Descriptor, Error> {
        let made = self.images.add(serde_json::to_vec(document).map_err(invalid)?, as_in);
        Ok(Descriptor { media_type: made.media_type.to_oci(), ..made })
    }

    /// What a layer becomes; none where it stays.
    fn layer(&mut self, layer: &Descriptor) -> Result<Option<Converted>, Error> {
        if let Some(known) = self.layers.get(&layer.digest) {
            return Ok(known.clone());
        }
        let converted = match self.convert(layer)? {
            Outcome::Layer(converted) => Some(converted),
            Outcome::Stays => None,
            Outcome::Unsupported(why) => {
                self.images.warnings.push(format!("layer {} stays as it is: {why}", layer.digest));
                None
            }
        };
        self.layers.insert(layer.digest.clone(), converted.clone());
        Ok(converted)
    }

    fn convert(&mut self, layer: &Descriptor) -> Result<Outcome, Error> {
        let Some(piece) = self.images.pieces.get(&layer.digest) else { return Ok(Outcome::Stays) };
        if !layer.media_type.is_layer() || is_estargz(self.store, layer, piece)? {
            return Ok(Outcome::Stays);
        }
        if !is_convertible(&layer.media_type) {
            return Ok(Outcome::Unsupported(format!("its media type is {}", layer.media_type)));
        }
        let repeated = match self.encode(layer, piece, None)? {
            Err(estargz::Error::Repeated(_)) => read_tar(self.store, layer, piece, estargz::repeated)?,
            encoded => return self.replace(layer, encoded),
        };
        let encoded = match repeated {
            Ok(repeated) => self.encode(layer, piece, Some(&repeated))?,
            Err(error) => Err(error),
        };
        self.replace(layer, encoded)
    }

    fn encode(
        &self,
        layer: &Descriptor,
        piece: &StagedBlob,
        repeated: Option<&Repeated>,
    ) -> Result<Result<(estargz::Written, StagedBlob), estargz::Error>, Error> {
        let out = EncodedBlob::new(self.store, self.profile)?;
        let written = read_tar(self.store, layer, piece, |tar| estargz::write(tar, repeated, out))?;
        Ok(match written {
            Ok((written, out)) => Ok((written, out.finish(Compression::Gzip)?)),
            Err(error) => Err(error),
        })
    }

    /// Puts the converted layer in the place of the layer.
    fn replace(
        &mut self,
        layer: &Descriptor,
        encoded: Result<(estargz::Written, StagedBlob), estargz::Error>,
    ) -> Result<Outcome, Error> {
        let (written, piece) = match encoded {
            Ok(encoded) => encoded,
            Err(error) => return Ok(Outcome::Unsupported(error.to_string())),
        };
        if !self.kept.contains(&layer.digest) {
            self.images.pieces.remove(&layer.digest);
        }
        let converted = Converted { digest: piece.digest.clone(), size: piece.size, written };
        self.images.pieces.insert(piece.digest.clone(), piece);
        Ok(Outcome::Layer(converted))
    }
}

/// What came of a layer.
enum Outcome {
    Layer(Converted),
    Stays,
    /// Why it stays.
    Unsupported(String),
}

impl Converted {
    /// What names it in the place of `layer`.
    fn descriptor(&self, layer: &Descriptor) -> Descriptor {
        let Self { digest, size, written } = self.clone();
        let mut annotations = layer.annotations.clone();
        annotations.insert(TOC_DIGEST.into(), written.toc_digest.to_string());
        annotations.insert(UNCOMPRESSED_SIZE.into(), written.uncompressed_size.to_string());
        let media_type = MediaType::from_static(media_type::OCI_LAYER_TAR_GZIP);
        Descriptor { annotations, ..Descriptor::new(media_type, digest, size) }
    }
}

fn invalid(error: serde_json::Error) -> Error {
    Error::Names(error.to_string())
}

fn is_convertible(media_type: &MediaType) -> bool {
    matches!(
        media_type.as_str(),
        media_type::OCI_LAYER_TAR
            | media_type::OCI_LAYER_TAR_GZIP
            | media_type::OCI_LAYER_TAR_ZSTD
            | media_type::DOCKER_LAYER_TAR
            | media_type::DOCKER_LAYER_TAR_GZIP
    )
}

/// Whether a layer is what its annotation says.
fn is_estargz(store: &Store, layer: &Descriptor, piece: &StagedBlob) -> Result<bool, Error> {
    /// More than the footer.
    const END_BYTES: i64 = 64;
    if layer.annotation(TOC_DIGEST).is_none() || piece.size < END_BYTES as u64 {
        return Ok(false);
    }
    let failed = |error| archive::Error::of_io(&layer.digest.to_string(), error);
    let (mut bytes, mut end) = (piece.open(store)?, Vec::new());
    bytes.seek(SeekFrom::End(-END_BYTES)).map_err(failed)?;
    bytes.read_to_end(&mut end).map_err(failed)?;
    Ok(estargz::has_footer(&end))
}

/// Reads the tar of a layer. What is wrong with its compression is the cause, whatever `read` makes of it.
fn read_tar<T>(
    store: &Store,
    layer: &Descriptor,
    piece: &StagedBlob,
    read: impl FnOnce(Box<dyn Read>) -> Result<T, estargz::Error>,
) -> Result<Result<T, estargz::Error>, Error> {
    let what = layer.digest.to_string();
    let failed = |error| archive::Error::of_io(&what, error);
    let Decompressed { input, compression, damage } = decompressed(piece.open(store)?).map_err(failed)?;
    let read = read(input);
    match (compression, damage.take(), read) {
        (_, Some(error), _) if error.raw_os_error().is_some() => {
            Err(archive::Error::of_io(&what, error).into())
        }
        (Some(compression), Some(error), _) => {
            let why = format!("it cannot be decompressed as {compression}: {error}");
            Ok(Err(estargz::Error::Unsupported(why)))
        }
        (_, _, Err(estargz::Error::Io(error))) => Err(archive::Error::of_io(&what, error).into()),
        (_, _, read) => Ok(read),
    }
}

/// Removes the ID of the image that a container was made of when the image was built: it names other layers.
fn without_former_image(config: &mut Config) -> Result<(), Error> {
    for key in ["config", "container_config"] {
        let Some(json) = config.get(key) else { continue };
        let Ok(mut fields) = serde_json::from_str::<Config>(json.get()) else { continue };
        if fields.remove("Image").is_some() {
            config.insert(key.into(), serde_json::value::to_raw_value(&fields).map_err(invalid)?);
        }
    }
    Ok(())
}
