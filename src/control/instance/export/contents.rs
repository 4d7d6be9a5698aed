//! What an archive of several images consists of, before any blob is fetched.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
};

use bytes::Bytes;
use ocipfs_oci::{Descriptor, Digest, Manifest, Reference};

use crate::{
    control::{ExportedImage, Failure, instance::reference::ImageRef},
    images::{
        Referrer,
        archive::blob_path,
        export::{self, DockerImage, Format},
    },
    names::{ImageTree, NameKind},
};

/// Bytes of all manifests, which are in memory.
const MAX_DOCUMENT_BYTES: usize = 64 << 20;

/// Request to export images.
pub struct Export {
    pub references: Vec<String>,
    pub dest: PathBuf,
    pub format: Option<String>,
    pub referrers: bool,
}

/// The images of an archive, down to their blobs.
pub struct Contents {
    format: Format,
    /// Whether the caller asked for the format, so that an image that does not fit it is an error.
    is_given: bool,
    /// The repositories that the images are of.
    pub kinds: Vec<NameKind>,
    /// Entries of `index.json`: images, then referrers.
    entries: Vec<Descriptor>,
    referrers: Vec<Descriptor>,
    docker: Vec<DockerImage>,
    documents: BTreeMap<Digest, Bytes>,
    document_bytes: usize,
    /// All other blobs.
    pub blobs: BTreeMap<Digest, WantedBlob>,
    names: HashMap<String, Digest>,
    /// The images as they are reported.
    pub images: Vec<ExportedImage>,
    warnings: BTreeSet<String>,
}

/// A blob to be fetched.
pub struct WantedBlob {
    pub size: u64,
    /// Which of the repositories has it.
    pub kind: usize,
}

impl Contents {
    pub fn new(format: Format, is_given: bool) -> Self {
        let (kinds, entries, referrers, docker, documents, document_bytes) = Default::default();
        let (blobs, names, images, warnings) = Default::default();
        Self {
            format,
            is_given,
            kinds,
            entries,
            referrers,
            docker,
            documents,
            document_bytes,
            blobs,
            names,
            images,
            warnings,
        }
    }

    /// Adds an image and its referrers.
    pub fn add(
        &mut self,
        registry: &str,
        kind: NameKind,
        image_ref: &ImageRef,
        tree: ImageTree,
    ) -> Result<(), Failure> {
        let name = image_ref.repository().to_string();
        let called = match &image_ref.reference {
            Reference::Tag(tag) => Some(format!("{name}:{tag}")),
            Reference::Digest(_) => None,
        };
        if let Some(called) = &called {
            let before = self.names.insert(called.clone(), tree.top.digest.clone());
            if before.is_some_and(|before| before != tree.top.digest) {
                return Err(Failure::new(format!("two of the images would be {called} in the archive"))
                    .hint("export them to two archives, or give one of them by its digest"));
            }
        }
        if self.format == Format::DockerArchive {
            self.docker_image(&tree, called)?;
        }
        self.push(export::image_entry(&tree.top, &name, &image_ref.reference), false);
        for Referrer { top, tag, .. } in &tree.referrers {
            self.push(export::referrer_entry(top, &name, tag.as_ref()), true);
        }
        self.images.push(ExportedImage {
            reference: format!("{registry}/{}", image_ref.text()),
            digest: tree.top.digest.to_string(),
            size: tree.blobs.values().sum(),
            referrers: tree.referrers.len(),
        });
        self.files(kind, tree)
    }

    fn push(&mut self, entry: Descriptor, is_referrer: bool) {
        let entries = if is_referrer { &mut self.referrers } else { &mut self.entries };
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    }

    fn files(&mut self, kind: NameKind, tree: ImageTree) -> Result<(), Failure> {
        self.kinds.push(kind);
        let kind = self.kinds.len() - 1;
        for (digest, bytes) in tree.documents {
            self.document_bytes += if self.documents.contains_key(&digest) { 0 } else { bytes.len() };
            self.documents.insert(digest, bytes);
        }
        if self.document_bytes > MAX_DOCUMENT_BYTES {
            let most = MAX_DOCUMENT_BYTES >> 20;
            return Err(Failure::new(format!("the images have more than {most} MiB of manifests"))
                .hint("export them to several archives"));
        }
        for (digest, size) in tree.blobs {
            self.blobs.entry(digest).or_insert(WantedBlob { size, kind });
        }
        self.warnings.extend(tree.warnings);
        Ok(())
    }

    /// Lists an image in `manifest.json`, if docker can load it.
    fn docker_image(&mut self, tree: &ImageTree, called: Option<String>) -> Result<(), Failure> {
        let (descriptor, manifest) = match single(tree) {
            Ok(found) => found,
            Err(why) if self.is_given => {
                return Err(Failure::new(why).hint("use --format oci-archive, which holds every image"));
            }
            Err(why) => {
                self.warnings.insert(format!("docker cannot load {}: {why}", tree.top.digest));
                return Ok(());
            }
        };
        if let Some(layer) = manifest.layers.iter().find(|layer| tree.absent.contains(&layer.digest)) {
            let text = format!("docker cannot load {}: it needs {}", descriptor.digest, layer.digest);
            self.warnings.insert(format!("{text}, a layer that is not distributed with it"));
        }
        DockerImage::add(&mut self.docker, descriptor, manifest, called);
        Ok(())
    }

    /// What the caller should know.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        self.warnings.clone().into_iter()
    }

    /// All files that are not fetched blobs: what says what the rest is comes first.
    pub fn documents(&self) -> Result<Vec<(String, Bytes)>, Failure> {
        let entries = self.entries.iter().chain(&self.referrers).cloned().collect();
        let index = export::index(entries, self.format).map_err(Failure::new)?;
        let mut files = vec![("oci-layout".into(), Bytes::from_static(export::OCI_LAYOUT))];
        files.push(("index.json".to_string(), index.into()));
        if !self.docker.is_empty() {
            let manifest = serde_json::to_vec(&self.docker).map_err(Failure::new)?;
            files.push(("manifest.json".into(), manifest.into()));
        }
        let documents = self.documents.iter().filter(|(digest, _)| !self.blobs.contains_key(digest));
        files.extend(documents.map(|(digest, bytes)| (blob_path(digest), bytes.clone())));
        Ok(files)
    }
}

/// The image of this machine's platform, or the only one.
fn single(tree: &ImageTree) -> Result<(&Descriptor, &Manifest), String> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let images: Vec<_> =
        tree.manifests.iter().filter(|(_, manifest)| export::is_loadable(manifest)).collect();
    let known = |(descriptor, _): &&&(Descriptor, Manifest)| {
        descriptor.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
    };
    let ours = |(descriptor, _): &&(Descriptor, Manifest)| {
        descriptor.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == architecture)
    };
    let images: Vec<_> = images.iter().filter(known).copied().collect();
    let chosen = match images[..] {
        [] => return Err("it is not an image with a configuration and layers".into()),
        [only] => Some(only),
        _ => images.iter().copied().find(|image| ours(image)),
    };
    let (descriptor, manifest) = chosen.ok_or_else(|| {
        format!("it has no linux/{architecture}, and a docker archive holds a single platform of an image")
    })?;
    Ok((descriptor, manifest))
}
