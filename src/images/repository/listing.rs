//! The entries of a repository's `index.json`, read at one moment: all of them, or those that changed.

use std::collections::BTreeSet;

use ocipfs_oci::Name;
use redb::{AccessGuard, ReadOnlyTable, ReadTransaction, Value};

use super::{
    Pushed, Repositories,
    changes::{ChangedItem, changes_after},
    read::pushed,
    tables::{
        MANIFESTS, ManifestRow, NEXT_CHANGE, REFERENCED_BY, REPOSITORIES, TAGS, TAGS_OF, key, last_part,
        open, rows_below,
    },
};
use crate::content::StoreError;

/// Entries of an `index.json`, in its order: one for each tag, then, by its digest, one for each manifest that nothing else
/// leads to.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    /// The number of the last change of any repository that it takes up.
    pub last_change: u64,
    /// The tag or digest of each, and the manifest.
    pub entries: Vec<(String, T)>,
}

/// Whether the text of an entry is a digest, which is behind all tags.
pub fn is_digest(text: &str) -> bool {
    text.contains(':')
}

impl Repositories {
    /// Returns all entries of a repository; none where it does not exist.
    pub fn listing(&self, name: &Name) -> Result<Option<Listing<Pushed>>, StoreError> {
        self.read(|read| {
            let Some(last_change) = moment(read, name)? else { return Ok(None) };
            let rows = ListingRows::open(read)?;
            let mut entries = Vec::new();
            for text in rows.parts(&rows.tags, name)?.into_iter().chain(rows.parts(&rows.manifests, name)?) {
                let manifest = rows.entry(name, &text)?;
                entries.extend(manifest.map(|manifest| (text, manifest)));
            }
            Ok(Some(Listing { last_change, entries }))
        })
    }

    /// Returns the entries that may have changed after a number, without a manifest where the entry is gone. None
    /// where all are to be read, or where the repository does not exist.
    pub fn changed_entries(
        &self,
        name: &Name,
        after: u64,
    ) -> Result<Option<Listing<Option<Pushed>>>, StoreError> {
        self.read(|read| {
            let Some(last_change) = moment(read, name)? else { return Ok(None) };
            let mut texts = BTreeSet::new();
            for change in changes_after(read, name, after)? {
                let text = match change.item {
                    ChangedItem::Entry(text) => text,
                    ChangedItem::Manifest { blob, .. } => blob.digest.to_string(),
                    ChangedItem::Blob { .. } => continue,
                    ChangedItem::Everything => return Ok(None),
                };
                texts.insert((is_digest(&text), text));
            }
            let rows = ListingRows::open(read)?;
            let mut entries = Vec::new();
            for (_, text) in texts {
                let manifest = rows.entry(name, &text)?;
                entries.push((text, manifest));
            }
            Ok(Some(Listing { last_change, entries }))
        })
    }
}

/// Returns the number of the last change; none where the repository does not exist.
fn moment(read: &ReadTransaction, name: &Name) -> Result<Option<u64>, StoreError> {
    let Some(repositories) = open(read, REPOSITORIES)? else { return Ok(None) };
    if repositories.get(name.as_str())?.is_none() {
        return Ok(None);
    }
    let next = open(read, NEXT_CHANGE)?.map(|next| next.get(())).transpose()?.flatten();
    Ok(Some(next.map_or(0, |next| next.value() - 1)))
}

type Table<V> = Option<ReadOnlyTable<&'static str, V>>;

/// The tables that entries are made of.
struct ListingRows {
    tags: Table<&'static str>,
    manifests: Table<ManifestRow<'static>>,
    tags_of: Table<u64>,
    referenced_by: Table<()>,
}

impl ListingRows {
    fn open(read: &ReadTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            tags: open(read, TAGS)?,
            manifests: open(read, MANIFESTS)?,
            tags_of: open(read, TAGS_OF)?,
            referenced_by: open(read, REFERENCED_BY)?,
        })
    }

    /// The manifest that a tag points at, or that has an entry by its digest.
    fn entry(&self, name: &Name, text: &str) -> Result<Option<Pushed>, StoreError> {
        if !is_digest(text) {
            let digest = get(&self.tags, &[name.as_str(), text])?;
            return digest.map_or(Ok(None), |digest| self.manifest(name, digest.value()));
        }
        let Some(manifest) = self.manifest(name, text)? else { return Ok(None) };
        let of = key(&[name.as_str(), text]);
        if below(&self.tags_of, &of)?.next().is_some() {
            return Ok(None);
        }
        // What refers to something is found by its entry alone.
        let is_listed = manifest.subject.is_some() || !self.is_in_an_index(name, &of)?;
        Ok(is_listed.then_some(manifest))
    }

    fn manifest(&self, name: &Name, digest: &str) -> Result<Option<Pushed>, StoreError> {
        let row = get(&self.manifests, &[name.as_str(), digest])?;
        row.map(|row| pushed(digest, row.value())).transpose()
    }

    fn is_in_an_index(&self, name: &Name, of: &str) -> Result<bool, StoreError> {
        for by in below(&self.referenced_by, of)? {
            let by = self.manifest(name, last_part(by?.0.value()))?;
            if by.is_some_and(|by| by.media_type.is_index()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The last parts of the keys that a table has of a repository.
    fn parts<V: Value + 'static>(&self, table: &Table<V>, name: &Name) -> Result<Vec<String>, StoreError> {
        below(table, name.as_str())?.map(|row| Ok(last_part(row?.0.value()).to_string())).collect()
    }
}

fn get<'t, V: Value + 'static>(
    table: &'t Table<V>,
    parts: &[&str],
) -> Result<Option<AccessGuard<'t, V>>, StoreError> {
    count_row();
    Ok(table.as_ref().map(|table| table.get(key(parts).as_str())).transpose()?.flatten())
}

type Row<'t, V> = redb::Result<(AccessGuard<'t, &'static str>, AccessGuard<'t, V>)>;

fn below<'t, V: Value + 'static>(
    table: &'t Table<V>,
    of: &str,
) -> Result<impl Iterator<Item = Row<'t, V>>, StoreError> {
    let rows = table.as_ref().map(|table| rows_below(table, of, "")).transpose()?;
    Ok(rows.into_iter().flatten().inspect(|_| count_row()))
}

#[cfg(not(test))]
fn count_row() {}

#[cfg(test)]
fn count_row() {
    ROWS.with(|rows| rows.set(rows.get() + 1));
}

#[cfg(test)]
thread_local! {
    /// Rows that were read.
    pub static ROWS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}
