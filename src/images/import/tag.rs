//! An image that was imported gets another name, under a root of its own: its blobs are there already.

use std::collections::BTreeMap;

use ocipfs_node::Cid;
use ocipfs_oci::{Descriptor, Digest, Index, Name, Tag};

use super::{Error, Imported, cid_v1, layout, reference};
use crate::{
    content::{Changes, CidPath, Content, GcRoot, ImportedImage, Root, Store},
    images::archive::{self, MAX_MANIFEST, ManifestOrIndex, StagedBlob},
};

/// Calls the image `top` of what is retained `name:tag`, as a layout.
pub async fn tag(
    content: &Content,
    gc_root: &GcRoot,
    top: Descriptor,
    name: Name,
    tag: Tag,
) -> Result<Imported, Error> {
    let guard = content.gc_guard().await;
    let profile = content.profile();
    let blobs = below(content, gc_root, &top).await?;
    let mut folder = Changes::default();
    for (digest, (root, _)) in &blobs {
        folder.set(&format!("{name}/{}", archive::blob_path(digest)), *root);
    }
    let mut entry = top.clone();
    entry.annotations.insert(layout::REF_NAME.into(), tag.to_string());
    let index = serde_json::to_vec(&Index::new(vec![entry])).map_err(|e| Error::Names(e.to_string()))?;
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
    let size = blobs.values().map(|(root, _)| root.size).sum();
    let roots: Vec<_> = std::iter::once(cid).chain(blobs.values().map(|(root, _)| root.cid)).collect();
    let files = blobs.into_iter().map(|(digest, (_, at))| (digest, at)).collect();
    let named = ImportedImage { reference: reference.clone(), digest: top.digest.clone(), size };
    let root_reference = GcRoot::new(true, &roots, files).of_images(&below, vec![named]);
    content.retain(cid, root_reference).await?;
    drop(guard);
    Ok(Imported { reference, cid, top, size })
}

/// The blobs of an image, of those that are retained.
async fn below(
    content: &Content,
    gc_root: &GcRoot,
    top: &Descriptor,
) -> Result<BTreeMap<Digest, (Root, CidPath)>, Error> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![top.clone()];
    while let Some(next) = waiting.pop() {
        let at = gc_root.blobs.iter().find(|(digest, _)| *digest == next.digest).map(|(_, at)| at.clone());
        let Some(at) = at.filter(|_| !found.contains_key(&next.digest)) else { continue };
        let root = content.root_of(at.root()).await?;
        found.insert(next.digest.clone(), (root, at.clone()));
        if !ManifestOrIndex::is(&next) {
            continue;
        }
        let node = ManifestOrIndex::parse(&next, &content.read(&at, MAX_MANIFEST).await?)?;
        match node {
            ManifestOrIndex::Index(index) => waiting.extend(index.manifests),
            ManifestOrIndex::Manifest(manifest) => waiting.extend(manifest.blobs().cloned()),
        }
    }
    Ok(found)
}
