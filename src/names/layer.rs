//! `layer/<cid>[:file]`: the tag is for people, and checked against the layer's file name.

use ocipfs_node::Cid;
use ocipfs_oci::{Digest, MediaType, Name, Reference, Tag};

use super::{Document, Error, Source};
use crate::{
    content::{Blob, Content},
    images::layer::{Image, LayerManifest, MAX_BYTES},
};

/// A layer manifest that was fetched, with the image it stands for.
pub struct Layer {
    name: Name,
    cid: Cid,
    manifest: LayerManifest,
    image: Image,
}

/// Fetches and reads the layer manifest `cid`.
pub async fn open(content: &Content, name: &Name, cid: Cid) -> Result<Layer, Error> {
    let bytes = content.read(&cid.into(), MAX_BYTES).await?;
    let manifest = LayerManifest::parse(&bytes).map_err(|why| Error::Layer { name: name.clone(), why })?;
    let image = Image::of(&manifest);
    Ok(Layer { name: name.clone(), cid, manifest, image })
}

impl Layer {
    pub fn manifest(self, reference: &Reference) -> Result<Document, Error> {
        let known = match reference {
            Reference::Digest(digest) => *digest == self.image.manifest_digest,
            Reference::Tag(tag) => self.has_tag(tag),
        };
        if !known {
            let instead = match reference {
                Reference::Digest(_) => self.image.manifest_digest.to_string(),
                Reference::Tag(_) => self.file_tag().map_or("latest".into(), |tag| tag.to_string()),
            };
            return Err(Error::UnknownReference { name: self.name, reference: reference.clone(), instead });
        }
        Ok(Document {
            media_type: MediaType::from_static(Image::MEDIA_TYPE),
            digest: self.image.manifest_digest,
            bytes: self.image.manifest,
        })
    }

    pub fn blob(self, digest: &Digest) -> Result<Source, Error> {
        if *digest == self.image.config_digest {
            return Ok(Source::Made(self.image.config));
        }
        if *digest == self.image.manifest_digest {
            return Ok(Source::Made(self.image.manifest));
        }
        if *digest == self.manifest.digest {
            let LayerManifest { digest, size, at, .. } = self.manifest;
            return Ok(Source::Stored(Box::new(Blob { digest, size, at, holder: self.cid })));
        }
        Err(Error::UnknownBlob { name: self.name, digest: digest.clone() })
    }

    pub fn tags(&self) -> Vec<Tag> {
        let mut tags: Vec<Tag> = self.file_tag().into_iter().chain([Tag::latest()]).collect();
        tags.sort();
        tags.dedup();
        tags
    }

    fn file_tag(&self) -> Option<Tag> {
        self.manifest.file_name().and_then(Tag::from_file_name)
    }

    /// Where the layer has no file name, there is nothing to check a tag against.
    fn has_tag(&self, tag: &Tag) -> bool {
        tag.is_latest() || self.file_tag().is_none_or(|file| file == *tag)
    }
}
