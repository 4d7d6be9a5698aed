//! `image export`: writes the image of a reference to an archive, from its manifests down to its blobs.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    str::FromStr,
};

use bytes::Bytes;
use ocipfs_oci::{Descriptor, Digest, Manifest, Reference};

use super::{
    Instance, Notes,
    reference::{ImageRef, described},
};
use crate::{
    control::{
        Failure, ImageInfo, ImageReply, Note,
        attachment::Attachment,
        failure::{content_failure, names_failure, unwritable},
    },
    images::{
        archive::{ManifestOrIndex, blob_path},
        export::{self, ExportTarget, Format},
    },
    names::{BlobSource, NameKind},
};

/// Indexes within indexes, and manifests of one image.
const MAX_DOCUMENTS: usize = 10_000;

/// An image that is known down to its blobs.
pub(super) struct ExportedImage {
    top: Descriptor,
    pub documents: BTreeMap<Digest, Bytes>,
    manifests: Vec<(Descriptor, Manifest)>,
    pub blobs: BTreeMap<Digest, u64>,
}

impl Instance {
    pub(super) async fn image_export(
        &self,
        reference: &str,
        (dest, attachment): (PathBuf, Attachment),
        format: Option<String>,
        notes: Notes,
    ) -> Result<ImageReply, Failure> {
        let format = format.map(|text| Format::from_str(&text)).transpose().map_err(Failure::new)?;
        let format = format.unwrap_or_else(|| Format::of(&dest));
        let image_ref = self.image_ref(reference)?;
        let kind = NameKind::parse(&image_ref.name).map_err(names_failure)?;
        let image = self.image_below(&kind, &image_ref.reference, &notes).await?;
        let first = heads(&image, &image_ref, format)?;
        let failed = |e| unwritable(&dest, e);
        let Attachment::Export(destination) = attachment else {
            return Err(Failure::new("no destination is attached to the request"));
        };
        let mut target = (destination.create)().map_err(failed)?;
        if let Err(failure) = self.fill(&mut target, &dest, &kind, first, &image, &notes).await {
            target.abandon().await;
            return Err(failure);
        }
        target.finish().await.map_err(failed)?;
        let image = ImageInfo {
            reference: format!("{}/{}", self.0.registry, image_ref.text()),
            cid: String::new(),
            digest: image.top.digest.to_string(),
            size: image.blobs.values().sum(),
        };
        Ok(ImageReply::Exported { dest, image })
    }

    /// Writes the files that are known, then each blob as it comes.
    async fn fill(
        &self,
        target: &mut ExportTarget,
        dest: &Path,
        kind: &NameKind,
        first: Vec<(String, Bytes)>,
        image: &ExportedImage,
        notes: &Notes,
    ) -> Result<(), Failure> {
        let failed = |e| unwritable(dest, e);
        let total = Some(image.blobs.values().sum());
        let mut done = 0;
        for (path, bytes) in first {
            write(target, &path, bytes).await.map_err(failed)?;
        }
        for (digest, size) in &image.blobs {
            let blob = match kind.blob(self.resolver(), digest).await.map_err(names_failure)? {
                BlobSource::Inline(bytes) => {
                    write(target, &blob_path(digest), bytes).await.map_err(failed)?;
                    continue;
                }
                BlobSource::Blob(blob) => blob,
            };
            if blob.size != *size {
                let has = blob.size;
                return Err(Failure::new(format!(
                    "size mismatch of {digest}: expected {size} bytes, found {has}"
                )));
            }
            let mut reader = self.content().open(&blob, 0..blob.size).await.map_err(content_failure)?;
            target.file(&blob_path(digest), blob.size).await.map_err(failed)?;
            while let Some(bytes) = reader.next().await {
                let bytes = bytes.map_err(content_failure)?;
                done += bytes.len() as u64;
                let _ = notes.send(Note::Progress { done, total });
                target.write(bytes).await.map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Reads the manifests of an image, all that can be had.
    pub(super) async fn image_below(
        &self,
        kind: &NameKind,
        reference: &Reference,
        notes: &Notes,
    ) -> Result<ExportedImage, Failure> {
        let found = kind.manifest(self.resolver(), reference).await.map_err(names_failure)?.detached();
        let top = described(&found)?;
        let (documents, manifests, blobs) = Default::default();
        let mut image = ExportedImage { top: top.clone(), documents, manifests, blobs };
        let mut waiting = vec![(top, found.bytes)];
        while let Some((descriptor, bytes)) = waiting.pop() {
            if image.documents.len() >= MAX_DOCUMENTS {
                return Err(Failure::new(format!("the image has more than {MAX_DOCUMENTS} manifests")));
            }
            if image.documents.insert(descriptor.digest.clone(), bytes.clone()).is_some() {
                continue;
            }
            match ManifestOrIndex::parse(&descriptor, &bytes).map_err(Failure::new)? {
                ManifestOrIndex::Manifest(manifest) => {
                    let here = manifest.blobs().filter(|blob| !blob.media_type.as_str().contains("foreign"));
                    image.blobs.extend(here.map(|blob| (blob.digest.clone(), blob.size)));
                    image.manifests.push((descriptor, *manifest));
                }
                ManifestOrIndex::Index(index) => {
                    let mut missing = Vec::new();
                    let before = waiting.len();
                    for child in index.manifests.into_iter().filter(ManifestOrIndex::is) {
                        let reference = Reference::Digest(child.digest.clone());
                        match kind.manifest(self.resolver(), &reference).await {
                            Ok(found) => waiting.push((child, found.detached().bytes)),
                            Err(error) => missing.push((child.digest, error)),
                        }
                    }
                    for (digest, error) in missing {
                        if waiting.len() == before {
                            return Err(names_failure(error));
                        }
                        let text = format!("skipped {digest}: {error}");
                        let _ = notes.send(Note::Warning(text));
                    }
                }
            }
        }
        Ok(image)
    }
}

/// All files that are not fetched blobs: what says what the rest is comes first.
fn heads(
    image: &ExportedImage,
    image_ref: &ImageRef,
    format: Format,
) -> Result<Vec<(String, Bytes)>, Failure> {
    let (name, tag) = (repository(&image_ref.name), tag(&image_ref.reference));
    let index = export::index(&image.top, name, tag).map_err(Failure::new)?;
    let mut files = vec![("oci-layout".into(), Bytes::from_static(export::OCI_LAYOUT))];
    files.push(("index.json".to_string(), index.into()));
    if format == Format::DockerArchive {
        let called = tag.map(|tag| format!("{name}:{tag}"));
        let manifest = export::docker_manifest(single(image)?, called).map_err(Failure::new)?;
        files.push(("manifest.json".into(), manifest.into()));
    }
    let blobs: BTreeSet<&Digest> = image.blobs.keys().collect();
    let documents = image.documents.iter().filter(|(digest, _)| !blobs.contains(digest));
    files.extend(documents.map(|(digest, bytes)| (blob_path(digest), bytes.clone())));
    Ok(files)
}

/// The image of this machine's platform, or the only one.
fn single(image: &ExportedImage) -> Result<&Manifest, Failure> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let known = |(descriptor, _): &&(Descriptor, Manifest)| {
        descriptor.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
    };
    let ours = |(descriptor, _): &&(Descriptor, Manifest)| {
        descriptor.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == architecture)
    };
    let images: Vec<_> = image.manifests.iter().filter(known).collect();
    let chosen = match images[..] {
        [only] => Some(only),
        _ => images.iter().copied().find(|image| ours(image)),
    };
    chosen.map(|(_, manifest)| manifest).ok_or_else(|| {
        Failure::new(format!(
            "the image has no linux/{architecture}, and a docker archive holds a single platform"
        ))
        .hint("use --format oci-archive, which holds all platforms")
    })
}

/// Returns the repository name of an image in an archive: the name without the components that only IPFS
/// needs.
fn repository(name: &str) -> &str {
    let rest = match name.split_once('/') {
        Some(("ipfs" | "ipns", rest)) => rest.split_once('/').map(|(_, rest)| rest),
        Some((hash, rest)) if hash.starts_with("ciq") || hash.starts_with("1220") => Some(rest),
        _ => None,
    };
    rest.unwrap_or(name)
}

fn tag(reference: &Reference) -> Option<&str> {
    match reference {
        Reference::Tag(tag) => Some(tag.as_str()),
        Reference::Digest(_) => None,
    }
}

async fn write(target: &mut ExportTarget, path: &str, bytes: Bytes) -> io::Result<()> {
    target.file(path, bytes.len() as u64).await?;
    target.write(bytes).await
}
