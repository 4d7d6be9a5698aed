//! What a repository name and a reference mean. One file for each kind of name; this one lists them.
//!
//! | name | means |
//! |---|---|
//! | `layer/<cid>[:file]` | the image of one layer, by the CID of its layer manifest |

pub mod ipns;
mod layer;

use bytes::Bytes;
use ocipfs_node::Cid;
use ocipfs_oci::{Digest, Name, Reference, Tag, name};

use crate::{
    content::{self, Blob, Content},
    images,
};

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no repository name.
    #[error(transparent)]
    Syntax(#[from] name::Error),
    /// A CIDv0 is case-sensitive, and repository names are lower-case.
    #[error("{given} is a CIDv0, and a repository name has no upper-case letters: use its CIDv1, {instead}")]
    CidV0 {
        /// The component as it was given.
        given: String,
        /// The same CID as it can be written here.
        instead: Cid,
    },
    /// What should be a CID is none.
    #[error("{found:?} in {name} is no CID: {why}")]
    NoCid {
        /// The whole name.
        name: String,
        /// The component.
        found: String,
        /// What the parser said.
        why: String,
    },
    /// No kind of name looks like this.
    #[error("no repository is called {0}: this registry knows layer/<cid>")]
    UnknownName(Name),
    /// The name is right, the reference is not.
    #[error("{name} has no {reference}: {instead} would be")]
    UnknownReference {
        /// The repository.
        name: Name,
        /// What was asked for.
        reference: Reference,
        /// What is there.
        instead: String,
    },
    /// The image has no such blob.
    #[error("{name} has no blob {digest}")]
    UnknownBlob {
        /// The repository.
        name: Name,
        /// What was asked for.
        digest: Digest,
    },
    /// What the CID names is no layer manifest.
    #[error("{name}: {why}")]
    Layer {
        /// The repository.
        name: Name,
        /// What is wrong with it.
        why: images::layer::Error,
    },
    /// Its bytes could not be had.
    #[error(transparent)]
    Content(#[from] content::Error),
}

/// A repository name, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The image of one layer.
    Layer {
        /// The name itself.
        name: Name,
        /// The CID of its layer manifest.
        cid: Cid,
    },
}

/// A manifest as it is served.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Bytes,
}

/// Where a blob comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Made up here.
    Made(Bytes),
    /// Stored, or to be fetched.
    Stored(Box<Blob>),
}

impl Meaning {
    /// Understands a repository name.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let name: Name = text.parse().map_err(|error| cid_v0(text).unwrap_or(Error::Syntax(error)))?;
        let components: Vec<&str> = name.components().collect();
        match components.as_slice() {
            ["layer", cid] => {
                let cid = parse_cid(&name, cid)?;
                Ok(Self::Layer { name, cid })
            }
            _ => Err(Error::UnknownName(name)),
        }
    }

    /// The manifest behind a reference.
    pub async fn manifest(&self, content: &Content, reference: &Reference) -> Result<Document, Error> {
        match self {
            Self::Layer { name, cid } => layer::open(content, name, *cid).await?.manifest(reference),
        }
    }

    /// The blob of a digest.
    pub async fn blob(&self, content: &Content, digest: &Digest) -> Result<Source, Error> {
        match self {
            Self::Layer { name, cid } => layer::open(content, name, *cid).await?.blob(digest),
        }
    }

    /// The tags, sorted.
    pub async fn tags(&self, content: &Content) -> Result<Vec<Tag>, Error> {
        match self {
            Self::Layer { name, cid } => Ok(layer::open(content, name, *cid).await?.tags()),
        }
    }

    /// The name as it was parsed.
    pub fn name(&self) -> &Name {
        match self {
            Self::Layer { name, .. } => name,
        }
    }
}

/// The refusal of a name that would be right but for its upper-case CID.
fn cid_v0(text: &str) -> Option<Error> {
    text.split('/').find_map(|component| match Cid::try_from(component) {
        Ok(cid) if component.starts_with("Qm") => {
            Some(Error::CidV0 { given: component.into(), instead: Cid::new_v1(cid.codec(), *cid.hash()) })
        }
        _ => None,
    })
}

fn parse_cid(name: &Name, component: &str) -> Result<Cid, Error> {
    Cid::try_from(component).map_err(|e| Error::NoCid {
        name: name.to_string(),
        found: component.into(),
        why: e.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu";

    #[test]
    fn a_layer_name_is_its_cid() {
        let Meaning::Layer { cid, .. } = Meaning::parse(&format!("layer/{V1}")).unwrap();
        assert_eq!(cid.to_string(), V1);
    }

    #[test]
    fn a_cidv0_is_refused_with_the_cidv1_to_use() {
        let error = Meaning::parse("layer/QmPgRXXDD193VeyEQMgxY2RkNFZ7Ni2cNd3w43Srm59hJc").unwrap_err();
        assert!(error.to_string().contains(V1), "{error}");
    }

    #[test]
    fn other_names_are_refused_for_what_they_are() {
        assert!(matches!(Meaning::parse("layer/nonsense"), Err(Error::NoCid { .. })));
        assert!(matches!(Meaning::parse("library/busybox"), Err(Error::UnknownName(_))));
        assert!(matches!(Meaning::parse(&format!("layer/{V1}/more")), Err(Error::UnknownName(_))));
        assert!(matches!(Meaning::parse("Layer/x"), Err(Error::Syntax(_))));
        assert!(matches!(Meaning::parse(""), Err(Error::Syntax(_))));
    }
}
