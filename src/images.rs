//! Images and layers: layers as bytes, layer manifests and the images synthesized from them, stored images,
//! and images in archives.

pub mod archive;
pub mod bundle;
pub(crate) mod cache;
pub mod descriptor;
mod document;
pub mod export;
pub mod import;
pub mod input;
pub mod layer;
pub mod layout;
mod outline;
pub mod pack;
mod parse;
pub mod published;
mod referrer;
pub mod repository;
pub mod signed;

use ocipfs_oci::{Digest, MediaType};

pub(crate) use cache::Cache;
pub use document::Document;
pub use referrer::Referrer;

use crate::content::{self, CidPath};

/// A longer manifest is refused, as other registries do.
pub const MAX_MANIFEST: u64 = 4 << 20;

/// Why no image could be read of what a CID names.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory that is not an image layout.
    #[error("{at} is not an OCI image layout: the directory has no file oci-layout; {}", told(.entries))]
    NoLayout {
        /// The directory.
        at: CidPath,
        /// Entries of the directory.
        entries: Vec<String>,
    },
    /// A path that leads nowhere.
    #[error("{at} has no entry {entry:?}; {}", told(.entries))]
    NoEntry {
        /// The directory that was reached.
        at: CidPath,
        /// Name of the missing entry.
        entry: String,
        /// Entries of the directory.
        entries: Vec<String>,
    },
    /// A file that is not a descriptor.
    #[error("{at} is not an image descriptor: {why}")]
    NoDescriptor {
        /// The file.
        at: CidPath,
        /// Description of the error.
        why: String,
    },
    /// Neither a file nor a directory.
    #[error(
        "{0} is a symbolic link: expected a directory with an OCI image layout, or a file with a descriptor"
    )]
    Link(CidPath),
    /// A manifest of the first schema, which clients do not take any more.
    #[error(
        "{0} is a Docker schema 1 manifest, which is not supported: rebuild the image with a tool that writes schema 2"
    )]
    Schema1(CidPath),
    /// Another document or blob, such as a configuration or a layer.
    #[error("{at} is not a manifest or index: {why}")]
    NotAManifest {
        /// The blob.
        at: CidPath,
        /// Description of the error.
        why: String,
    },
    /// A document that is not what it should be.
    #[error("{at}: {why}")]
    Malformed {
        /// The document.
        at: CidPath,
        /// Description of the error.
        why: String,
    },
    /// A blob that its descriptor says is not in IPFS.
    #[error("{digest} ({media_type}) is not in IPFS: its descriptor has no ipfs:// url{}", others(.urls))]
    Elsewhere {
        /// The blob.
        digest: Digest,
        /// Its kind.
        media_type: MediaType,
        /// Where it is.
        urls: Vec<String>,
    },
    /// The content could not be read.
    #[error(transparent)]
    Content(#[from] content::Error),
}

impl From<content::StoreError> for Error {
    fn from(error: content::StoreError) -> Self {
        Self::Content(error.into())
    }
}

/// The entries of a directory, as far as a repository name can hold them and a message should.
fn told(entries: &[String]) -> String {
    const MAX_SHOWN: usize = 20;
    let names = entries.iter().filter(|entry| entry.parse::<ocipfs_oci::Name>().is_ok());
    let names: Vec<&str> = names.map(String::as_str).take(MAX_SHOWN).collect();
    match names.is_empty() {
        true => "it has no entry with a valid name".into(),
        false => format!("it has {}", names.join(", ")),
    }
}

fn others(urls: &[String]) -> String {
    if urls.is_empty() { String::new() } else { format!(", only {}", urls.join(" and ")) }
}
