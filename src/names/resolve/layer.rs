//! `layer/<cid>[:file]`: the tag is for people, and checked against the file name of the last layer.

use ocipfs_node::Cid;
use ocipfs_oci::{Digest, MediaType, Name, Reference, Tag};

use super::{BlobSource, Document, Error, layout::listed};
use crate::{
    content::Content,
    images::layer::{Image, ImageIndex, LayerDocument, MAX_BYTES},
};

/// Layers whose document was fetched, with the images that it stands for.
pub struct Layers {
    name: Name,
    cid: Cid,
    document: LayerDocument,
    /// The index of several platforms, else the manifest; then the manifests in the index.
    manifests: Vec<Document>,
    configs: Vec<Document>,
}

/// Fetches and reads the document `cid`.
pub async fn open(content: &Content, name: &Name, cid: Cid) -> Result<Layers, Error> {
    let bytes = content.read(&cid.into(), MAX_BYTES).await?;
    let _turn = content.turn_to_parse(bytes.len()).await?;
    let document = LayerDocument::parse(&bytes).map_err(|why| Error::Layer { name: name.clone(), why })?;
    let (mut manifests, mut configs) = (Vec::new(), Vec::new());
    let images = match &document {
        LayerDocument::Manifest(manifest) => vec![Image::of(manifest)],
        LayerDocument::Index(parts) => {
            let ImageIndex { bytes, digest, images } = ImageIndex::of(parts);
            manifests.push(Document {
                media_type: MediaType::from_static(ImageIndex::MEDIA_TYPE),
                digest,
                bytes,
            });
            images
        }
    };
    for Image { manifest, manifest_digest, config, config_digest } in images {
        let made = |media_type, digest, bytes| Document { media_type, digest, bytes };
        manifests.push(made(MediaType::from_static(Image::MEDIA_TYPE), manifest_digest, manifest));
        configs.push(made(MediaType::from_static(Image::CONFIG_TYPE), config_digest, config));
    }
    Ok(Layers { name: name.clone(), cid, document, manifests, configs })
}

impl Layers {
    pub fn manifest(self, reference: &Reference) -> Result<Document, Error> {
        let found = match reference {
            Reference::Digest(digest) => self.manifests.iter().find(|manifest| manifest.digest == *digest),
            Reference::Tag(tag) => self.manifests.first().filter(|_| self.has_tag(tag)),
        };
        match found {
            Some(document) => Ok(document.clone()),
            None => {
                let instead = self.instead(reference);
                Err(Error::UnknownReference { name: self.name, reference: reference.clone(), instead })
            }
        }
    }

    /// Returns the references that exist.
    fn instead(&self, reference: &Reference) -> String {
        match (reference, self.manifests.first()) {
            (Reference::Digest(_), Some(top)) => top.digest.to_string(),
            _ => listed(&self.document.file_tags()),
        }
    }

    pub fn blob(self, digest: &Digest) -> Result<BlobSource, Error> {
        let mut made = self.configs.iter().chain(&self.manifests);
        if let Some(document) = made.find(|document| document.digest == *digest) {
            return Ok(BlobSource::Inline(document.bytes.clone()));
        }
        match self.document.layers().find(|layer| layer.digest == *digest) {
            Some(layer) => Ok(BlobSource::Blob(Box::new(layer.blob(self.cid)))),
            None => Err(Error::UnknownBlob { name: self.name, digest: digest.clone() }),
        }
    }

    pub fn tags(&self) -> Vec<Tag> {
        let mut tags = self.document.file_tags();
        tags.push(Tag::latest());
        tags.sort();
        tags.dedup();
        tags
    }

    /// Where no last layer has a file name, there is nothing to check a tag against.
    fn has_tag(&self, tag: &Tag) -> bool {
        let known = self.document.file_tags();
        tag.is_latest() || known.is_empty() || known.contains(tag)
    }
}
