//! `bundle inspect` and `bundle diff`, which read only the manifests of bundles.

use std::collections::{BTreeMap, HashMap, HashSet};

use clap::Args;
use indicatif::HumanBytes;
use ocipfs_oci::Digest;
use serde::Serialize;

use super::read_manifest;
use crate::{
    cli::{Exit, Global, output},
    images::bundle::Manifest,
};

/// Show the images of a bundle, and what it leaves out
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs bundle inspect monday.car
  ocipfs bundle inspect monday.car --json        the whole manifest: images, manifests, blobs and their digests")]
pub struct Inspect {
    /// Bundle, or any part of one; or `-` for standard input
    file: String,
}

/// Show which images a bundle adds to another one, changes or lacks
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs bundle diff monday.car tuesday.car
  ocipfs bundle diff monday.car tuesday.car --json")]
pub struct Diff {
    /// The bundle to compare with
    old: String,
    /// The bundle that is compared
    new: String,
}

/// A bundle as it is shown.
#[derive(Serialize)]
struct Inspected<'a> {
    bundle: &'a str,
    /// Bytes of the blobs that are in it.
    bytes: u64,
    manifest: &'a Manifest,
}

/// The differences of two bundles.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Difference {
    added: Vec<String>,
    changed: Vec<ChangedImage>,
    removed: Vec<String>,
    /// Blobs that only the new one needs, and their bytes.
    new_blobs: usize,
    new_bytes: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct ChangedImage {
    reference: String,
    from: Digest,
    to: Digest,
    /// Referrers that only the new one has.
    new_referrers: usize,
}

pub fn inspect(global: &Global, inspect: &Inspect) -> Result<(), Exit> {
    let (bundle, manifest) = read_manifest(&inspect.file)?;
    let bytes = manifest.contained_bytes();
    let shown = Inspected { bundle: &bundle, bytes, manifest: &manifest };
    output::print(global, &shown, &bundle, || {
        for image in &manifest.images {
            let digest = image.manifests.first().map(|top| top.digest.to_string()).unwrap_or_default();
            let (size, referrers) = (HumanBytes(image.size), image.referrers());
            outln!("{}  {digest}  {size}, {referrers} referrers", image.reference());
        }
        let contained = manifest.contained().count();
        outln!("network   {}", manifest.network);
        outln!("blobs     {contained} ({})", HumanBytes(bytes));
        outln!("left out  {}", manifest.blobs.len() - contained);
        manifest.since.iter().for_each(|since| outln!("since     {since}"));
        manifest.completes.iter().for_each(|bundle| outln!("completes {bundle}"));
    })
}

pub fn diff(global: &Global, diff: &Diff) -> Result<(), Exit> {
    let ((_, old), (_, new)) = (read_manifest(&diff.old)?, read_manifest(&diff.new)?);
    let difference = difference(&old, &new);
    output::print_all(global, &difference, || {
        difference.added.iter().for_each(|reference| outln!("added    {reference}"));
        for ChangedImage { reference, from, to, new_referrers } in &difference.changed {
            match from == to {
                true => outln!("signed   {reference}  {new_referrers} new referrers"),
                false => outln!("changed  {reference}  {from} {to}"),
            }
        }
        difference.removed.iter().for_each(|reference| outln!("removed  {reference}"));
        outln!("{} new blobs, {}", difference.new_blobs, HumanBytes(difference.new_bytes));
    })
}

fn difference(old: &Manifest, new: &Manifest) -> Difference {
    let (before, after) = (images(old), images(new));
    let known: HashSet<&Digest> = old.blobs.iter().map(|blob| &blob.digest).collect();
    let mut difference = Difference::default();
    for (reference, digests) in &after {
        let Some(former) = before.get(reference) else {
            difference.added.push(reference.clone());
            continue;
        };
        let new_referrers = digests.iter().skip(1).filter(|digest| !former.contains(digest)).count();
        if let (Some(from), Some(to)) = (former.first(), digests.first())
            && (from != to || new_referrers > 0)
        {
            let (reference, from, to) = (reference.clone(), (*from).clone(), (*to).clone());
            difference.changed.push(ChangedImage { reference, from, to, new_referrers });
        }
    }
    difference.removed = before.keys().filter(|reference| !after.contains_key(*reference)).cloned().collect();
    let sizes: HashMap<&Digest, u64> = new.blobs.iter().map(|blob| (&blob.digest, blob.size)).collect();
    let added: Vec<u64> =
        sizes.into_iter().filter(|(digest, _)| !known.contains(digest)).map(|(_, size)| size).collect();
    (difference.new_blobs, difference.new_bytes) = (added.len(), added.iter().sum());
    difference
}

/// The digests of the manifests of each image, its own first.
fn images(manifest: &Manifest) -> BTreeMap<String, Vec<&Digest>> {
    let of = |image: &crate::images::bundle::BundledImage| image.reference();
    let images = manifest.images.iter();
    images.map(|image| (of(image), image.manifests.iter().map(|one| &one.digest).collect())).collect()
}
