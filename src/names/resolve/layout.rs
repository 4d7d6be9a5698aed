//! `ipfs/<cid>[/<dir>...][:tag]`: an OCI image layout in a directory, or a file with the descriptor of an image.

use ocipfs_node::Cid;
use ocipfs_oci::{Digest, Name, Reference, Tag};

use super::{BlobSource, Document, Error, Resolver, descriptor};
use crate::{
    content::{self, CidPath, Content, Found},
    images::{
        self,
        layout::{Layout, Referrers},
    },
};

/// Tags that a refusal lists.
const MAX_LISTED_TAGS: usize = 20;

/// The image found at a path.
pub enum IpfsImage<'a> {
    Layout(Box<LayoutRepository<'a>>),
    Descriptor(Box<descriptor::DescriptorRepository<'a>>),
}

/// An image layout.
pub struct LayoutRepository<'a> {
    content: &'a Content,
    name: &'a Name,
    layout: Layout,
}

/// Tells what is at `at`, and reads as much of it as says which images it holds. What comes is retained under the root.
pub async fn open<'a>(resolver: &'a Resolver, name: &'a Name, at: &CidPath) -> Result<IpfsImage<'a>, Error> {
    open_for(resolver, name, at, Some(*at.root())).await
}

/// Opens a layout below a root that a GC root retains; gives its directory, too.
pub async fn open_below<'a>(
    resolver: &'a Resolver,
    name: &'a Name,
    at: &CidPath,
) -> Result<(IpfsImage<'a>, Cid), Error> {
    let directory = resolver.content.directory(at).await?;
    // By its own CID, so that what changes elsewhere below the root does not matter to it.
    let here = CidPath::from(directory).with_search_root(at.search_root());
    Ok((open_for(resolver, name, &here, None).await?, directory))
}

/// Opens the layout in a directory that a GC root retains and that is here.
pub async fn open_here<'a>(
    resolver: &'a Resolver,
    name: &'a Name,
    at: &CidPath,
) -> Result<IpfsImage<'a>, Error> {
    let content = &resolver.content;
    let layout = resolver.layouts.read(content, at, None).await.map_err(|why| Error::image(name, why))?;
    Ok(IpfsImage::Layout(Box::new(LayoutRepository { content, name, layout })))
}

async fn open_for<'a>(
    resolver: &'a Resolver,
    name: &'a Name,
    at: &CidPath,
    gc_root: Option<Cid>,
) -> Result<IpfsImage<'a>, Error> {
    let content = &resolver.content;
    let known = resolver.layouts.known(content, at, gc_root).await;
    if let Some(layout) = known.map_err(|why| Error::image(name, why))? {
        return Ok(IpfsImage::Layout(Box::new(LayoutRepository { content, name, layout })));
    }
    match content.look(at).await {
        Ok(Found::File(file)) => {
            let image = descriptor::open(resolver, name, at, &file).await?;
            Ok(IpfsImage::Descriptor(Box::new(image)))
        }
        Ok(Found::Directory(entries)) => {
            let layout = match resolver.layouts.read(content, at, gc_root).await {
                Err(images::Error::Content(content::Error::NoEntry { entry, .. }))
                    if entry == "oci-layout" =>
                {
                    Err(images::Error::NoLayout { at: at.clone(), entries })
                }
                layout => layout,
            };
            let layout = layout.map_err(|why| Error::image(name, why))?;
            Ok(IpfsImage::Layout(Box::new(LayoutRepository { content, name, layout })))
        }
        Ok(Found::Link) => Err(Error::image(name, images::Error::Link(at.clone()))),
        Err(error @ content::Error::NoEntry { .. }) => {
            Err(missing(content, at).await.map_or(error.into(), |why| Error::image(name, why)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Returns the error of the first missing component of a path, with the entries that exist there.
pub async fn missing(content: &Content, at: &CidPath) -> Option<images::Error> {
    for (depth, entry) in at.names().iter().enumerate() {
        let reached = CidPath::from(*at.root()).below(at.names()[..depth].iter().map(String::as_str));
        let entries = match content.look(&reached).await.ok()? {
            Found::Directory(entries) => entries,
            Found::File(_) | Found::Link => Vec::new(),
        };
        if !entries.contains(entry) && content.look(&reached.below([entry.as_str()])).await.is_err() {
            return Some(images::Error::NoEntry { at: reached, entry: entry.clone(), entries });
        }
    }
    None
}

impl IpfsImage<'_> {
    pub async fn manifest(&self, reference: &Reference) -> Result<Document, Error> {
        match self {
            Self::Layout(path) => path.manifest(reference).await,
            Self::Descriptor(image) => image.manifest(reference).await,
        }
    }

    pub async fn blob(&self, digest: &Digest) -> Result<BlobSource, Error> {
        match self {
            Self::Layout(path) => path.blob(digest).await,
            Self::Descriptor(image) => image.blob(digest).await,
        }
    }

    pub async fn tags(&self) -> Result<Vec<Tag>, Error> {
        match self {
            Self::Layout(path) => path.tags().await,
            Self::Descriptor(_) => Ok(vec![Tag::latest()]),
        }
    }

    pub async fn referrers(&self, subject: &Digest, last: &str) -> Result<Referrers, Error> {
        match self {
            Self::Layout(path) => path.referrers(subject, last).await,
            // It is one image, and nothing beside it.
            Self::Descriptor(_) => Ok(Referrers::default()),
        }
    }
}

impl LayoutRepository<'_> {
    async fn manifest(&self, reference: &Reference) -> Result<Document, Error> {
        let found = match reference {
            Reference::Tag(tag) => self.layout.tagged(self.content, tag).await,
            Reference::Digest(digest) => self.layout.by_digest(self.content, digest).await,
        };
        match found.map_err(|why| Error::image(self.name, why))? {
            Some(document) => Ok(document),
            None => Err(Error::UnknownReference {
                name: self.name.clone(),
                reference: reference.clone(),
                instead: listed(&self.tags().await?),
            }),
        }
    }

    async fn blob(&self, digest: &Digest) -> Result<BlobSource, Error> {
        let blob =
            self.layout.files.blob(self.content, digest).await.map_err(|why| Error::image(self.name, why))?;
        let unknown = || Error::UnknownBlob { name: self.name.clone(), digest: digest.clone() };
        blob.map(|blob| BlobSource::Blob(Box::new(blob))).ok_or_else(unknown)
    }

    async fn referrers(&self, subject: &Digest, last: &str) -> Result<Referrers, Error> {
        let found = self.layout.referrers(self.content, subject, last).await;
        found.map_err(|why| Error::image(self.name, why))
    }

    async fn tags(&self) -> Result<Vec<Tag>, Error> {
        self.layout.tags(self.content).await.map_err(|why| Error::image(self.name, why))
    }
}

/// The tags there are, as a refusal tells them.
pub fn listed(tags: &[Tag]) -> String {
    let shown: Vec<&str> = tags.iter().take(MAX_LISTED_TAGS).map(Tag::as_str).collect();
    match (shown.is_empty(), tags.len() - shown.len()) {
        (true, _) => "a digest, since it has no tags".into(),
        (false, 0) => shown.join(" or "),
        (false, more) => format!("{} or one of {more} more", shown.join(" or ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tags_in_an_error_message_are_bounded() {
        let tags: Vec<Tag> = (100..125).map(|n| format!("v{n}").parse().unwrap()).collect();
        assert_eq!(listed(&[]), "a digest, since it has no tags");
        assert_eq!(listed(&tags[..2]), "v100 or v101");
        let many = listed(&tags);
        assert!(many.starts_with("v100 or v101") && many.ends_with("v119 or one of 5 more"), "{many}");
    }
}
