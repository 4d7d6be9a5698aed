//! `bundle inspect` and `bundle diff`, which read only the manifests of bundles.

use std::collections::{BTreeMap, HashMap, HashSet};

use clap::Args;
use indicatif::HumanBytes;
use ocipfs_node::Cid;
use ocipfs_oci::Digest;
use serde::Serialize;

use super::{STREAM, described, open, read_manifest, unreadable};
use crate::{
    cli::{Exit, Global, output, output::printable},
    control::{Failure, bundle_failure},
    images::{
        bundle::{self, Manifest},
        input::Input,
    },
};

/// Show the images of a bundle, and what it leaves out
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  ocipfs bundle inspect monday.car
  ocipfs bundle inspect dvd.car.001 dvd.car.002  which parts of the bundle these are
  ocipfs bundle inspect monday.car --json        the whole manifest: images, manifests, blobs and their digests")]
pub struct Inspect {
    /// Bundle, or parts of one; or `-` for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
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
    parts: &'a [Part],
    manifest: &'a Manifest,
}

/// A file, and which part of the bundle it is.
#[derive(Serialize)]
struct Part {
    file: String,
    /// None where its end is missing or is not read.
    part: Option<u32>,
    last: Option<bool>,
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
    let (bundle, manifest, parts) = read_parts(&inspect.files)?;
    let bytes = manifest.contained_bytes();
    let shown = Inspected { bundle: &bundle, bytes, parts: &parts, manifest: &manifest };
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
        part_lines(&parts).iter().for_each(|part| outln!("part      {part}"));
        manifest.since.iter().for_each(|since| outln!("since     {since}"));
        manifest.completes.iter().for_each(|bundle| outln!("completes {bundle}"));
    })
}

/// Reads the manifest of a bundle, and which parts of it the files are.
fn read_parts(files: &[String]) -> Result<(String, Manifest, Vec<Part>), Exit> {
    let (mut first, mut parts): (Option<(Cid, Manifest)>, _) = (None, Vec::new());
    for file in files {
        let input = open(file)?;
        let opened = match &input {
            Input::File(opened) => Some(opened.try_clone().map_err(|error| unreadable(file, &error))?),
            Input::Stream(_) => None,
        };
        let (root, manifest) = bundle::read_manifest(input, &described(file)).map_err(bundle_failure)?;
        let end = opened.map(|opened| bundle::read_end(&opened, &root)).transpose();
        let end = end.map_err(|error| unreadable(file, &error))?.flatten();
        let (part, last) = (end.as_ref().map(|end| end.part), end.map(|end| end.last));
        parts.push(Part { file: file.clone(), part, last });
        match &first {
            Some((known, _)) if *known != root => {
                return Err(Failure::new(format!("{file} is part of another bundle than {}", files[0]))
                    .hint("give the parts of one bundle; `ocipfs bundle diff` compares two")
                    .into());
            }
            Some(_) => {}
            None => first = Some((root, manifest)),
        }
    }
    let (root, manifest) = first.ok_or_else(|| Failure::new("no bundle was given"))?;
    Ok((root.to_string(), manifest, parts))
}

/// Says which parts the files are; nothing of a bundle in one file.
fn part_lines(parts: &[Part]) -> Vec<String> {
    let total = parts.iter().find(|part| part.last == Some(true)).and_then(|part| part.part);
    if total == Some(1) {
        return Vec::new();
    }
    let of = total.map_or_else(|| "more".into(), |total| total.to_string());
    let text = |Part { file, part, .. }: &Part| match part {
        Some(part) => format!("{part} of {of}: {}", printable(file)),
        None if file == STREAM => "unknown: the end of standard input is not read".into(),
        None => format!("unknown, since its end is missing: {}", printable(file)),
    };
    parts.iter().map(text).collect()
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
