//! A table that evicts its oldest row when it is full.

use redb::{Error, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

/// The rows, and for each the counter at which it was written.
pub struct BoundedTable {
    pub rows: TableDefinition<'static, &'static [u8], &'static [u8]>,
    turns: TableDefinition<'static, &'static [u8], u64>,
}

impl BoundedTable {
    pub const fn new(rows: &'static str, turns: &'static str) -> Self {
        Self { rows: TableDefinition::new(rows), turns: TableDefinition::new(turns) }
    }

    /// Deletes all rows.
    pub fn clear(&self, write: &WriteTransaction) -> Result<(), Error> {
        write.delete_table(self.rows)?;
        write.delete_table(self.turns)?;
        Ok(())
    }

    /// Writes a row, and evicts the oldest ones beyond `max_rows`. Rows without a counter were written by an older
    /// version, and are the oldest.
    pub fn insert(
        &self,
        write: &WriteTransaction,
        key: &[u8],
        value: &[u8],
        max_rows: u64,
    ) -> Result<(), Error> {
        let (mut rows, mut turns) = (write.open_table(self.rows)?, write.open_table(self.turns)?);
        let mut last = 0;
        for row in turns.iter()? {
            last = last.max(row?.1.value());
        }
        rows.insert(key, value)?;
        turns.insert(key, last + 1)?;
        while rows.len()? > max_rows {
            let mut oldest: Option<(u64, Vec<u8>)> = None;
            for row in rows.iter()? {
                let key = row?.0.value().to_vec();
                let turn = turns.get(&*key)?.map_or(0, |turn| turn.value());
                if oldest.as_ref().is_none_or(|(oldest, _)| turn < *oldest) {
                    oldest = Some((turn, key));
                }
            }
            let Some((_, key)) = oldest else { break };
            rows.remove(&*key)?;
            turns.remove(&*key)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use redb::ReadableDatabase;

    use super::*;

    const SEEN: BoundedTable = BoundedTable::new("seen", "turns");

    #[test]
    fn a_full_table_evicts_the_oldest_row() {
        let database =
            redb::Builder::new().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap();
        let write = database.begin_write().unwrap();
        // A row of a version without counters.
        write.open_table(SEEN.rows).unwrap().insert(&b"m"[..], &b""[..]).unwrap();
        for key in [b"z", b"a", b"y", b"z", b"b"] {
            SEEN.insert(&write, key, b"", 3).unwrap();
        }
        write.commit().unwrap();
        let read = database.begin_read().unwrap();
        let rows = read.open_table(SEEN.rows).unwrap();
        let keys: Vec<_> = rows.iter().unwrap().map(|row| row.unwrap().0.value().to_vec()).collect();
        assert_eq!(keys, [b"b", b"y", b"z"]);
        assert_eq!(read.open_table(SEEN.turns).unwrap().len().unwrap(), 3);
    }
}
