//! Rows that earlier versions did not write, made from those that they did: once, in one transaction.

use std::collections::HashSet;

use ocipfs_oci::{Digest, Name};
use redb::{ReadableTable, WriteTransaction};

use super::{
    Edit,
    ages::{NEVER_TAGGED, UNREFERENCED},
    changes::{ChangedItem, record_change},
    inspect,
    tables::{BLOBS, MANIFESTS, META, REFERENCED_BY, REPOSITORIES, TAGS, TAGS_OF, damaged, key, parse_key},
};
use crate::{
    content::{Store, StoreError},
    images::MAX_MANIFEST,
};

/// The row of `META` that says that nothing is left to do.
const DONE: &str = "references";
/// Rows that are read at a time.
const PAGE_SIZE: usize = 1000;

/// Makes them, if they are not there yet. What is unreferenced or untagged ages from `now` on.
pub fn run(store: &Store, now: u64) -> Result<(), StoreError> {
    let is_done = store.database().read(|read| match super::tables::open(read, META)? {
        Some(meta) => Ok(meta.get(DONE)?.is_some()),
        None => Ok(false),
    })?;
    if is_done {
        return Ok(());
    }
    store.database().write(|write| {
        let edit = Edit::at(write, now);
        tags(write)?;
        let unread = manifests(store, &edit)?;
        blobs(&edit, &unread)?;
        repositories(&edit)?;
        write.open_table(META)?.insert(DONE, 1)?;
        Ok(())
    })
}

/// A tag counts as pushed when its manifest was.
fn tags(write: &WriteTransaction) -> Result<(), StoreError> {
    let (tags, manifests) = (write.open_table(TAGS)?, write.open_table(MANIFESTS)?);
    let mut tags_of = write.open_table(TAGS_OF)?;
    for row in tags.iter()? {
        let (of, digest) = row?;
        let (name, tag) = of.value().split_once('\0').ok_or_else(|| damaged("a tag without a name"))?;
        let manifest = manifests.get(key(&[name, digest.value()]).as_str())?;
        if let Some(manifest) = manifest {
            tags_of.insert(key(&[name, digest.value(), tag]).as_str(), manifest.value().5)?;
        }
    }
    Ok(())
}

/// Reads what each manifest references; gives the repositories of those that could not be read.
fn manifests(store: &Store, edit: &Edit) -> Result<HashSet<Name>, StoreError> {
    let (mut unread, mut last) = (HashSet::new(), String::new());
    loop {
        let page: Vec<(String, String)> = {
            let table = edit.write.open_table(MANIFESTS)?;
            let rows = table.range(format!("{last}\0").as_str()..)?.take(PAGE_SIZE);
            rows.map(|row| row.map(|(key, row)| (key.value().into(), row.value().2.into())))
                .collect::<Result<_, _>>()?
        };
        let Some(end) = page.last() else { return Ok(unread) };
        last = end.0.clone();
        for (of, media_type) in &page {
            let (name, digest) = parse_key(of)?;
            match references(store, &digest, media_type) {
                Ok(references) => drop(edit.set_references(&name, &digest.to_string(), &references)?),
                Err(why) => {
                    tracing::warn!(repository = %name, %digest, "cannot read a manifest, so unreferenced blobs of its repository are not removed: {why}");
                    unread.insert(name);
                }
            }
            if !edit.has_rows(TAGS_OF, of)? {
                NEVER_TAGGED.start(edit.write, of, edit.now)?;
            }
        }
    }
}

fn references(store: &Store, digest: &Digest, media_type: &str) -> Result<Vec<Digest>, String> {
    let stored = store.blob(digest).map_err(|e| e.to_string())?.ok_or("it is not stored")?;
    if stored.size > MAX_MANIFEST {
        return Err(format!("it has {} bytes", stored.size));
    }
    let file = store.open_file(&stored).map_err(|e| e.to_string())?;
    let bytes = file.read_at(0, stored.size as usize).map_err(|e| e.to_string())?;
    inspect(&bytes, digest, Some(media_type)).map(|inspected| inspected.references)
}

/// Blobs that nothing references wait for their manifest from now on.
fn blobs(edit: &Edit, unread: &HashSet<Name>) -> Result<(), StoreError> {
    let blobs = edit.write.open_table(BLOBS)?;
    for row in blobs.iter()? {
        let of = row?.0.value().to_string();
        if !edit.has_rows(REFERENCED_BY, &of)? && !unread.contains(&parse_key(&of)?.0) {
            UNREFERENCED.start(edit.write, &of, edit.now)?;
        }
    }
    Ok(())
}

/// Repositories without manifests are not listed or published any more.
fn repositories(edit: &Edit) -> Result<(), StoreError> {
    let names: Vec<String> = {
        let names = edit.write.open_table(REPOSITORIES)?;
        names.iter()?.map(|row| row.map(|(name, _)| name.value().to_string())).collect::<Result<_, _>>()?
    };
    for name in names {
        if !edit.has_rows(MANIFESTS, &name)? {
            edit.write.open_table(REPOSITORIES)?.remove(name.as_str())?;
            record_change(edit.write, &name.parse().map_err(damaged)?, &ChangedItem::Everything)?;
        }
    }
    Ok(())
}
