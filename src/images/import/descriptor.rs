//! `--as descriptor`: each descriptor says where its bytes are on IPFS, and the root is such a descriptor.

use std::collections::{BTreeMap, BTreeSet};

use ocipfs_oci::{Descriptor, Digest};

use super::{Called, Error, ImageBuilder, Imported, Made, cid_v1, registered};
use crate::{content::Root, images::archive::ManifestOrIndex};

/// Annotation with the digest of the manifest that an attestation is about.
const ATTESTED: &str = "vnd.docker.reference.digest";

pub fn make(builder: &mut ImageBuilder, called: &[Called]) -> Result<Vec<Made>, Error> {
    let mut known = BTreeMap::new();
    let mut all: Vec<Made> = Vec::new();
    for image in called.iter().filter(|image| image.is_image) {
        let top = enabled(builder, &mut known, &image.top)?;
        let plain = Descriptor::new(top.media_type.clone(), top.digest.clone(), top.size);
        let root = Descriptor { urls: top.urls.clone(), ..plain };
        let mut files = builder.images.below(&top)?;
        let json = serde_json::to_vec(&root).map_err(|e| Error::Names(e.to_string()))?;
        let (digest, file) = builder.made(json)?;
        files.insert(digest);
        let cid = cid_v1(&file.cid);
        if all.iter().any(|made| made.cid == cid) {
            continue;
        }
        let size = builder.size(&top)?;
        let reference = registered(format!("ipfs/{cid}"))?.to_string();
        let images = vec![Imported { reference, cid, top, size }];
        all.push(Made { cid, document: None, images, files });
    }
    Ok(all)
}

fn url(root: &Root) -> Vec<String> {
    vec![format!("ipfs://{}", cid_v1(&root.cid))]
}

/// The descriptor with the place of its bytes, which are others where they name blobs themselves.
fn enabled(
    builder: &mut ImageBuilder,
    known: &mut BTreeMap<Digest, Descriptor>,
    descriptor: &Descriptor,
) -> Result<Descriptor, Error> {
    if let Some(made) = known.get(&descriptor.digest) {
        let Descriptor { digest, size, urls, .. } = made.clone();
        return Ok(Descriptor { digest, size, urls, data: None, ..descriptor.clone() });
    }
    let made = match builder.images.node(descriptor)? {
        None => descriptor.clone(),
        Some(ManifestOrIndex::Manifest(mut manifest)) => {
            manifest.media_type.get_or_insert(descriptor.media_type.clone());
            manifest.config = enabled(builder, known, &manifest.config)?;
            for layer in &mut manifest.layers {
                *layer = enabled(builder, known, layer)?;
            }
            add(builder, &manifest, descriptor)?
        }
        Some(ManifestOrIndex::Index(mut index)) => {
            index.media_type.get_or_insert(descriptor.media_type.clone());
            let before: BTreeSet<Digest> = index.manifests.iter().map(|child| child.digest.clone()).collect();
            for child in &mut index.manifests {
                *child = enabled(builder, known, child)?;
            }
            for child in &mut index.manifests {
                let attested = child.annotations.get_mut(ATTESTED);
                let Some((text, digest)) = attested.and_then(|text| Some((text.parse().ok()?, text))) else {
                    continue;
                };
                if let (true, Some(made)) = (before.contains(&text), known.get(&text)) {
                    *digest = made.digest.to_string();
                }
            }
            add(builder, &index, descriptor)?
        }
    };
    let Some(root) = builder.blob(&made.digest)? else { return Ok(made) };
    let made = Descriptor { urls: url(&root), ..made };
    known.insert(descriptor.digest.clone(), made.clone());
    Ok(made)
}

fn add(
    builder: &mut ImageBuilder,
    node: &impl serde::Serialize,
    as_in: &Descriptor,
) -> Result<Descriptor, Error> {
    let json = serde_json::to_vec(node).map_err(|e| Error::Names(e.to_string()))?;
    Ok(builder.images.add(json, as_in))
}
