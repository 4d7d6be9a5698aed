//! `--as descriptor`: each descriptor says where its bytes are on IPFS, and the root is such a descriptor.
//!
//! The documents have the bytes that `nerdctl push --all-platforms ipfs://` gives them, so that both make the same CIDs of an
//! image: the media types of OCI, and the JSON of Go. They differ where an index has attestations, which name the manifests as
//! they are called now.

use std::collections::{BTreeMap, BTreeSet};

use ocipfs_oci::{Descriptor, Digest};
use serde::Serialize;

use super::{Called, Error, ImageBuilder, Imported, Made, cid_v1, registered};
use crate::{
    content::Root,
    images::archive::{ManifestOrIndex, attested},
};

pub fn make(builder: &mut ImageBuilder, called: &[Called]) -> Result<Vec<Made>, Error> {
    let mut known = BTreeMap::new();
    let mut all: Vec<Made> = Vec::new();
    for image in called.iter().filter(|image| image.is_image) {
        let top = enabled(builder, &mut known, &image.top)?;
        let plain = Descriptor::new(top.media_type.clone(), top.digest.clone(), top.size);
        let root = Descriptor { urls: top.urls.clone(), ..plain };
        let mut files = builder.images.below(&top)?;
        let (digest, file) = builder.made(go_json(&root)?)?;
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
        let media_type = descriptor.media_type.to_oci();
        let data = descriptor.data.clone().filter(|_| digest == descriptor.digest);
        return Ok(Descriptor { media_type, digest, size, urls, data, ..descriptor.clone() });
    }
    let made = match builder.images.node(descriptor)? {
        None => descriptor.clone(),
        Some(ManifestOrIndex::Manifest(mut manifest)) => {
            manifest.media_type = manifest.media_type.map(|media_type| media_type.to_oci());
            manifest.config = enabled(builder, known, &manifest.config)?;
            for layer in &mut manifest.layers {
                *layer = enabled(builder, known, layer)?;
            }
            add(builder, &manifest, descriptor)?
        }
        Some(ManifestOrIndex::Index(mut index)) => {
            index.media_type = index.media_type.map(|media_type| media_type.to_oci());
            let before: BTreeSet<Digest> = index.manifests.iter().map(|child| child.digest.clone()).collect();
            for child in &mut index.manifests {
                *child = enabled(builder, known, child)?;
            }
            attested::rename(&mut index.manifests, |digest| {
                known.get(digest).filter(|_| before.contains(digest)).map(|made| made.digest.clone())
            });
            add(builder, &index, descriptor)?
        }
    };
    let made = Descriptor { media_type: made.media_type.to_oci(), ..made };
    let Some(root) = builder.blob(&made.digest)? else { return Ok(made) };
    let made = Descriptor { urls: url(&root), ..made };
    known.insert(descriptor.digest.clone(), made.clone());
    Ok(made)
}

fn add(builder: &mut ImageBuilder, node: &impl Serialize, as_in: &Descriptor) -> Result<Descriptor, Error> {
    Ok(builder.images.add(go_json(node)?, as_in))
}

/// JSON as Go writes it, which escapes what HTML has a meaning for, and what ends a line in JavaScript.
fn go_json(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    let json = serde_json::to_string(value).map_err(|e| Error::Names(e.to_string()))?;
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => escaped.push(other),
        }
    }
    Ok(escaped.into_bytes())
}
