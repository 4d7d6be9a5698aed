//! Changes that are not yet in the published root: one row for each blob, manifest or tag, so that the rows
//! stay bounded on a node that does not publish.

mod rows;

use ocipfs_oci::Name;
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::{
    Repositories, RepositoryBlob,
    tables::{CHANGES, ChangeRow, LAST_CHANGES, STALE, damaged, open, repository_blob, rows_below},
};
use crate::content::StoreError;
#[cfg(test)]
pub use rows::MERGED;
use rows::{Rows, last_key, stale_key};

/// More rows are merged to one for each repository. Those are not counted, so that each merge settles as many.
const MAX_CHANGES: u64 = if cfg!(test) { 40 } else { 100_000 };

const BLOB: u8 = b'b';
const MANIFEST: u8 = b'm';
const ENTRY: u8 = b't';
const EVERYTHING: u8 = b'e';

/// Change of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The repository.
    pub repository: Name,
    /// Its kind.
    pub item: ChangedItem,
}

/// Kind of a change. A digest can be both a blob and a manifest, and one of them can go while the other
/// stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangedItem {
    /// A blob came or went.
    Blob {
        /// The blob.
        blob: RepositoryBlob,
        /// Whether it came.
        added: bool,
    },
    /// A manifest came or went.
    Manifest {
        /// Its bytes.
        blob: RepositoryBlob,
        /// Whether it came.
        added: bool,
    },
    /// The entry of a tag in `index.json` changed, or that of a manifest by its digest.
    Entry(String),
    /// So much changed that all rows are read again.
    Everything,
}

impl ChangedItem {
    fn as_row<'a>(&'a self, repository: &'a str, digest: &'a str, root: &'a [u8]) -> ChangeRow<'a> {
        match self {
            Self::Blob { blob, added } => (repository, BLOB, *added, digest, blob.size, root),
            Self::Manifest { blob, added } => (repository, MANIFEST, *added, digest, blob.size, root),
            Self::Entry(text) => (repository, ENTRY, true, text, 0, &[]),
            Self::Everything => (repository, EVERYTHING, true, "", 0, &[]),
        }
    }

    fn from_row((_, kind, added, digest, size, root): ChangeRow) -> Result<Self, StoreError> {
        Ok(match kind {
            BLOB => Self::Blob { blob: repository_blob(digest, size, root)?, added },
            MANIFEST => Self::Manifest { blob: repository_blob(digest, size, root)?, added },
            // Earlier versions do not say which tag changed.
            ENTRY if digest.is_empty() => Self::Everything,
            ENTRY => Self::Entry(digest.into()),
            EVERYTHING => Self::Everything,
            kind => return Err(damaged(format!("change {kind}"))),
        })
    }

    /// The blob or manifest that came or went.
    pub fn blob(&self) -> Option<&RepositoryBlob> {
        match self {
            Self::Blob { blob, .. } | Self::Manifest { blob, .. } => Some(blob),
            Self::Entry(_) | Self::Everything => None,
        }
    }
}

/// Notes a change in place of an earlier one of the same thing.
pub fn record_change(
    write: &WriteTransaction,
    repository: &Name,
    item: &ChangedItem,
) -> Result<(), StoreError> {
    let mut rows = Rows::open(write)?;
    // Again, with a new number: a reader of all of it may have read it before this.
    if rows.is_stale(repository.as_str())? {
        return rows.add_stale(repository.as_str());
    }
    let digest = item.blob().map(|blob| blob.digest.to_string()).unwrap_or_default();
    let root = item.blob().map(|blob| blob.root.to_bytes()).unwrap_or_default();
    rows.add(item.as_row(repository.as_str(), &digest, &root))?;
    if rows.changes.len()? > MAX_CHANGES { rows.merge() } else { Ok(()) }
}

/// The oldest changes, each with its number.
pub fn changes(repositories: &Repositories, most: usize) -> Result<Vec<(u64, Change)>, StoreError> {
    repositories.read(|read| {
        let mut all = Vec::new();
        if let Some(table) = open(read, CHANGES)? {
            for row in table.iter()?.take(most) {
                let (number, row) = row?;
                all.push((number.value(), change(row.value())?));
            }
        }
        if let Some(table) = open(read, STALE)? {
            for row in table.iter()?.take(most) {
                let (number, repository) = row?;
                let repository = repository.value().parse().map_err(damaged)?;
                all.push((number.value(), Change { repository, item: ChangedItem::Everything }));
            }
        }
        all.sort_by_key(|(number, _)| *number);
        all.truncate(most);
        Ok(all)
    })
}

fn change(row: ChangeRow) -> Result<Change, StoreError> {
    Ok(Change { repository: row.0.parse().map_err(damaged)?, item: ChangedItem::from_row(row)? })
}

/// Returns the changes of one repository after a number.
pub fn changes_of(
    repositories: &Repositories,
    repository: &Name,
    after: u64,
) -> Result<Vec<Change>, StoreError> {
    repositories.read(|read| changes_after(read, repository, after))
}

/// Returns the changes within a transaction; if too much changed, only that fact.
pub(super) fn changes_after(
    read: &ReadTransaction,
    repository: &Name,
    after: u64,
) -> Result<Vec<Change>, StoreError> {
    let (Some(last), Some(changes)) = (open(read, LAST_CHANGES)?, open(read, CHANGES)?) else {
        return Ok(Vec::new());
    };
    let stale = last.get(stale_key(repository.as_str()).as_str())?;
    if stale.is_some_and(|number| number.value() > after) {
        return Ok(vec![Change { repository: repository.clone(), item: ChangedItem::Everything }]);
    }
    let mut all = Vec::new();
    for row in rows_below(&last, repository.as_str(), "")? {
        let number = row?.1.value();
        if number > after
            && let Some(row) = changes.get(number)?
        {
            all.push(change(row.value())?);
        }
    }
    Ok(all)
}

/// How many changes there are.
pub fn pending(repositories: &Repositories) -> Result<u64, StoreError> {
    repositories.read(|read| {
        let changes = open(read, CHANGES)?.map_or(Ok(0), |table| table.len())?;
        Ok(changes + open(read, STALE)?.map_or(Ok(0), |table| table.len())?)
    })
}

/// Whether any change after a number is more than a blob that came, and the number of the last change.
pub fn matters(repositories: &Repositories, after: u64) -> Result<(bool, u64), StoreError> {
    repositories.read(|read| {
        let is_stale = match open(read, STALE)? {
            Some(table) => table.range(after + 1..)?.next().is_some(),
            None => false,
        };
        let (mut matters, mut last) = (is_stale, after);
        if let Some(table) = open(read, CHANGES)? {
            for row in table.range(after + 1..)? {
                let (number, row) = row?;
                last = number.value();
                matters |= !matches!(row.value(), (_, BLOB, true, ..));
            }
        }
        Ok((matters, last))
    })
}

/// Forgets the changes up to a number: in the transaction that records what they became.
pub fn settle(write: &WriteTransaction, up_to: u64) -> Result<(), StoreError> {
    let Rows { mut changes, mut stale, mut last, .. } = Rows::open(write)?;
    let mut forget = |key: String, number: u64| -> Result<(), StoreError> {
        if last.get(key.as_str())?.is_some_and(|last| last.value() == number) {
            last.remove(key.as_str())?;
        }
        Ok(())
    };
    for row in changes.extract_from_if(..=up_to, |_, _| true)? {
        let (number, row) = row?;
        forget(last_key(&row.value()), number.value())?;
    }
    for row in stale.extract_from_if(..=up_to, |_, _| true)? {
        let (number, repository) = row?;
        forget(stale_key(repository.value()), number.value())?;
    }
    Ok(())
}
