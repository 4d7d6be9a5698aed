//! What changed and is not yet in the published root: one row for each thing, so that nobody who does not publish
//! gathers more rows than there are things.

use ocipfs_oci::Name;
use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::{
    Piece, Repositories,
    tables::{CHANGES, ChangeRow, LAST_CHANGES, NEXT_CHANGE, damaged, key, open, piece},
};
use crate::content::StoreError;

/// More rows are merged to one for each repository.
const MOST: u64 = if cfg!(test) { 40 } else { 100_000 };

const PIECE: u8 = b'b';
const MANIFEST: u8 = b'm';
const TAGS: u8 = b't';
const EVERYTHING: u8 = b'e';

/// Something changed in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub repository: Name,
    /// What.
    pub what: What,
}

/// What changed. Where the same digest is both a blob and a manifest, one of them may be there when the other is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A blob came or went.
    Piece {
        /// The blob.
        piece: Piece,
        /// Whether it came.
        added: bool,
    },
    /// A manifest came or went.
    Manifest {
        /// Its bytes.
        piece: Piece,
        /// Whether it came.
        added: bool,
    },
    /// Tags changed.
    Tags,
    /// So much that its rows are to be read anew.
    Everything,
}

impl What {
    fn as_row<'a>(&self, repository: &'a str, digest: &'a str, root: &'a [u8]) -> ChangeRow<'a> {
        match self {
            Self::Piece { piece, added } => (repository, PIECE, *added, digest, piece.size, root),
            Self::Manifest { piece, added } => (repository, MANIFEST, *added, digest, piece.size, root),
            Self::Tags => (repository, TAGS, true, "", 0, &[]),
            Self::Everything => (repository, EVERYTHING, true, "", 0, &[]),
        }
    }

    fn from_row((_, kind, added, digest, size, root): ChangeRow) -> Result<Self, StoreError> {
        Ok(match kind {
            PIECE => Self::Piece { piece: piece(digest, size, root)?, added },
            MANIFEST => Self::Manifest { piece: piece(digest, size, root)?, added },
            TAGS => Self::Tags,
            EVERYTHING => Self::Everything,
            kind => return Err(damaged(format!("change {kind}"))),
        })
    }

    fn piece(&self) -> Option<&Piece> {
        match self {
            Self::Piece { piece, .. } | Self::Manifest { piece, .. } => Some(piece),
            Self::Tags | Self::Everything => None,
        }
    }
}

/// Where the last change of the same thing is remembered.
fn last_key(row: &ChangeRow) -> String {
    key(&[row.0, std::str::from_utf8(&[row.1]).unwrap_or_default(), row.3])
}

/// Notes a change in place of an earlier one of the same thing.
pub fn note(write: &WriteTransaction, repository: &Name, what: &What) -> Result<(), StoreError> {
    let digest = what.piece().map(|piece| piece.digest.to_string()).unwrap_or_default();
    let root = what.piece().map(|piece| piece.root.to_bytes()).unwrap_or_default();
    let row = what.as_row(repository.as_str(), &digest, &root);
    let mut changes = write.open_table(CHANGES)?;
    let mut last = write.open_table(LAST_CHANGES)?;
    let mut next = write.open_table(NEXT_CHANGE)?;
    let number = next.get(())?.map_or(1, |row| row.value());
    next.insert((), number + 1)?;
    if let Some(earlier) = last.insert(last_key(&row).as_str(), number)? {
        changes.remove(earlier.value())?;
    }
    changes.insert(number, row)?;
    let too_many = changes.len()? > MOST;
    drop((changes, last, next));
    if too_many { merge(write) } else { Ok(()) }
}

/// Makes one row for each repository of all that there are.
fn merge(write: &WriteTransaction) -> Result<(), StoreError> {
    let mut names = std::collections::BTreeSet::new();
    {
        let mut changes = write.open_table(CHANGES)?;
        for row in changes.iter()? {
            names.insert(row?.1.value().0.to_string());
        }
        changes.retain(|_, _| false)?;
        write.open_table(LAST_CHANGES)?.retain(|_, _| false)?;
    }
    let mut changes = write.open_table(CHANGES)?;
    let mut last = write.open_table(LAST_CHANGES)?;
    let mut next = write.open_table(NEXT_CHANGE)?;
    let mut number = next.get(())?.map_or(1, |row| row.value());
    for name in names {
        let row = What::Everything.as_row(&name, "", &[]);
        last.insert(last_key(&row).as_str(), number)?;
        changes.insert(number, row)?;
        number += 1;
    }
    next.insert((), number)?;
    Ok(())
}

/// The oldest changes, each with its number.
pub fn changes(repositories: &Repositories, most: usize) -> Result<Vec<(u64, Change)>, StoreError> {
    repositories.database().read(|read| {
        let Some(table) = open(read, CHANGES)? else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for row in table.iter()?.take(most) {
            let (number, row) = row?;
            let repository = row.value().0.parse().map_err(damaged)?;
            all.push((number.value(), Change { repository, what: What::from_row(row.value())? }));
        }
        Ok(all)
    })
}

/// Forgets the changes up to a number: in the transaction that records what they became.
pub fn settle(write: &WriteTransaction, up_to: u64) -> Result<(), StoreError> {
    let mut changes = write.open_table(CHANGES)?;
    let mut last = write.open_table(LAST_CHANGES)?;
    for row in changes.extract_from_if(..=up_to, |_, _| true)? {
        let (number, row) = row?;
        let key = last_key(&row.value());
        if last.get(key.as_str())?.is_some_and(|last| last.value() == number.value()) {
            last.remove(key.as_str())?;
        }
    }
    Ok(())
}
