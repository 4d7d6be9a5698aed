//! What a reference of a repository is. One file for each kind of name that a CID, a key or a domain defines, and
//! [`local`] for repositories that were pushed here.

mod descriptor;
pub mod digests;
pub mod dockerized;
mod error;
pub mod ipns;
pub mod ipns_repository;
pub mod layer;
pub mod layout;
pub mod local;

use bytes::Bytes;

use super::Resolver;
use crate::content::Blob;

pub use crate::images::Document;
pub use error::Error;

/// Where the bytes of a blob come from.
#[derive(Clone, Debug)]
pub enum BlobSource {
    /// Bytes that are made here and not stored.
    Inline(Bytes),
    /// A blob that is stored, or is fetched when it is opened.
    Blob(Box<Blob>),
}
