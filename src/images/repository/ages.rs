//! Ages: since when something is in a state after which it is deleted, and the oldest of them first.

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::tables::open;
use crate::content::StoreError;

type Rows = TableDefinition<'static, &'static str, u64>;
type Queue = TableDefinition<'static, (u64, &'static str), ()>;

/// The ages of what is in one state, by repository and digest, in seconds since 1970.
#[derive(Clone, Copy)]
pub struct Ages {
    rows: Rows,
    queue: Queue,
}

/// Blobs that no manifest ever referenced, since they were pushed or a client was last told that they are here.
pub const UNREFERENCED: Ages = Ages {
    rows: TableDefinition::new("unreferenced blobs"),
    queue: TableDefinition::new("unreferenced blobs by age"),
};

/// Manifests that lost their last tag, since then.
pub const UNTAGGED: Ages = Ages {
    rows: TableDefinition::new("untagged manifests"),
    queue: TableDefinition::new("untagged manifests by age"),
};

/// Manifests that never had a tag, since they were pushed.
pub const NEVER_TAGGED: Ages = Ages {
    rows: TableDefinition::new("never tagged manifests"),
    queue: TableDefinition::new("never tagged manifests by age"),
};

/// A place in the order of ages: everything before it was looked at.
pub type Place = (u64, String);

impl Ages {
    /// Counts the age of `key` from `since` on.
    pub fn start(&self, write: &WriteTransaction, key: &str, since: u64) -> Result<(), StoreError> {
        let before = write.open_table(self.rows)?.insert(key, since)?.map(|row| row.value());
        let mut queue = write.open_table(self.queue)?;
        if let Some(before) = before {
            queue.remove((before, key))?;
        }
        queue.insert((since, key), ())?;
        Ok(())
    }

    /// Forgets the age of `key`; false where it had none.
    pub fn stop(&self, write: &WriteTransaction, key: &str) -> Result<bool, StoreError> {
        let since = write.open_table(self.rows)?.remove(key)?.map(|row| row.value());
        let Some(since) = since else { return Ok(false) };
        write.open_table(self.queue)?.remove((since, key))?;
        Ok(true)
    }

    /// Since when `key` is in this state.
    pub fn since(&self, write: &WriteTransaction, key: &str) -> Result<Option<u64>, StoreError> {
        Ok(write.open_table(self.rows)?.get(key)?.map(|row| row.value()))
    }

    /// Returns since when `key` is in this state, as committed.
    pub fn since_now(&self, read: &ReadTransaction, key: &str) -> Result<Option<u64>, StoreError> {
        let Some(rows) = open(read, self.rows)? else { return Ok(None) };
        Ok(rows.get(key)?.map(|row| row.value()))
    }

    /// The next after a place, if it is at least as old as `until`.
    pub fn next(
        &self,
        write: &WriteTransaction,
        after: &Place,
        until: u64,
    ) -> Result<Option<Place>, StoreError> {
        let queue = write.open_table(self.queue)?;
        // No key sorts between a text and the same with a NUL behind it.
        let behind = format!("{}\0", after.1);
        let next = queue.range((after.0, behind.as_str())..)?.next().transpose()?;
        let next = next.map(|(row, _)| (row.value().0, row.value().1.to_string()));
        Ok(next.filter(|(since, _)| *since <= until))
    }

    /// Whether something is as old as this.
    pub fn has_due(&self, read: &ReadTransaction, until: u64) -> Result<bool, StoreError> {
        let Some(queue) = open(read, self.queue)? else { return Ok(false) };
        Ok(queue.first()?.is_some_and(|(row, _)| row.value().0 <= until))
    }

    /// Removes the tables.
    #[cfg(test)]
    pub fn forget(&self, write: &WriteTransaction) -> Result<(), StoreError> {
        write.delete_table(self.rows)?;
        write.delete_table(self.queue)?;
        Ok(())
    }
}
