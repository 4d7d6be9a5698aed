//! Images of an archive become content that is kept here, in one of three forms.
//!
//! ```text
//! archive::read ─► Images ─► (estargz) ─► named ─► layout | descriptor | dockerized ─► stored, then retained and announced
//! ```

mod builder;
mod called;
mod descriptor;
mod dockerized;
mod estargz;
mod layout;
mod tag;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, str::FromStr};

use ocipfs_node::{Block, Cid};
use ocipfs_oci::{Descriptor, Digest, Name, Tag};

use super::archive::{self, ArchiveSource, Compress};
use crate::content::{self, Content, Document, GcRoot, ImportedImage, Profile, Store};
use builder::ImageBuilder;
use called::{Called, called};

pub use tag::{Tagged, tag};

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive is refused.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// Its images cannot be called so.
    #[error("{0}")]
    Names(String),
    /// An image cannot have this form.
    #[error("{image} cannot be dockerized: {why}")]
    ImportFormat {
        /// The image.
        image: String,
        /// Why not.
        why: String,
    },
    /// It could not be stored.
    #[error(transparent)]
    Content(#[from] content::Error),
    /// The reading thread is gone.
    #[error("read aborted")]
    BrokenOff,
}

impl From<ocipfs_unixfs::Error> for Error {
    fn from(error: ocipfs_unixfs::Error) -> Self {
        Self::Content(error.into())
    }
}

impl From<content::StoreError> for Error {
    fn from(error: content::StoreError) -> Self {
        Self::Content(error.into())
    }
}

/// Form in which an imported image is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImportFormat {
    /// An OCI image layout for each repository, under one directory: `ipfs/<cid>/<name>:<tag>`.
    #[default]
    Layout,
    /// A descriptor whose tree names each blob by its CID, as nerdctl has it: `ipfs/<cid>`.
    Descriptor,
    /// The directory that image2ipfs makes: `<ciq...>/<name>:latest`.
    Dockerized,
}

impl FromStr for ImportFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "layout" => Ok(Self::Layout),
            "descriptor" => Ok(Self::Descriptor),
            "dockerized" => Ok(Self::Dockerized),
            _ => Err(format!(
                "unknown import format {text:?}: expected `layout`, `descriptor` or `dockerized`"
            )),
        }
    }
}

/// How an archive is imported.
#[derive(Clone, Debug)]
pub struct Options {
    /// Form in which the images are stored.
    pub form: ImportFormat,
    /// Compression for uncompressed layers, if set.
    pub compress: Option<Compress>,
    /// Whether layers become eStargz layers.
    pub estargz: bool,
    /// The shape of the DAGs.
    pub profile: Profile,
    /// Name of the images; overrides the names in the archive.
    pub name: Option<(Name, Option<Tag>)>,
}

/// An image that was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Reference that clients pull, without the registry.
    pub reference: String,
    /// Its root.
    pub cid: Cid,
    /// Its manifest or index.
    pub top: Descriptor,
    /// Bytes of all its blobs.
    pub size: u64,
}

/// A root that was made, with all that belongs to it.
struct Made {
    /// Key of its GC root.
    cid: Cid,
    document: Option<Document>,
    images: Vec<Imported>,
    /// The files of it, by digest.
    files: BTreeSet<Digest>,
}

/// Imports all images of `source`; also what is worth a warning.
pub async fn import(
    content: &Content,
    source: ArchiveSource,
    options: Options,
    progress: Box<dyn FnMut(u64) + Send>,
) -> Result<(Vec<Imported>, Vec<String>), Error> {
    let guard = content.gc_guard().await;
    let store = content.store().clone();
    let work = move || make(store, source, &options, progress);
    let prepared = tokio::task::spawn_blocking(work).await.map_err(|_| Error::BrokenOff)??;
    let Prepared { pieces, roots, blocks, warnings } = prepared;
    let cids: Vec<Cid> = blocks.iter().map(|block| block.cid).collect();
    content.store().run(move |store| archive::StagedBlob::store_all(store, &pieces, &blocks)).await?;
    content.node().arrived(&cids);
    let mut all = Vec::new();
    for (cid, reference, images) in roots {
        content.retain(cid, reference).await?;
        all.extend(images);
    }
    drop(guard);
    Ok((all, warnings))
}

/// Blobs, blocks and GC roots that are ready to be stored.
struct Prepared {
    pieces: Vec<archive::StagedBlob>,
    roots: Vec<(Cid, GcRoot, Vec<Imported>)>,
    blocks: Vec<Block>,
    warnings: Vec<String>,
}

fn make(
    store: Store,
    source: ArchiveSource,
    options: &Options,
    progress: Box<dyn FnMut(u64) + Send>,
) -> Result<Prepared, Error> {
    let Options { form, compress, estargz, profile, .. } = *options;
    let compress = if estargz { Some(Compress::None) } else { compress };
    let reading = archive::Options { store: store.clone(), profile, compress, progress };
    let mut images = archive::read(source, reading)?;
    if estargz {
        estargz::convert(&store, profile, &mut images)?;
    }
    let called = called(&mut images, options)?;
    let left_out = called.iter().filter(|image| !image.is_image).count();
    if form != ImportFormat::Layout && left_out > 0 {
        images.warnings.push(format!(
            "{left_out} signatures and other referrers are left out: only --as layout has them"
        ));
    }
    let mut builder = ImageBuilder::new(store, profile, images);
    let made = match form {
        ImportFormat::Layout => vec![layout::make(&mut builder, &called)?],
        ImportFormat::Descriptor => descriptor::make(&mut builder, &called)?,
        ImportFormat::Dockerized => vec![dockerized::make(&mut builder, &called)?],
    };
    let warnings = std::mem::take(&mut builder.images.warnings);
    let mut blocks = Vec::new();
    let mut roots = Vec::new();
    for Made { cid, document, images, files } in made {
        let directories = document.into_iter().flat_map(|document| document.blocks);
        let directories: Vec<Block> = directories.collect();
        let (mut announced, mut below, mut blobs) = (vec![cid], Vec::new(), Vec::new());
        for digest in files {
            let Some((root, is_image)) = builder.file(&digest) else { continue };
            if is_image && root != cid {
                announced.push(root)
            } else {
                below.push(root)
            }
            blobs.push((digest, root.into()));
        }
        below.extend(directories.iter().map(|block| block.cid));
        let named = images.iter().map(|image| ImportedImage {
            reference: image.reference.clone(),
            digest: image.top.digest.clone(),
            size: image.size,
        });
        let reference = GcRoot::new(true, &announced, blobs).of_images(&below, named.collect());
        blocks.extend(directories);
        roots.push((cid, reference, images));
    }
    Ok(Prepared { pieces: builder.into_pieces(), roots, blocks, warnings })
}

/// The CIDv1 of a root, which can be part of a name.
fn cid_v1(cid: &Cid) -> Cid {
    Cid::new_v1(cid.codec(), *cid.hash())
}

/// A reference whose name is one that registries take; without a tag it has the digest of what it names.
fn reference(name: String, tag: Option<&Tag>, digest: &Digest) -> Result<String, Error> {
    let name = registered(name)?;
    Ok(tag.map_or(format!("{name}@{digest}"), |tag| format!("{name}:{tag}")))
}

fn registered(name: String) -> Result<Name, Error> {
    name.parse().map_err(|e: ocipfs_oci::name::Error| Error::Names(e.to_string()))
}
