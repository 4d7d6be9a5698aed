//! An image down to its layers: one entry for each platform of an index, or one for a single manifest.

use std::time::Duration;

use futures::{StreamExt, stream};
use ocipfs_oci::{Descriptor, Digest, Index, Manifest, MediaType, Platform, Reference, manifest};
use serde::{Deserialize, Serialize};

use crate::{
    names::{Asked, BlobSource, Document, Error, NameKind, Resolver},
    signatures::Withheld,
};

/// Entries of an index that are read of one image, and of each of a list.
pub const MAX_PARTS: usize = 64;
pub const MAX_LISTED_PARTS: usize = 12;
/// Manifests that are read at a time.
const CONCURRENT: usize = 8;
/// Layers of a manifest that are listed.
const MAX_LAYERS: usize = 256;
/// A configuration is larger only by mistake.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// How long a part may take that has to be fetched.
const PART_TIMEOUT: Duration = Duration::from_secs(5);
/// The kind of an entry of an index that is about another one, as BuildKit writes it.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// An image, or an artifact.
#[derive(Clone, Debug, Serialize)]
pub struct ImageInfo {
    pub digest: Digest,
    media_type: MediaType,
    artifact_type: Option<MediaType>,
    /// Bytes of all parts that were read, where a layer of several parts counts once for each.
    bytes: u64,
    parts: Vec<ImagePart>,
    /// Entries of the index that are not among `parts`.
    omitted: usize,
}

/// A manifest.
#[derive(Clone, Debug, Serialize)]
pub struct ImagePart {
    digest: Digest,
    /// `os/architecture`; none where it is not stated.
    platform: Option<String>,
    /// What it is if it is not an image, such as an attestation.
    about: Option<String>,
    created: Option<String>,
    bytes: u64,
    layers: Vec<Layer>,
    /// Why it could not be read.
    missing: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Layer {
    digest: Digest,
    media_type: MediaType,
    bytes: u64,
    /// Its first address, such as `ipfs://<cid>`.
    url: Option<String>,
}

/// What is read of a configuration.
#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    created: Option<String>,
}

/// Reads images of one repository.
#[derive(Clone, Copy)]
pub struct Images<'a> {
    pub resolver: &'a Resolver,
    pub kind: &'a NameKind,
    /// Entries of an index that are read.
    pub most_parts: usize,
    /// Whether images are read that are not signed as the signature policies say.
    pub sees_unsigned: bool,
}

/// Why an image is not shown.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    /// It could not be read.
    #[error(transparent)]
    Names(#[from] Error),
    /// The registry serves it only to those who may sign it.
    #[error("not signed: {0}")]
    Unsigned(Withheld),
}

impl ImageInfo {
    /// The same without what a list does not show.
    pub fn brief(mut self) -> Self {
        self.parts.iter_mut().for_each(|part| part.layers.clear());
        self
    }
}

impl Images<'_> {
    /// Returns an image. No document is held while another one is read: all of them share one budget of memory.
    pub async fn read(self, reference: &Reference) -> Result<ImageInfo, Unread> {
        let document = self.kind.manifest(self.resolver, reference).await?;
        self.check(&document).await?;
        let turn = self.resolver.content().turn_to_parse(document.bytes.len()).await;
        let Document { digest, media_type, bytes } = document;
        let own = bytes.len() as u64;
        let (artifact_type, parts, omitted) = if media_type.is_index() {
            let index = Index::parse(&bytes).unwrap_or_else(|_| Index::new(Vec::new()));
            let Index { artifact_type, mut manifests, .. } = index;
            let omitted = manifests.len().saturating_sub(self.most_parts);
            manifests.truncate(self.most_parts);
            manifests.shrink_to_fit();
            drop((bytes, turn));
            let entries = manifests.into_iter().map(|entry| self.entry(entry));
            let parts = stream::iter(entries).buffered(CONCURRENT);
            (artifact_type, parts.collect().await, omitted)
        } else {
            let manifest = Manifest::parse(&bytes);
            drop((bytes, turn));
            let (kind, part) = self.single(digest.clone(), manifest).await;
            (kind, vec![part], 0)
        };
        let bytes = own + parts.iter().map(|part| part.bytes).sum::<u64>();
        Ok(ImageInfo { digest, media_type, artifact_type, bytes, parts, omitted })
    }

    /// Refuses what the registry would not serve to the visitor. What a signed index names passes with it.
    async fn check(self, document: &Document) -> Result<(), Unread> {
        if self.sees_unsigned {
            return Ok(());
        }
        let verdict = self.kind.verdict(self.resolver, Asked::Manifest(document)).await?;
        verdict.withheld().map_or(Ok(()), |why| Err(Unread::Unsigned(why)))
    }

    async fn entry(self, entry: Descriptor) -> ImagePart {
        let about = entry.annotation(REFERENCE_TYPE).map(|kind| match kind {
            "attestation-manifest" => "attestation".to_owned(),
            other => other.to_owned(),
        });
        let part = ImagePart {
            platform: entry.platform.as_ref().filter(|platform| is_known(platform)).map(ToString::to_string),
            about: about.or_else(|| entry.artifact_type.as_ref().map(ToString::to_string)),
            ..ImagePart::new(entry.digest.clone(), entry.size)
        };
        let reference = Reference::Digest(entry.digest);
        match tokio::time::timeout(PART_TIMEOUT, self.kind.manifest(self.resolver, &reference)).await {
            Ok(Ok(document)) => {
                let _turn = self.resolver.content().turn_to_parse(document.bytes.len()).await;
                match Manifest::parse(&document.bytes) {
                    Ok(manifest) => part.with(manifest),
                    Err(_) if document.media_type.is_index() => part.without("it is an index of its own"),
                    Err(error) => part.without(error),
                }
            }
            Ok(Err(error)) => part.without(error),
            Err(_) => part.without("it was not found in time"),
        }
    }

    /// The part of a document that stands alone, which its configuration describes.
    async fn single(
        self,
        digest: Digest,
        manifest: Result<Manifest, manifest::Error>,
    ) -> (Option<MediaType>, ImagePart) {
        let part = ImagePart::new(digest, 0);
        let manifest = match manifest {
            Ok(manifest) => manifest,
            Err(error) => return (None, part.without(error)),
        };
        let artifact_type = manifest.artifact_type.clone();
        let config = manifest.config.clone();
        let part = part.with(manifest);
        let config = tokio::time::timeout(PART_TIMEOUT, self.config(&config)).await.ok().flatten();
        let Config { os, architecture, variant, created } = config.unwrap_or_default();
        let platform = os
            .zip(architecture)
            .map(|(os, architecture)| Platform { variant, ..Platform::new(os, architecture) });
        let platform = platform.filter(is_known).map(|platform| platform.to_string());
        (artifact_type, ImagePart { platform, created, ..part })
    }

    async fn config(self, config: &Descriptor) -> Option<Config> {
        if config.size > MAX_CONFIG_BYTES || !config.media_type.as_str().ends_with("json") {
            return None;
        }
        let bytes = match self.kind.locate_blob(self.resolver, &config.digest).await.ok()? {
            BlobSource::Inline(bytes) => bytes,
            BlobSource::Blob(blob) => {
                self.resolver.content().read_blob(&blob, MAX_CONFIG_BYTES).await.ok()?
            }
        };
        serde_json::from_slice(&bytes).ok()
    }
}

impl ImagePart {
    fn new(digest: Digest, bytes: u64) -> Self {
        let (platform, about, created, missing) = Default::default();
        Self { digest, platform, about, created, bytes, layers: Vec::new(), missing }
    }

    fn with(self, manifest: Manifest) -> Self {
        let blobs: u64 = manifest.blobs().fold(0, |sum, blob| sum.saturating_add(blob.size));
        let layer = |layer: Descriptor| Layer {
            digest: layer.digest,
            media_type: layer.media_type,
            bytes: layer.size,
            url: layer.urls.into_iter().next().filter(|url| url.len() <= 200),
        };
        let layers = manifest.layers.into_iter().take(MAX_LAYERS).map(layer).collect();
        Self { bytes: self.bytes.saturating_add(blobs), layers, ..self }
    }

    fn without(self, why: impl ToString) -> Self {
        Self { missing: Some(why.to_string()), ..self }
    }
}

/// BuildKit writes `unknown/unknown` for what runs nowhere.
fn is_known(platform: &Platform) -> bool {
    platform.is_complete() && platform.os != "unknown"
}
