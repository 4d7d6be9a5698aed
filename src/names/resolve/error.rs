use ocipfs_node::Cid;
use ocipfs_oci::{Digest, Name, Reference, name};

use super::ipns;
use crate::{
    content::{self, PathError},
    images,
};

/// Why a name cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not a repository name.
    #[error(transparent)]
    Syntax(#[from] name::Error),
    /// A CIDv0 is case-sensitive, and repository names are lower-case.
    #[error("{given} is a CIDv0, and repository names are lower case: use its CIDv1, {instead}")]
    CidV0 {
        /// The component as it was given.
        given: String,
        /// Form of the CID to use instead.
        instead: Cid,
    },
    /// A CID in a base whose letters a repository name cannot hold, or a key or a domain in such letters.
    #[error("{given} has upper-case letters, and repository names are lower case: use {instead}")]
    UpperCase {
        /// The component as it was given.
        given: String,
        /// Lower-case form to use instead.
        instead: String,
    },
    /// The path below the CID is too long.
    #[error("{name}: {why}")]
    Path {
        /// The whole name.
        name: Name,
        /// Error of the parser.
        why: PathError,
    },
    /// The name ends too early.
    #[error("incomplete repository name {name}: expected {instead}")]
    Unfinished {
        /// The name so far.
        name: Name,
        /// A whole one.
        instead: &'static str,
    },
    /// A component is not a valid CID.
    #[error("invalid CID {found:?} in {name}: {why}")]
    NoCid {
        /// The whole name.
        name: String,
        /// The component.
        found: String,
        /// Message of the parser.
        why: String,
    },
    /// No kind of name looks like this, but for a part that is missing or too much.
    #[error("repository {name} not found: expected {instead}")]
    Misplaced {
        /// The whole name.
        name: Name,
        /// The name that was probably meant.
        instead: String,
    },
    /// Nothing was pushed under it, and no other kind of name looks like this.
    #[error(
        "repository {0} not found, locally or under a followed name; content-addressed images are layer/<cid>, ipfs/<cid>[/<dir>...], ipns/<k51... or domain>[/<dir>...] and <ciq... or 1220...>/<name>"
    )]
    UnknownName(Name),
    /// A repository is published as a directory with these entries, which would be in the way.
    #[error("invalid repository name {name}: component {component:?} is reserved for the image layout")]
    Reserved {
        /// The whole name.
        name: Name,
        /// The component.
        component: String,
    },
    /// The name is right, the reference is not.
    #[error("manifest {reference} unknown to {name}: expected {instead}")]
    UnknownReference {
        /// The repository.
        name: Name,
        /// The requested one.
        reference: Reference,
        /// References that exist.
        instead: String,
    },
    /// The image has no such blob.
    #[error("blob {digest} unknown to {name}")]
    UnknownBlob {
        /// The repository.
        name: Name,
        /// The requested one.
        digest: Digest,
    },
    /// The CID is not a layer manifest.
    #[error("{name}: {why}")]
    Layer {
        /// The repository.
        name: Name,
        /// Description of the error.
        why: images::layer::Error,
    },
    /// The CID is not a valid image.
    #[error("{name}: {why}")]
    Image {
        /// The repository.
        name: Name,
        /// Description of the error.
        why: images::Error,
    },
    /// A component is not a valid IPNS name or domain.
    #[error("{name}: {why}")]
    NoIpnsName {
        /// The whole name.
        name: Name,
        /// Error of the parser.
        why: ocipfs_node::InvalidName,
    },
    /// The IPNS name leads nowhere.
    #[error("{name}: {why}")]
    Ipns {
        /// The repository.
        name: Name,
        /// Why not.
        why: ipns::Error,
    },
    /// The content could not be read.
    #[error(transparent)]
    Content(#[from] content::Error),
}

impl Error {
    /// Whether it only says that the content does not exist in its repository.
    pub fn is_absence(&self) -> bool {
        use images::Error::{Content, NoEntry, NoLayout};
        match self {
            Self::UnknownReference { .. } | Self::UnknownBlob { .. } | Self::UnknownName(_) => true,
            Self::Image { why: NoLayout { .. } | NoEntry { .. }, .. } => true,
            Self::Image { why: Content(why), .. } | Self::Content(why) => {
                matches!(why, content::Error::NoEntry { .. })
            }
            _ => false,
        }
    }

    pub(in crate::names) fn image(name: &Name, why: images::Error) -> Self {
        match why {
            images::Error::Content(error) => error.into(),
            why => Self::Image { name: name.clone(), why },
        }
    }
}
