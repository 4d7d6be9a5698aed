//! What an exported archive says of its images, and its formats: a layout folder, or a tar of one, which is a docker archive
//! with one file more.

mod parts;
mod target;

use std::{path::Path, str::FromStr};

use ocipfs_oci::{Descriptor, Digest, Index, Manifest, Reference, Tag, media_type};
use serde::Serialize;

use super::{
    archive::{IMAGE_NAME, LAYERS, REF_NAME, REPOSITORY, UNCHANGED, blob_path},
    pack::inspect::Compression,
};

pub use parts::PartsDest;
pub use target::{Dest, ExportOrder, ExportOrders, ExportTarget};

/// The file of every layout that says so.
pub const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Format of an exported archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An OCI image layout.
    Oci,
    /// A tar of one.
    OciArchive,
    /// A tar of one with `manifest.json`, which every `docker load` and `podman load` reads.
    DockerArchive,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "oci" => Ok(Self::Oci),
            "oci-archive" => Ok(Self::OciArchive),
            "docker-archive" => Ok(Self::DockerArchive),
            _ => Err(format!("unknown format {text:?}: expected `oci`, `oci-archive` or `docker-archive`")),
        }
    }
}

/// Suffixes of compressed tars, and of files that are not written.
const GZIP: [&str; 2] = [".tar.gz", ".tgz"];
const ZSTD: [&str; 3] = [".tar.zst", ".tar.zstd", ".tzst"];
const OTHER: [&str; 9] = [".xz", ".txz", ".bz2", ".tbz2", ".tbz", ".zip", ".7z", ".gz", ".zst"];

impl Format {
    /// Returns the format and the compression that are usual for a file name; `given` is the format if it is not left to that.
    pub fn of(dest: &Path, given: Option<Self>) -> Result<(Self, Compression), String> {
        let name = dest.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let strip = |suffixes: &[&str]| suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
        let (stem, compression) = match (strip(&GZIP), strip(&ZSTD), name.strip_suffix(".tar")) {
            (Some(stem), _, _) => (Some(stem), Compression::Gzip),
            (_, Some(stem), _) => (Some(stem), Compression::Zstd),
            (_, _, stem) => (stem, Compression::None),
        };
        let usual = match stem {
            Some(stem) if stem.ends_with(".oci") => Self::OciArchive,
            Some(_) => Self::DockerArchive,
            None if name == "-" => Self::DockerArchive,
            None if name.ends_with(".oci") => Self::OciArchive,
            None => Self::Oci,
        };
        match (given, strip(&OTHER)) {
            (Some(Self::Oci), _) => Ok((Self::Oci, Compression::None)),
            (_, Some(_)) if stem.is_none() => {
                Err(format!("cannot write {}: archives are .tar, .tar.gz or .tar.zst", dest.display()))
            }
            (given, _) => Ok((given.unwrap_or(usual), compression)),
        }
    }
}

/// Returns the entry of an image in `index.json`.
pub fn image_entry(top: &Descriptor, name: &str, reference: &Reference) -> Descriptor {
    let mut entry = top.clone();
    let image = match reference {
        Reference::Tag(tag) => {
            entry.annotations.insert(REF_NAME.into(), tag.to_string());
            format!("docker.io/{}:{tag}", full(name))
        }
        Reference::Digest(digest) => format!("docker.io/{}@{digest}", full(name)),
    };
    entry.annotations.insert(IMAGE_NAME.into(), image);
    entry
}

/// Returns the entry of a referrer. It has no image name, by which docker and containerd would take it for an image.
pub fn referrer_entry(top: &Descriptor, repository: &str, tag: Option<&Tag>) -> Descriptor {
    let mut entry = top.clone();
    entry.annotations.insert(REPOSITORY.into(), repository.into());
    entry.annotations.extend(tag.map(|tag| (REF_NAME.into(), tag.to_string())));
    entry
}

/// Docker's name of a repository without a user.
fn full(name: &str) -> String {
    if name.contains('/') { name.into() } else { format!("library/{name}") }
}

/// Returns `index.json`. Where the archive is a docker archive as well, it says that layers are to be imported as they are.
pub fn index(entries: Vec<Descriptor>, format: Format) -> Result<Vec<u8>, serde_json::Error> {
    let mut index = Index::new(entries);
    if format == Format::DockerArchive {
        index.annotations.insert(LAYERS.into(), UNCHANGED.into());
    }
    serde_json::to_vec(&index)
}

/// An image in `manifest.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DockerImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
    #[serde(skip)]
    digest: Digest,
}

impl DockerImage {
    /// Adds an image to those of `manifest.json`; one that is there gets a further name.
    pub fn add(all: &mut Vec<Self>, descriptor: &Descriptor, manifest: &Manifest, name: Option<String>) {
        if let Some(known) = all.iter_mut().find(|image| image.digest == descriptor.digest) {
            known.repo_tags.extend(name);
            return;
        }
        all.push(Self {
            config: blob_path(&manifest.config.digest),
            repo_tags: name.into_iter().collect(),
            layers: manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect(),
            digest: descriptor.digest.clone(),
        });
    }
}

/// Whether docker can load an image: it has a configuration of that kind.
pub fn is_loadable(manifest: &Manifest) -> bool {
    [media_type::OCI_CONFIG, media_type::DOCKER_CONFIG].contains(&manifest.config.media_type.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_export_format_is_chosen_by_file_extension() {
        use {Compression::*, Format::*};
        for (name, expected) in [
            ("foo", (Oci, None)),
            ("foo.tar", (DockerArchive, None)),
            ("-", (DockerArchive, None)),
            ("foo.tar.gz", (DockerArchive, Gzip)),
            ("Foo.TGZ", (DockerArchive, Gzip)),
            ("foo.tar.zst", (DockerArchive, Zstd)),
            ("foo.oci.tar", (OciArchive, None)),
            ("foo.oci.tar.zst", (OciArchive, Zstd)),
            ("foo.oci.tgz", (OciArchive, Gzip)),
            ("FOO.OCI", (OciArchive, None)),
            ("foo-1.0", (Oci, None)),
            ("", (Oci, None)),
        ] {
            assert_eq!(Format::of(Path::new(name), Option::None), Ok(expected), "{name}");
        }
        assert_eq!(Format::of(Path::new("foo.tar.gz"), Some(OciArchive)), Ok((OciArchive, Gzip)));
        assert_eq!(Format::of(Path::new("foo"), Some(DockerArchive)), Ok((DockerArchive, None)));
        assert_eq!(Format::of(Path::new("foo.tar.gz"), Some(Oci)), Ok((Oci, None)));
        for name in ["foo.tar.xz", "foo.zip", "foo.gz", "foo.tbz2"] {
            assert!(Format::of(Path::new(name), Option::None).unwrap_err().contains(".tar.zst"), "{name}");
        }
    }
}
