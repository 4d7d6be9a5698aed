//! An image that was imported gets another name, under a root of its own: its blobs are there already.

use std::collections::BTreeMap;

use bytes::Bytes;
use ocipfs_node::Cid;
use ocipfs_oci::{Descriptor, Digest, Index, Name, Tag};

use super::{Called, Error, Imported, cid_v1, layout, reference};
use crate::{
    content::{Changes, CidPath, Content, GcRoot, ImportedImage, Root, Store},
    images::{
        Referrer,
        archive::{self, Images, ManifestOrIndex, StagedBlob},
    },
};

/// An image that was imported.
pub struct Tagged {
    /// Its manifest or index.
    pub top: Descriptor,
    /// All manifests and indexes of it and its referrers.
    pub documents: BTreeMap<Digest, Bytes>,
    /// What refers to them.
    pub referrers: Vec<Referrer>,
}

/// Calls an image of what is retained `name:tag`, as a layout; its referrers go with it.
pub async fn tag(
    content: &Content,
    gc_root: &GcRoot,
    image: Tagged,
    name: Name,
    tag: Tag,
) -> Result<Imported, Error> {
    let guard = content.gc_guard().await;
    let profile = content.profile();
    let Tagged { top, documents, referrers } = image;
    let images = Images::of(documents);
    let called = called(&top, &referrers, &name, &tag);
    let entries = layout::entries(&images, &called.iter().collect::<Vec<_>>())?;
    let own = below(content, gc_root, &images, &top).await?;
    let mut blobs = own.clone();
    for referrer in &referrers {
        blobs.extend(below(content, gc_root, &images, &referrer.top).await?);
    }
    let mut folder = Changes::default();
    for (digest, (root, _)) in &blobs {
        folder.set(&format!("{name}/{}", archive::blob_path(digest)), *root);
    }
    let index = serde_json::to_vec(&Index::new(entries)).map_err(|e| Error::Names(e.to_string()))?;
    let mut pieces = Vec::new();
    for (file, bytes) in [("index.json", index), ("oci-layout", layout::OCI_LAYOUT.to_vec())] {
        let digest = Digest::sha256_of(&bytes);
        let put = move |store: &Store| archive::put_as(store, profile, bytes.into(), &digest);
        let piece = content.store().run(put).await?;
        folder.set(&format!("{name}/{file}"), piece.root);
        pieces.push(piece);
    }
    let document = folder.document(profile)?;
    let cid = cid_v1(&document.root.cid);
    let reference = reference(format!("ipfs/{cid}/{name}"), Some(&tag), &top.digest)?;
    let blocks = document.blocks;
    let mut below: Vec<Cid> = pieces.iter().map(|piece| piece.root.cid).collect();
    let directories: Vec<Cid> = blocks.iter().map(|block| block.cid).collect();
    content.store().run(move |store| StagedBlob::store_all(store, &pieces, &blocks)).await?;
    content.node().arrived(&directories);
    below.extend(directories);
    let size = own.values().map(|(root, _)| root.size).sum();
    let roots: Vec<_> = std::iter::once(cid).chain(blobs.values().map(|(root, _)| root.cid)).collect();
    let files = blobs.into_iter().map(|(digest, (_, at))| (digest, at)).collect();
    let named = ImportedImage { reference: reference.clone(), digest: top.digest.clone(), size };
    let root_reference = GcRoot::new(true, &roots, files).of_images(&below, vec![named]);
    content.retain(cid, root_reference).await?;
    drop(guard);
    Ok(Imported { reference, cid, top, size })
}

/// The image and its referrers, as an import calls them.
fn called(top: &Descriptor, referrers: &[Referrer], name: &Name, tag: &Tag) -> Vec<Called> {
    let image = Called { name: name.clone(), tag: Some(tag.clone()), top: top.clone(), is_image: true };
    let about = referrers.iter().map(|referrer| {
        // Where the image itself has this tag now, the referrer is untagged.
        let own = referrer.tag.clone().filter(|own| own != tag);
        Called { name: name.clone(), tag: own, top: referrer.top.clone(), is_image: false }
    });
    std::iter::once(image).chain(about).collect()
}

/// The blobs below a manifest or index, of those that are retained.
async fn below(
    content: &Content,
    gc_root: &GcRoot,
    images: &Images,
    top: &Descriptor,
) -> Result<BTreeMap<Digest, (Root, CidPath)>, Error> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![top.clone()];
    while let Some(next) = waiting.pop() {
        let at = gc_root.blobs.iter().find(|(digest, _)| *digest == next.digest).map(|(_, at)| at.clone());
        let Some(at) = at.filter(|_| !found.contains_key(&next.digest)) else { continue };
        let root = content.root_of(at.root()).await?;
        found.insert(next.digest.clone(), (root, at));
        match images.node(&next)? {
            Some(ManifestOrIndex::Index(index)) => waiting.extend(index.manifests),
            Some(ManifestOrIndex::Manifest(manifest)) => waiting.extend(manifest.blobs().cloned()),
            None => {}
        }
    }
    Ok(found)
}
