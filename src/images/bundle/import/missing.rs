//! What is missing of a bundle: the want-list, and for people what each blob of it is.

use std::collections::{HashMap, HashSet};

use ocipfs_oci::Digest;

use super::ReadBundle;
use crate::images::bundle::{BundledImage, MissingBlob, WANT_LIST_TYPE, WantList, WantedImage};

/// An image that is not complete, and the blobs of it that are known to be missing.
pub type Waiting = (BundledImage, HashSet<Digest>);

/// Returns what another bundle has to bring for the images that wait; none if none does. `missing` are the blobs that are listed
/// and not stored, with their sizes.
pub fn want_list(
    bundle: &ReadBundle,
    waiting: &[Waiting],
    mut missing: Vec<(Digest, u64)>,
) -> Option<(WantList, Vec<MissingBlob>)> {
    if waiting.is_empty() {
        return None;
    }
    let listed: HashSet<Digest> = missing.iter().map(|(digest, _)| digest.clone()).collect();
    // What a manifest needs and the bundle does not list has an unknown size.
    let unlisted: HashSet<&Digest> =
        waiting.iter().flat_map(|(_, missing)| missing).filter(|digest| !listed.contains(digest)).collect();
    missing.extend(unlisted.into_iter().map(|digest| (digest.clone(), 0)));
    let blobs = described(waiting, &missing);
    let images = waiting.iter().filter_map(|(image, missing)| {
        let digest = image.manifests.first()?.digest.clone();
        let BundledImage { repository, tag, platforms, .. } = image.clone();
        Some(WantedImage { repository, tag, digest, platforms, missing: missing.len() })
    });
    let list = WantList {
        media_type: WANT_LIST_TYPE.into(),
        bundle: bundle.root.to_string(),
        images: images.collect(),
        bytes: missing.iter().map(|(_, size)| size).sum(),
        blobs: missing.into_iter().map(|(digest, _)| digest).collect(),
    };
    Some((list, blobs))
}

/// Returns whether blobs are missing that the parts of this bundle have, not those of an earlier one.
pub fn is_in_parts(bundle: &ReadBundle, list: &WantList) -> bool {
    let contained: HashSet<&Digest> = bundle.manifest.contained().map(|blob| &blob.digest).collect();
    list.blobs.iter().any(|digest| contained.contains(digest))
}

/// Says what each blob is.
fn described(waiting: &[Waiting], missing: &[(Digest, u64)]) -> Vec<MissingBlob> {
    let mut known: HashMap<&Digest, String> = HashMap::new();
    for (image, needed) in waiting {
        let reference = image.reference();
        for manifest in &image.manifests {
            let kind = if manifest.media_type.is_index() { "index" } else { "manifest" };
            let what = match manifest.subject {
                Some(_) => format!("{kind} of a referrer of {reference}"),
                None => format!("{kind} of {reference}"),
            };
            known.entry(&manifest.digest).or_insert(what);
        }
        for digest in needed {
            known.entry(digest).or_insert_with(|| format!("blob of {reference}"));
        }
    }
    let what = |digest: &Digest| {
        known.get(digest).cloned().unwrap_or_else(|| "blob of a manifest that is missing, too".into())
    };
    let blob = |(digest, size): &(Digest, u64)| MissingBlob {
        digest: digest.clone(),
        size: *size,
        what: what(digest),
    };
    missing.iter().map(blob).collect()
}
