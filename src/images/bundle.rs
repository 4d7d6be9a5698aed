//! Bundles: images with their tags, signatures and other referrers in one file, or in parts, for another network. The format is
//! in `docs/bundle.md`.
//!
//! ```text
//! manifest     what is in a bundle; want_list: what is missing of one
//! writer       a bundle, in one file or in parts
//! reader       the header and the manifest of a bundle, then its blocks
//! documents    manifests that were made or fetched become blobs
//! import       the blocks become blobs (content::FileImporter), complete images become repositories
//! list         names of images in a list, or in YAML of Kubernetes, Compose and Helm
//! ```

mod documents;
pub mod import;
pub mod list;
mod manifest;
mod reader;
#[cfg(test)]
mod tests;
mod want_list;
mod writer;

pub use documents::{keep_manifest, store_documents};
pub use manifest::{
    BundledBlob, BundledImage, BundledManifest, END_TYPE, EndOfPart, MANIFEST_TYPE, MAX_MANIFEST_BYTES,
    Manifest, NameRecord,
};
pub use reader::{BundleReader, read_end, read_manifest};
pub use want_list::{MissingBlob, WANT_LIST_TYPE, WantList, WantedImage};
pub use writer::{BundleWriter, manifest_file};

/// Why a bundle cannot be read or written.
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
    /// It is something else.
    #[error("{what} is not a bundle: {why}")]
    NotABundle {
        /// The file.
        what: String,
        /// Description of what was found.
        why: String,
    },
    /// Its first part, which says what is in it, is damaged.
    #[error("the manifest of {what} is damaged: {why}")]
    DamagedManifest {
        /// The file.
        what: String,
        /// Description of the damage.
        why: String,
    },
    /// It must not be imported.
    #[error("{what} is not imported: {why}")]
    Refused {
        /// The file.
        what: String,
        /// The reason.
        why: String,
        /// What helps.
        hint: &'static str,
    },
    /// A manifest of an image is not one.
    #[error("manifest {digest} of the bundle is invalid: {why}")]
    Manifest {
        /// The manifest.
        digest: ocipfs_oci::Digest,
        /// Description of the error.
        why: String,
    },
    /// It was written by a later version.
    #[error("{what} has format {found:?}, which this version does not know")]
    Newer {
        /// The file.
        what: String,
        /// Its media type.
        found: String,
    },
    /// It has too much.
    #[error("the manifest of the bundle has {size} bytes: the limit is {MAX_MANIFEST_BYTES}")]
    TooLarge {
        /// Its size.
        size: usize,
    },
    /// Parts would be too small.
    #[error("parts of {split} bytes are too small: this bundle needs at least {least}")]
    SmallParts {
        /// The size that was given.
        split: u64,
        /// The smallest possible one.
        least: u64,
    },
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] std::io::Error),
    /// It could not be stored, or read from the store.
    #[error(transparent)]
    Content(#[from] crate::content::Error),
}

impl From<crate::content::StoreError> for Error {
    fn from(error: crate::content::StoreError) -> Self {
        Self::Content(error.into())
    }
}
