//! Compaction of the index: its file shrinks after large deletions.

use std::time::Duration;

use super::{
    Error, Store,
    database::Database,
    tables::{self, COMPACT_AT_START, META},
};

/// Rows that are moved while the node serves: transactions wait for that, well below a second. An index with more rows is
/// compacted at the next start.
const MAX_ROW_BYTES: u64 = 64 << 20;
/// How long a compaction waits for a moment without a transaction.
const PATIENCE: Duration = Duration::from_secs(2);

/// What became of a compaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compaction {
    /// Little of the file is free.
    NotNeeded,
    /// The file was compacted.
    Done,
    /// Too many rows are in the way, or a transaction was open all the time: it is done at the next start.
    AtStart,
}

impl Store {
    /// Returns the size of the index in bytes.
    pub fn index_bytes(&self) -> u64 {
        self.0.database.file_bytes()
    }

    /// Returns the number of rows of the index.
    pub fn index_rows(&self) -> Result<u64, Error> {
        self.0.database.rows()
    }

    /// Compacts the index if most of it is free pages.
    pub fn compact_index(&self) -> Result<Compaction, Error> {
        self.compact_index_of(MAX_ROW_BYTES, PATIENCE)
    }

    pub(super) fn compact_index_of(
        &self,
        max_row_bytes: u64,
        patience: Duration,
    ) -> Result<Compaction, Error> {
        let database = &self.0.database;
        if !database.may_be_sparse() {
            return Ok(Compaction::NotNeeded);
        }
        let before = database.usage()?;
        if !before.is_sparse() {
            return Ok(Compaction::NotNeeded);
        }
        if before.row_bytes > max_row_bytes || !database.compact(patience)? {
            set_compact_at_start(database, true)?;
            return Ok(Compaction::AtStart);
        }
        set_compact_at_start(database, false)?;
        let bytes = database.file_bytes();
        tracing::info!(before_bytes = before.file_bytes, bytes, "compacted the index");
        Ok(Compaction::Done)
    }
}

/// Compacts an index that could not be compacted while the node served. Nothing else uses it yet.
pub(super) fn compact_if_due(database: &Database) -> Result<(), Error> {
    if database.read(|read| tables::number(&read.open_table(META)?, COMPACT_AT_START))? == 0 {
        return Ok(());
    }
    let before_bytes = database.file_bytes();
    tracing::info!(bytes = before_bytes, "compacting the index");
    match database.compact(Duration::ZERO).and_then(|_| set_compact_at_start(database, false)) {
        Ok(()) => tracing::info!(before_bytes, bytes = database.file_bytes(), "compacted the index"),
        // The node can start all the same, for instance to free a full disk.
        Err(error) => tracing::warn!("cannot compact the index: {error}"),
    }
    Ok(())
}

fn set_compact_at_start(database: &Database, is_due: bool) -> Result<(), Error> {
    let known = database.read(|read| tables::number(&read.open_table(META)?, COMPACT_AT_START))?;
    if known == u64::from(is_due) {
        return Ok(());
    }
    database.write(|write| {
        write.open_table(META)?.insert(COMPACT_AT_START, u64::from(is_due))?;
        Ok(())
    })
}
