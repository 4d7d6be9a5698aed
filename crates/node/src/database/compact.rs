//! Compaction: redb reuses the pages of deleted rows, but a file shrinks only where its last pages are free.

use std::{
    sync::{RwLockWriteGuard, TryLockError},
    thread,
    time::{Duration, Instant},
};

use redb::ReadableTableMetadata;

use super::{Database, DatabaseFailure, Settings};

/// A file with less free space than this is not worth a compaction.
const MIN_FREE_BYTES: u64 = 16 << 20;
/// Pause between two looks at whether a transaction is open.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Pause between two looks at whether a snapshot is held. Each look holds up all transactions for a moment.
const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(20);

/// The size of a file, and how much of it the rows take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileUsage {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of the pages that hold rows.
    pub row_bytes: u64,
}

impl FileUsage {
    /// Returns whether most of the file is free pages.
    pub fn is_sparse(&self) -> bool {
        let free = self.file_bytes.saturating_sub(self.row_bytes);
        free >= MIN_FREE_BYTES.max(self.row_bytes)
    }
}

impl Database {
    /// Returns the size of the file; 0 if there is none.
    pub fn file_bytes(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    /// Returns whether the file can be worth a compaction, which costs nothing to find out.
    pub fn may_be_sparse(&self) -> bool {
        self.file_bytes() >= MIN_FREE_BYTES
    }

    /// Returns the number of rows in all tables.
    pub fn rows(&self) -> Result<u64, redb::Error> {
        self.read(|read| {
            let mut rows = 0;
            for table in read.list_tables()? {
                rows += read.open_untyped_table(table)?.len()?;
            }
            Ok(rows)
        })
    }

    /// Measures the file. Reads all pages that hold rows.
    pub fn usage(&self) -> Result<FileUsage, redb::Error> {
        let row_bytes = self.read(|read| {
            let mut bytes = 0;
            for table in read.list_tables()? {
                let stats = read.open_untyped_table(table)?.stats()?;
                bytes += stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes();
            }
            Ok::<_, redb::Error>(bytes)
        })?;
        Ok(FileUsage { file_bytes: self.file_bytes(), row_bytes })
    }

    /// Moves the rows to the start of the file and returns the rest to the file system. Returns false if there was no
    /// moment without a transaction within `patience`: new transactions are not held back until then, and wait until the
    /// compaction is done. After a crash on the way, the file has the rows that it had.
    pub fn compact(&self, patience: Duration) -> Result<bool, redb::Error> {
        let start = Instant::now();
        loop {
            let patience = patience.saturating_sub(start.elapsed());
            let Some(mut open) = self.idle_file(patience) else { return Ok(false) };
            let database = open.as_mut().ok_or(redb::Error::DatabaseClosed)?;
            let compacted = compact_file(database, self.settings);
            drop(open);
            match compacted {
                Ok(()) => return Ok(true),
                // A snapshot, or a table or a row that outlives its closure, still refers to a transaction.
                Err(redb::Error::TransactionInProgress) if patience.is_zero() => return Ok(false),
                Err(redb::Error::TransactionInProgress) => thread::sleep(SNAPSHOT_INTERVAL),
                Err(error) => {
                    if error.closes_database() {
                        self.reopen_or_retry_later();
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Compacts a file that was just opened, if most of it is free pages. To find that out, all rows of a large file are
    /// read.
    pub fn compact_if_sparse(&self) {
        if let Err(error) = self.try_compact_if_sparse() {
            tracing::warn!(path = %self.path.display(), %error, "cannot compact the database");
        }
    }

    fn try_compact_if_sparse(&self) -> Result<(), redb::Error> {
        if !self.may_be_sparse() {
            return Ok(());
        }
        let before = self.usage()?;
        if before.is_sparse() && self.compact(Duration::ZERO)? {
            let (path, bytes) = (self.path.display(), self.file_bytes());
            tracing::info!(%path, before_bytes = before.file_bytes, bytes, "compacted the database");
        }
        Ok(())
    }

    /// Locks the file while no transaction is open. A writer that waits for the lock would hold back new readers for as
    /// long as a slow one reads, so this one only looks.
    fn idle_file(&self, patience: Duration) -> Option<RwLockWriteGuard<'_, Option<redb::Database>>> {
        let start = Instant::now();
        loop {
            match self.open.try_write() {
                Ok(open) => return Some(open),
                Err(TryLockError::Poisoned(open)) => return Some(open.into_inner()),
                Err(TryLockError::WouldBlock) if start.elapsed() < patience => thread::sleep(LOOK_INTERVAL),
                Err(TryLockError::WouldBlock) => return None,
            }
        }
    }
}

fn compact_file(database: &mut redb::Database, settings: Settings) -> Result<(), redb::Error> {
    database.compact()?;
    // The commits of a compaction do not save the allocator state.
    let mut write = database.begin_write()?;
    write.set_quick_repair(settings.quick_repair);
    Ok(write.commit()?)
}

#[cfg(test)]
mod tests;
