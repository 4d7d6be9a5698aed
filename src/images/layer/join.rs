//! Layer manifests for several platforms become an index.

use ocipfs_node::Cid;

use super::{
    LayerDocument, MAX_BYTES,
    add::{self, put},
};
use crate::content::{self, Content, GcRoot, Profile};

/// Why nothing was joined.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of them is not a layer manifest.
    #[error("{cid} is {why}")]
    Part {
        /// Which.
        cid: Cid,
        /// Description of the error.
        why: super::Error,
    },
    /// They cannot stand in one index.
    #[error("cannot create an index: {0}")]
    Index(super::Error),
    /// It could not be stored or fetched.
    #[error(transparent)]
    Add(#[from] add::Error),
}

impl From<content::Error> for Error {
    fn from(error: content::Error) -> Self {
        Self::Add(error.into())
    }
}

/// The joined index.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The CIDv1 of the index: the name of the images.
    pub cid: Cid,
    /// Content of the index.
    pub document: LayerDocument,
    /// How many of its layers are not here.
    pub missing: usize,
}

/// Stores an index of what `parts` name, in their order, and holds with it those of the layers that are here.
pub async fn join(content: &Content, parts: &[Cid], profile: Profile) -> Result<Joined, Error> {
    let _storing = content.gc_guard().await;
    let mut manifests = Vec::new();
    for cid in parts {
        let bytes = content.read(&(*cid).into(), MAX_BYTES).await?;
        let part = LayerDocument::parse(&bytes).map_err(|why| Error::Part { cid: *cid, why })?;
        manifests.extend_from_slice(part.manifests());
    }
    let document = LayerDocument::index(manifests).map_err(Error::Index)?;
    // First what may fail, since the index is announced as soon as it is retained.
    let (mut files, mut missing) = (Vec::new(), 0);
    for layer in document.layers() {
        match content.has(&layer.digest).await? {
            true => files.push((layer, content.stat(&layer.at).await?.cid)),
            false => missing += 1,
        }
    }
    let cid = put(content, &document, profile).await?;
    content.retain_also(cid, GcRoot::new(true, &[cid], Vec::new())).await?;
    for (layer, file) in files {
        content.retain_blob(&layer.blob(cid), file, true).await?;
    }
    Ok(Joined { cid, document, missing })
}
