//! The rows of changes: one for each thing that changed, or one for a repository of which too much did.

use redb::{ReadableTable, Table, WriteTransaction};

use super::{
    super::tables::{CHANGES, ChangeRow, LAST_CHANGES, NEXT_CHANGE, STALE, key},
    ChangedItem,
};
use crate::content::StoreError;

/// Where the last change of the same thing is remembered.
pub fn last_key(row: &ChangeRow) -> String {
    key(&[row.0, std::str::from_utf8(&[row.1]).unwrap_or_default(), row.3])
}

/// The tables of changes, open for one transaction that writes.
pub struct Rows<'t> {
    pub changes: Table<'t, u64, ChangeRow<'static>>,
    pub stale: Table<'t, u64, &'static str>,
    pub last: Table<'t, &'static str, u64>,
    next: Table<'t, (), u64>,
}

impl<'t> Rows<'t> {
    pub fn open(write: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            changes: write.open_table(CHANGES)?,
            stale: write.open_table(STALE)?,
            last: write.open_table(LAST_CHANGES)?,
            next: write.open_table(NEXT_CHANGE)?,
        })
    }

    fn next_number(&mut self) -> Result<u64, StoreError> {
        let number = self.next.get(())?.map_or(1, |row| row.value());
        self.next.insert((), number + 1)?;
        Ok(number)
    }

    /// Notes a change in place of an earlier one of the same thing.
    pub fn add(&mut self, row: ChangeRow) -> Result<(), StoreError> {
        let number = self.next_number()?;
        if let Some(earlier) = self.last.insert(last_key(&row).as_str(), number)? {
            self.changes.remove(earlier.value())?;
        }
        self.changes.insert(number, row)?;
        Ok(())
    }

    pub fn is_stale(&self, repository: &str) -> Result<bool, StoreError> {
        Ok(self.last.get(stale_key(repository).as_str())?.is_some())
    }

    /// Notes that all of a repository is to be read again.
    pub fn add_stale(&mut self, repository: &str) -> Result<(), StoreError> {
        let number = self.next_number()?;
        if let Some(earlier) = self.last.insert(stale_key(repository).as_str(), number)? {
            self.stale.remove(earlier.value())?;
        }
        self.stale.insert(number, repository)?;
        Ok(())
    }

    /// Makes one row for each repository of all that there are.
    pub fn merge(&mut self) -> Result<(), StoreError> {
        #[cfg(test)]
        MERGED.with(|merged| merged.set(merged.get() + super::MAX_CHANGES));
        loop {
            let first = self.changes.pop_first()?;
            let Some((repository, key)) =
                first.map(|(_, row)| (row.value().0.to_string(), last_key(&row.value())))
            else {
                return Ok(());
            };
            self.last.remove(key.as_str())?;
            if !self.is_stale(&repository)? {
                self.add_stale(&repository)?;
            }
        }
    }
}

#[cfg(test)]
thread_local! {
    /// Rows that merges read at most.
    pub static MERGED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Where the last change of all of a repository is remembered.
pub fn stale_key(repository: &str) -> String {
    last_key(&ChangedItem::Everything.as_row(repository, "", &[]))
}
