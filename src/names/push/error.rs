use ocipfs_node::IpnsName;
use ocipfs_oci::{Digest, Name, Reference};

use crate::{
    content::{self, StoreError, UploadError},
    names,
};

/// Why a push or a deletion is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The content of the name is defined by something else than pushes.
    #[error("{0} is read-only: names below layer/, ipfs/ and ipns/ are CIDs or keys; push to another name")]
    ReadOnly(String),
    /// The name has a component that a published repository needs itself.
    #[error("{0}; push to another name")]
    Reserved(#[source] names::Error),
    /// The repository has no such upload.
    #[error("unknown upload {0:?} in this repository: start a new one")]
    UnknownUpload(String),
    /// The bytes are not a manifest of the stated kind.
    #[error("{0}")]
    InvalidManifest(String),
    /// Blobs that were not pushed before the manifest that needs them.
    #[error("{name} has no {}: push the blobs of a manifest before the manifest", listed(digests))]
    MissingBlobs {
        /// The repository.
        name: Name,
        /// The blobs.
        digests: Vec<Digest>,
    },
    /// A tag that stays as it is points at another manifest.
    #[error("tag {tag:?} of {name} is immutable and points at another manifest: push under another tag")]
    Immutable {
        /// The repository.
        name: Name,
        /// The tag.
        tag: String,
    },
    /// A tag that a push adds to points at another manifest than the one that was added to.
    #[error("tag {tag:?} of {name} was moved by another push at the same time: read it again and push again")]
    Moved {
        /// The repository.
        name: Name,
        /// The tag.
        tag: String,
    },
    /// A client that may sign, and not push, pushes something else than a signature.
    #[error(
        "pushing this requires the action `push`: with `sign`, a manifest needs a subject, a configuration that is not that of an image, and no tag, or the layers of a signature and a tag such as sha256-<hex>.sig"
    )]
    NotAttached,
    /// A client that may sign, and not push, takes away what others signed.
    #[error(
        "removing signatures from tag {tag} of {name} requires the action `push`: with `sign`, a manifest has all layers of the one that it replaces"
    )]
    RemovesSignatures {
        /// The repository.
        name: Name,
        /// The tag.
        tag: String,
    },
    /// The manifest to delete does not exist.
    #[error("manifest {reference} unknown to {name}")]
    UnknownManifest {
        /// The repository.
        name: Name,
        /// The requested one.
        reference: Reference,
    },
    /// The blob does not exist.
    #[error("blob {digest} unknown to {name}")]
    UnknownBlob {
        /// The repository.
        name: Name,
        /// The requested one.
        digest: Digest,
    },
    /// Only a followed name has it, so it cannot be deleted here.
    #[error(
        "{name} has {reference} from the followed name {origin}: delete it at its publisher, or stop following the name (`ocipfs name unfollow {origin}`)"
    )]
    Followed {
        /// The repository.
        name: Name,
        /// The manifest or the blob.
        reference: Reference,
        /// The followed name.
        origin: IpnsName,
    },
    /// The bytes were not received, or do not match their digest.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The name is invalid, or what a followed name has could not be fetched.
    #[error(transparent)]
    Names(#[from] names::Error),
    /// The store or the node failed.
    #[error(transparent)]
    Content(#[from] content::Error),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Content(error.into())
    }
}

fn listed(digests: &[Digest]) -> String {
    digests.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
