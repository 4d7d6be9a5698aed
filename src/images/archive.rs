//! Archives of images as docker, podman, skopeo and others write them, read from one end to the other.
//!
//! ```text
//! Input (a file, a stream) ─► Parts: each entry is put as it comes ─► oci or docker: what the images are ─► Images
//! a layout folder ──────────► Parts: each blob is put when it is named ─┘
//! ```
//!
//! Nothing is visible in the store before [`Images`] is committed by who imports; dropped, it leaves nothing.

pub mod attested;
mod cosign;
mod counted;
mod docker;
mod folder;
mod input;
mod known;
mod listing;
mod name;
mod oci;
mod parts;
mod path;
mod source;
mod stage;
mod unlisted;
mod xz;

#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
};

use bytes::Bytes;
use ocipfs_oci::{Descriptor, Digest, Index, Manifest};

use crate::{
    content::{Profile, Store, StoreError},
    images::{document::kind_of, pack::inspect},
};

pub use cosign::{stem_of, tag_stem};
pub use folder::{ArchiveFolder, FolderFile};
pub use input::{Decompressed, decompressed};
pub use listing::{EarlyManifest, LAYERS, UNCHANGED};
pub use name::{ArchivedName, IMAGE_NAME, REF_NAME, REPOSITORY, split, without_registry};
pub use path::{blob_path, clean};
pub use source::{ArchiveSource, ArchiveStream};
pub use stage::{Compress, EncodedBlob, StagedBlob, put_as};

use parts::ArchiveParts;

/// The largest manifest, index in an index, or configuration.
pub const MAX_MANIFEST: u64 = 4 << 20;
/// The largest `index.json`.
pub const MAX_INDEX: u64 = 16 << 20;
/// Indexes within indexes.
const MAX_DEPTH: usize = 8;

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot read {what}: {why}")]
    Read {
        /// The file.
        what: String,
        /// Error of the operating system.
        why: String,
    },
    /// It holds no images.
    #[error("not a docker archive or OCI image layout: {0}")]
    Unknown(&'static str),
    /// It stops before its end.
    #[error("the archive is truncated: {0} ends early")]
    Truncated(String),
    /// A compressed archive whose stream is damaged, or needs more memory than it may have.
    #[error("cannot decompress {what} as {compression}: {why}")]
    Compressed {
        /// The file.
        what: String,
        /// What its first bytes say it is compressed by.
        compression: &'static str,
        /// Message of the decoder.
        why: String,
    },
    /// A directory that `skopeo copy ... dir:` wrote.
    #[error("manifest.json is an image manifest: this is a `dir:` directory of skopeo, not an image layout")]
    SkopeoDir,
    /// An entry would be outside of the tree.
    #[error("invalid path {0:?}: it leads out of the archive")]
    Outside(String),
    /// A file of a folder that is a link out of it, and that no digest verifies.
    #[error("invalid path {0:?}: it is a symbolic link that leads out of the archive")]
    OutsideLink(String),
    /// Something that is named is not there.
    #[error("the archive has no {what}, which {by} references")]
    Missing {
        /// Missing entry.
        what: String,
        /// Where it is named.
        by: String,
    },
    /// Bytes that are not what their name says.
    #[error("{what} does not match its name: {why}")]
    Lie {
        /// The entry.
        what: String,
        /// Description of the difference.
        why: String,
    },
    /// A document that cannot be understood.
    #[error("{what}: {why}")]
    Document {
        /// The entry.
        what: String,
        /// Message of the parser.
        why: String,
    },
    /// More bytes than a document may have, or more documents than the memory may hold.
    #[error("{what} is too large: the limit is {limit} bytes")]
    TooLarge {
        /// The entry.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// An index that holds itself, or too many within each other.
    #[error("index {0} contains itself, or is nested more than {MAX_DEPTH} deep")]
    Cycle(Digest),
    /// A text that is not a valid image name.
    #[error("invalid image name {text:?}: {why}")]
    Name {
        /// The text.
        text: String,
        /// Reason why it is invalid.
        why: String,
    },
    /// A layer that cannot be unpacked.
    #[error("{what}: {why}")]
    Layer {
        /// The entry.
        what: String,
        /// Error of the layer inspector.
        why: inspect::Error,
    },
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    /// Tells an error of the store from one of reading.
    pub fn of_io(what: &str, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated(what.into()),
            _ => match error.downcast::<StoreError>() {
                Ok(store) => Self::Store(store),
                Err(error) => Self::Read { what: what.into(), why: error.to_string() },
            },
        }
    }

    fn document(what: impl ToString, why: impl ToString) -> Self {
        Self::Document { what: what.to_string(), why: why.to_string() }
    }
}

/// How what comes is put.
pub struct Options {
    /// Where it is put.
    pub store: Store,
    /// The shape of the DAGs.
    pub profile: Profile,
    /// Compression for uncompressed layers; by default, only those of docker archives are compressed, with
    /// gzip.
    pub compress: Option<Compress>,
    /// Told the bytes read so far.
    pub progress: Box<dyn FnMut(u64) + Send>,
}

/// An image of an archive, or what refers to one.
#[derive(Clone, Debug)]
pub struct ArchivedImage {
    /// What the archive calls it.
    pub name: ArchivedName,
    /// Its manifest or index.
    pub top: Descriptor,
    /// The manifest that a signature, an SBOM or another referrer is about; such an entry is not an image.
    pub subject: Option<Digest>,
}

/// The images of an archive, written and not yet stored.
#[derive(Default)]
pub struct Images {
    /// In the order of the archive.
    pub pictures: Vec<ArchivedImage>,
    /// Manifests, indexes and configurations.
    pub documents: BTreeMap<Digest, Bytes>,
    /// Every other blob.
    pub pieces: BTreeMap<Digest, StagedBlob>,
    /// For people.
    pub warnings: Vec<String>,
    /// Blobs that were taken out of `pieces`.
    taken: BTreeSet<Digest>,
}

/// Reads all images of `source`. It blocks.
pub fn read(source: ArchiveSource, options: Options) -> Result<Images, Error> {
    let mut parts = ArchiveParts::read(source, options)?;
    let (index, manifest) = (parts.document("index.json")?, parts.document("manifest.json")?);
    match (index, manifest) {
        // Docker lists images in either that the other does not have.
        (Some(index), manifest) => {
            let (mut images, known) = oci::read(&mut parts, &index)?;
            if let Some(manifest) = manifest {
                docker::read(&mut parts, &manifest, &mut images, &known)?;
            }
            match images.pictures.is_empty() {
                true => Err(Error::Unknown("its index.json lists no image")),
                false => Ok(images),
            }
        }
        (None, Some(manifest)) => {
            let mut images = Images::default();
            docker::read(&mut parts, &manifest, &mut images, &HashMap::new())?;
            match images.pictures.is_empty() {
                true => Err(Error::Unknown("its manifest.json lists no image")),
                false => Ok(images),
            }
        }
        (None, None) => Err(Error::Unknown("it has neither index.json nor manifest.json")),
    }
}

/// A manifest or an index, as its media type says, or where that says nothing, as it looks.
pub enum ManifestOrIndex {
    /// One image, or an artifact.
    Manifest(Box<Manifest>),
    /// A list of them.
    Index(Box<Index>),
}

impl ManifestOrIndex {
    /// Reads what `descriptor` names.
    pub fn parse(descriptor: &Descriptor, bytes: &[u8]) -> Result<Self, Error> {
        let failed = |why: ocipfs_oci::manifest::Error| Error::document(&descriptor.digest, why);
        match descriptor.media_type.is_index() {
            true => Ok(Self::Index(Box::new(Index::parse(bytes).map_err(failed)?))),
            false => Ok(Self::Manifest(Box::new(Manifest::parse(bytes).map_err(failed)?))),
        }
    }

    /// Reads what `descriptor` names; none where that is another blob. Where its media type is not stated, the bytes tell.
    pub fn of(descriptor: &Descriptor, bytes: &[u8]) -> Result<Option<Self>, Error> {
        if Self::is(descriptor) {
            return Self::parse(descriptor, bytes).map(Some);
        }
        let kind = Some(bytes).filter(|_| descriptor.media_type.as_str().is_empty()).and_then(kind_of);
        let stated = kind.map(|media_type| Descriptor { media_type, ..descriptor.clone() });
        stated.map(|stated| Self::parse(&stated, bytes)).transpose()
    }

    /// The manifest that it refers to.
    pub fn subject(&self) -> Option<&Digest> {
        let subject = match self {
            Self::Manifest(manifest) => &manifest.subject,
            Self::Index(index) => &index.subject,
        };
        subject.as_ref().map(|subject| &subject.digest)
    }

    /// Whether `descriptor` names one.
    pub fn is(descriptor: &Descriptor) -> bool {
        descriptor.media_type.is_index() || descriptor.media_type.is_manifest()
    }
}

impl Images {
    /// Manifests and indexes whose blobs are elsewhere.
    pub fn of(documents: BTreeMap<Digest, Bytes>) -> Self {
        Self { documents, ..Self::default() }
    }

    /// The document of this digest.
    pub fn node(&self, descriptor: &Descriptor) -> Result<Option<ManifestOrIndex>, Error> {
        match self.documents.get(&descriptor.digest) {
            Some(bytes) => ManifestOrIndex::of(descriptor, bytes),
            None => Ok(None),
        }
    }

    /// Takes out a blob; it still counts as here.
    pub fn remove_blob(&mut self, digest: &Digest) -> Option<StagedBlob> {
        let piece = self.pieces.remove(digest)?;
        self.taken.insert(digest.clone());
        Some(piece)
    }

    fn has(&self, digest: &Digest) -> bool {
        self.documents.contains_key(digest) || self.pieces.contains_key(digest) || self.taken.contains(digest)
    }

    /// The digests of all that is here below `top`, and its own.
    pub fn below(&self, top: &Descriptor) -> Result<BTreeSet<Digest>, Error> {
        let mut found = BTreeSet::new();
        let mut waiting = vec![top.clone()];
        while let Some(next) = waiting.pop() {
            if !self.has(&next.digest) || !found.insert(next.digest.clone()) {
                continue;
            }
            match self.node(&next)? {
                Some(ManifestOrIndex::Index(index)) => waiting.extend(index.manifests),
                Some(ManifestOrIndex::Manifest(manifest)) => waiting.extend(manifest.blobs().cloned()),
                None => {}
            }
        }
        Ok(found)
    }

    /// Adds a document that was made here, and gives what names it.
    pub fn add(&mut self, bytes: Vec<u8>, as_in: &Descriptor) -> Descriptor {
        let digest = Digest::sha256_of(&bytes);
        let size = bytes.len() as u64;
        self.documents.insert(digest.clone(), bytes.into());
        Descriptor { digest, size, data: None, ..as_in.clone() }
    }
}
