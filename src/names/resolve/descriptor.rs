//! `ipfs/<cid>[:latest]` where the CID is a file: the descriptor of an image whose blobs are at `ipfs://` urls.

use ocipfs_oci::{Digest, Name, Reference};

use super::{BlobSource, Document, Error, Resolver};
use crate::{
    content::{CidPath, Stat},
    images::descriptor::DescriptorImage,
};

/// The image of one descriptor.
pub struct DescriptorRepository<'a> {
    name: &'a Name,
    image: DescriptorImage<'a>,
}

/// Reads the descriptor.
pub async fn open<'a>(
    resolver: &'a Resolver,
    name: &'a Name,
    at: &CidPath,
    file: &Stat,
) -> Result<DescriptorRepository<'a>, Error> {
    let image = DescriptorImage::open(&resolver.content, &resolver.locations, at, file).await;
    Ok(DescriptorRepository { name, image: image.map_err(|why| Error::image(name, why))? })
}

impl DescriptorRepository<'_> {
    pub async fn manifest(&self, reference: &Reference) -> Result<Document, Error> {
        let unknown = || Error::UnknownReference {
            name: self.name.clone(),
            reference: reference.clone(),
            instead: format!("latest or {}", self.image.digest()),
        };
        let digest = match reference {
            Reference::Digest(digest) => digest,
            Reference::Tag(tag) if tag.is_latest() => self.image.digest(),
            Reference::Tag(_) => return Err(unknown()),
        };
        let document = self.image.document(digest).await.map_err(|why| Error::image(self.name, why))?;
        document.ok_or_else(unknown)
    }

    pub async fn blob(&self, digest: &Digest) -> Result<BlobSource, Error> {
        let unknown = || Error::UnknownBlob { name: self.name.clone(), digest: digest.clone() };
        let blob = self.image.blob(digest).await.map_err(|why| Error::image(self.name, why))?;
        blob.map(|blob| BlobSource::Blob(Box::new(blob))).ok_or_else(unknown)
    }
}
