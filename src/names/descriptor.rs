//! `ipfs/<cid>[:latest]` where the CID is a file: the descriptor of an image whose blobs are at `ipfs://` urls.

use ocipfs_oci::{Digest, Name, Reference};

use super::{Document, Error, Resolver, Source};
use crate::{
    content::{CidPath, Stat},
    images::tree::Tree,
};

/// The image of one descriptor.
pub struct Image<'a> {
    name: &'a Name,
    tree: Tree<'a>,
}

/// Reads the descriptor.
pub async fn open<'a>(
    resolver: &'a Resolver,
    name: &'a Name,
    at: &CidPath,
    file: &Stat,
) -> Result<Image<'a>, Error> {
    let tree = Tree::open(&resolver.content, &resolver.places, at, file).await;
    Ok(Image { name, tree: tree.map_err(|why| Error::image(name, why))? })
}

impl Image<'_> {
    pub async fn manifest(&self, reference: &Reference) -> Result<Document, Error> {
        let unknown = || Error::UnknownReference {
            name: self.name.clone(),
            reference: reference.clone(),
            instead: format!("latest or {}", self.tree.digest()),
        };
        let digest = match reference {
            Reference::Digest(digest) => digest,
            Reference::Tag(tag) if tag.is_latest() => self.tree.digest(),
            Reference::Tag(_) => return Err(unknown()),
        };
        let document = self.tree.document(digest).await.map_err(|why| Error::image(self.name, why))?;
        document.ok_or_else(unknown)
    }

    pub async fn blob(&self, digest: &Digest) -> Result<Source, Error> {
        let unknown = || Error::UnknownBlob { name: self.name.clone(), digest: digest.clone() };
        let blob = self.tree.blob(digest).await.map_err(|why| Error::image(self.name, why))?;
        blob.map(|blob| Source::Stored(Box::new(blob))).ok_or_else(unknown)
    }
}
