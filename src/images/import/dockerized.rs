//! `--as dockerized`: `<name>/manifests/latest-v2` and `<name>/blobs/sha256:<hex>`, as image2ipfs has them.

use std::collections::BTreeSet;

use ocipfs_oci::{Algorithm, Descriptor, Manifest, MediaType, media_type};

use super::{Called, Error, ImageBuilder, Imported, Made, cid_v1, reference};
use crate::{content::Changes, images::archive::ManifestOrIndex};

const MANIFEST: MediaType = MediaType::from_static(media_type::DOCKER_MANIFEST);
const CONFIG: MediaType = MediaType::from_static(media_type::DOCKER_CONFIG);
const GZIP: MediaType = MediaType::from_static(media_type::DOCKER_LAYER_TAR_GZIP);

pub fn make(builder: &mut ImageBuilder, called: &[Called]) -> Result<Made, Error> {
    let (mut folder, mut files) = (Changes::default(), BTreeSet::new());
    let mut tops: Vec<(&Called, Descriptor)> = Vec::new();
    for image in called.iter().filter(|image| image.is_image) {
        if let Some((other, _)) = tops.iter().find(|(other, _)| other.name == image.name) {
            if other.top.digest == image.top.digest {
                continue;
            }
            return Err(refused(
                image,
                "its repository has another image, and only the tag latest is available",
            ));
        }
        let mut manifest = single(builder, image, &image.top)?;
        schema2(image, &mut manifest)?;
        for blob in manifest.blobs() {
            let Some(root) = builder.blob(&blob.digest)? else { continue };
            folder.set(&format!("{}/blobs/{}", image.name, blob.digest), root);
            files.insert(blob.digest.clone());
        }
        let json = serde_json::to_vec(&manifest).map_err(|e| refused(image, &e.to_string()))?;
        let top = builder.images.add(json, &Descriptor::new(MANIFEST, image.top.digest.clone(), 0));
        if let Some(root) = builder.blob(&top.digest)? {
            folder.set(&format!("{}/manifests/latest-v2", image.name), root);
            files.insert(top.digest.clone());
        }
        tops.push((image, top));
    }
    let document = folder.document(builder.profile)?;
    let cid = cid_v1(&document.root.cid);
    let hash = base32(&cid.hash().to_bytes());
    let images = tops.into_iter().map(|(image, top)| {
        let latest = ocipfs_oci::Tag::latest();
        let reference = reference(format!("{hash}/{}", image.name), Some(&latest), &top.digest)?;
        Ok(Imported { reference, cid, size: builder.size(&top)?, top })
    });
    let images = images.collect::<Result<_, Error>>()?;
    Ok(Made { cid, document: Some(document), images, files })
}

fn refused(image: &Called, why: &str) -> Error {
    let image = match &image.tag {
        Some(tag) => format!("{}:{tag}", image.name),
        None => format!("{}@{}", image.name, image.top.digest),
    };
    Error::ImportFormat { image, why: why.into() }
}

/// The one manifest of an image; attestations do not count.
fn single(builder: &ImageBuilder, image: &Called, top: &Descriptor) -> Result<Manifest, Error> {
    match builder.images.node(top)? {
        Some(ManifestOrIndex::Manifest(manifest)) => Ok(*manifest),
        Some(ManifestOrIndex::Index(index)) => {
            let is_image = |child: &&Descriptor| {
                let platform = child.platform.as_ref();
                let is_known = platform.is_none_or(|platform| platform.os != "unknown");
                is_known && builder.images.documents.contains_key(&child.digest)
            };
            let children: Vec<&Descriptor> = index.manifests.iter().filter(is_image).collect();
            match children[..] {
                [child] => single(builder, image, child),
                _ => Err(refused(image, "it has several platforms, and a dockerized image has one")),
            }
        }
        None => Err(refused(image, "not an image")),
    }
}

/// Turns a manifest into one of Docker's schema 2, which knows neither annotations nor zstd.
fn schema2(image: &Called, manifest: &mut Manifest) -> Result<(), Error> {
    let sha256 = |blob: &Descriptor| match blob.digest.algorithm() {
        Algorithm::Sha256 => Ok(Descriptor::new(CONFIG, blob.digest.clone(), blob.size)),
        _ => Err(refused(image, "expected sha256 for all of its blobs")),
    };
    let config = sha256(&manifest.config)?;
    let mut layers = Vec::new();
    for layer in &manifest.layers {
        let media_type = match layer.media_type.as_str() {
            media_type::OCI_LAYER_TAR_GZIP | media_type::DOCKER_LAYER_TAR_GZIP => GZIP,
            media_type::OCI_LAYER_TAR | media_type::DOCKER_LAYER_TAR => {
                MediaType::from_static(media_type::DOCKER_LAYER_TAR)
            }
            other => {
                return Err(refused(image, &format!("Docker schema 2 has no layer of media type {other}")));
            }
        };
        layers.push(Descriptor { media_type, ..sha256(layer)? });
    }
    *manifest = Manifest { media_type: Some(MANIFEST), ..Manifest::new(config, layers) };
    Ok(())
}

/// RFC 4648, in lower case and without padding.
fn base32(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let five_bits = |chunk: &[u8]| {
        let bits =
            chunk.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte)) << (40 - 8 * chunk.len());
        let digits = (chunk.len() * 8).div_ceil(5);
        (0..digits).map(move |i| char::from(DIGITS[(bits >> (35 - 5 * i) & 31) as usize])).collect::<String>()
    };
    bytes.chunks(5).map(five_bits).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn base32_encoding_matches_rfc_4648() {
        for (bytes, text) in
            [("", ""), ("f", "my"), ("fo", "mzxq"), ("foob", "mzxw6yq"), ("foobar", "mzxw6ytboi")]
        {
            assert_eq!(super::base32(bytes.as_bytes()), text);
        }
    }
}
