//! Imports bundles: their blocks become blobs, and an image becomes part of its repository once all of it is here.
//!
//! Blobs are stored as they come, as cached content under the CID of the bundle. So an import that was killed goes on where it
//! was, and an image that waits for another bundle keeps what it has.

mod complete;
mod expansion;
mod missing;
mod parts;

use std::collections::HashSet;

use ocipfs_node::Cid;
use ocipfs_oci::Digest;

use super::{BundledImage, Error, Manifest, MissingBlob, NameRecord, WantList};
use crate::{
    content::{Content, Store, StoreError},
    images::{
        input::Input,
        repository::{Repositories, TagConflict},
    },
};
use complete::Completer;
use expansion::Expansion;
use missing::{is_in_parts, want_list};
use parts::Reading;

/// A file that is imported.
pub struct BundleFile {
    /// What errors call it.
    pub what: String,
    /// Its bytes.
    pub input: Input,
    /// Their number, where it is known.
    pub size: Option<u64>,
}

/// A bundle of which at least one part was read.
#[derive(Clone, Debug)]
pub struct ReadBundle {
    /// The CID of its manifest.
    pub root: Cid,
    /// What is in it.
    pub manifest: Manifest,
    /// Which parts were not read. It matters only while something is missing.
    pub missing_parts: Option<String>,
}

/// Why a bundle must not be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub why: String,
    /// What helps.
    pub hint: &'static str,
}

/// What became of bundles.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    /// The bundles, in order.
    pub bundles: Vec<Cid>,
    /// The images that are complete and in their repositories.
    pub images: Vec<BundledImage>,
    /// What is missing of others.
    pub missing: Option<WantList>,
    /// What each blob of that is.
    pub missing_blobs: Vec<MissingBlob>,
    /// Images whose tags point elsewhere, and those tags.
    pub conflicts: Vec<(String, TagConflict)>,
    /// What is wrong with the files.
    pub problems: Vec<String>,
    /// The records of names in the bundles. Blocks of the trees that they name are stored.
    pub records: Vec<NameRecord>,
}

/// How bundles are imported.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether tags that point at other manifests are moved.
    pub moves_tags: bool,
    /// How many bytes may be written for each byte of the files; none for no limit.
    pub max_expansion: Option<u64>,
}

/// Imports bundles, or parts of them, in any order. `check` may refuse a bundle before anything of it is stored.
pub async fn import(
    content: &Content,
    repositories: &Repositories,
    files: Vec<BundleFile>,
    Options { moves_tags, max_expansion }: Options,
    check: impl Fn(&ReadBundle) -> Result<(), Refusal> + Send + 'static,
    progress: impl FnMut(u64) + Send + 'static,
) -> Result<Imported, Error> {
    let _guard = content.gc_guard().await;
    let total = files.iter().map(|file| file.size).sum();
    let expansion = Expansion::new(max_expansion, total);
    let reading = Reading::new(content.clone(), Box::new(check), Box::new(progress), expansion);
    let read = tokio::task::spawn_blocking(move || reading.read(files)).await;
    let (bundles, problems) = read.map_err(|_| StoreError::Stopped)??;
    let mut imported = Imported { problems, ..Imported::default() };
    for bundle in bundles {
        take(content, repositories, &bundle, moves_tags, &mut imported).await?;
        imported.bundles.push(bundle.root);
        imported.records.extend(bundle.manifest.records);
    }
    Ok(imported)
}

/// Adds the complete images of a bundle to their repositories.
async fn take(
    content: &Content,
    repositories: &Repositories,
    bundle: &ReadBundle,
    moves_tags: bool,
    imported: &mut Imported,
) -> Result<(), Error> {
    let completer = Completer::new(content, bundle).await?;
    let (mut waiting, mut is_done) = (Vec::new(), true);
    for image in &bundle.manifest.images {
        let complete = match completer.image(image).await? {
            Ok(complete) => complete,
            Err(missing) => {
                waiting.push((image.clone(), missing));
                continue;
            }
        };
        let (repositories, name) = (repositories.clone(), image.repository.clone());
        let commit = move |_: &Store| repositories.commit_image(&name, complete, moves_tags);
        match content.store().run(commit).await? {
            None => imported.images.push(image.clone()),
            Some(conflict) => {
                is_done = false;
                imported.conflicts.push((image.reference(), conflict));
            }
        }
    }
    if let Some((list, blobs)) = want_list(bundle, &waiting, completer.missing()) {
        if is_in_parts(bundle, &list) {
            imported.problems.extend(bundle.missing_parts.clone());
        }
        let known: HashSet<Digest> = imported.missing_blobs.iter().map(|blob| blob.digest.clone()).collect();
        imported.missing_blobs.extend(blobs.into_iter().filter(|blob| !known.contains(&blob.digest)));
        match &mut imported.missing {
            Some(all) => all.merge(list),
            none => *none = Some(list),
        }
    } else if is_done {
        release(content, bundle).await?;
    }
    Ok(())
}

/// Releases the blobs, which repositories hold now.
async fn release(content: &Content, bundle: &ReadBundle) -> Result<(), Error> {
    let completed = bundle.manifest.completes.as_deref().and_then(|cid| Cid::try_from(cid).ok());
    for key in [bundle.root].into_iter().chain(completed) {
        // A manifest may name any CID: what a command added stays.
        if content.gc_root(&key).await?.is_some_and(|gc_root| !gc_root.is_kept) {
            content.release(&key).await?;
        }
    }
    Ok(())
}
