//! A redb file that recovers from a full disk: after a failed write redb refuses everything until it is reopened.

mod compact;

use std::{
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use redb::{Builder, ReadTransaction, ReadableDatabase, WriteTransaction};

pub use compact::FileUsage;

/// How a file is opened and committed to.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes of the page cache.
    pub cache_bytes: usize,
    /// Whether each commit saves the allocator state, so that opening the file after a crash need not walk all of it.
    pub quick_repair: bool,
}

/// An error of a transaction, possibly of the file itself.
pub trait DatabaseFailure: From<redb::Error> {
    /// Returns whether redb refuses everything from now on.
    fn closes_database(&self) -> bool;
}

impl DatabaseFailure for redb::Error {
    fn closes_database(&self) -> bool {
        match self {
            Self::Io(_) | Self::PreviousIo | Self::DatabaseClosed => true,
            // Returned by a failed commit although the file is intact.
            Self::Corrupted(why) => why.starts_with("Allocator state was discarded"),
            _ => false,
        }
    }
}

/// A redb file that is reopened after a disk error has closed it.
pub struct Database {
    path: PathBuf,
    settings: Settings,
    /// `None` only if it could not be reopened.
    open: RwLock<Option<redb::Database>>,
}

impl Database {
    /// Opens the file, or creates it.
    pub fn open(path: &Path, settings: Settings) -> Result<Self, redb::DatabaseError> {
        let open = RwLock::new(Some(open(path, settings)?));
        Ok(Self { path: path.into(), settings, open })
    }

    /// Wraps an open database, such as one in memory, which cannot be reopened.
    pub fn of(open: redb::Database, settings: Settings) -> Self {
        Self { path: PathBuf::new(), settings, open: RwLock::new(Some(open)) }
    }

    /// Verifies the checksums of all pages, and repairs the file if possible.
    pub fn check(&mut self) -> Result<(), redb::Error> {
        let open = self.open.get_mut().unwrap_or_else(PoisonError::into_inner);
        open.as_mut().ok_or(redb::Error::DatabaseClosed)?.check_integrity()?;
        Ok(())
    }

    /// Reads the committed state. `with` runs again if the file had to be reopened.
    pub fn read<T, E: DatabaseFailure>(
        &self,
        with: impl Fn(&ReadTransaction) -> Result<T, E>,
    ) -> Result<T, E> {
        self.with_reopened(|database| with(&database.begin_read().map_err(redb::Error::from)?))
    }

    /// Begins a read of the committed state, which stays as it is whatever is written later. While it is held, the file is
    /// not compacted, and its pages are not reused. It fails where the file is reopened after a disk error.
    pub fn snapshot(&self) -> Result<ReadTransaction, redb::Error> {
        self.with_reopened(|database| Ok(database.begin_read()?))
    }

    /// Runs a write transaction; when it returns, the changes are on disk. After a disk error the file is reopened for
    /// the next call.
    pub fn write<T, E: DatabaseFailure>(
        &self,
        with: impl FnOnce(&WriteTransaction) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.is_closed() {
            self.reopen()?;
        }
        let result = self.with(|database| {
            let mut write = database.begin_write().map_err(redb::Error::from)?;
            write.set_quick_repair(self.settings.quick_repair);
            let value = with(&write)?;
            write.commit().map_err(redb::Error::from)?;
            Ok(value)
        });
        if result.as_ref().is_err_and(E::closes_database) {
            self.reopen_or_retry_later();
        }
        result
    }

    /// Runs a write transaction and aborts it, for a dry run.
    pub fn rehearse<T, E: DatabaseFailure>(
        &self,
        with: impl FnOnce(&WriteTransaction) -> Result<T, E>,
    ) -> Result<T, E> {
        self.with(|database| {
            let write = database.begin_write().map_err(redb::Error::from)?;
            let value = with(&write)?;
            write.abort().map_err(redb::Error::from)?;
            Ok(value)
        })
    }

    fn is_closed(&self) -> bool {
        self.open.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn with<T, E: DatabaseFailure>(
        &self,
        with: impl FnOnce(&redb::Database) -> Result<T, E>,
    ) -> Result<T, E> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        with(open.as_ref().ok_or(redb::Error::DatabaseClosed)?)
    }

    /// Does the same; `with` runs again if the file had to be reopened.
    fn with_reopened<T, E: DatabaseFailure>(
        &self,
        with: impl Fn(&redb::Database) -> Result<T, E>,
    ) -> Result<T, E> {
        match self.with(&with) {
            Err(error) if error.closes_database() => {
                self.reopen()?;
                self.with(with)
            }
            result => result,
        }
    }

    /// Reopens the file after a disk error; if that fails, the next transaction tries again.
    fn reopen_or_retry_later(&self) {
        if let Err(error) = self.reopen() {
            tracing::warn!(path = %self.path.display(), %error, "cannot reopen the database; will retry");
        }
    }

    fn reopen(&self) -> Result<(), redb::Error> {
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have reopened it.
        if slot.as_ref().is_some_and(|database| database.begin_write().is_ok()) {
            return Ok(());
        }
        // The old instance holds the file's lock.
        drop(slot.take());
        *slot = Some(open(&self.path, self.settings)?);
        Ok(())
    }
}

fn open(path: &Path, settings: Settings) -> Result<redb::Database, redb::DatabaseError> {
    Builder::new().set_cache_size(settings.cache_bytes).create(path)
}

#[cfg(test)]
mod tests {
    use redb::TableDefinition;

    use super::*;

    const ROWS: TableDefinition<u64, u64> = TableDefinition::new("rows");

    #[test]
    fn a_database_closed_by_a_disk_error_is_reopened_with_its_committed_data() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { cache_bytes: 1 << 20, quick_repair: false };
        let database = Database::open(&dir.path().join("rows.redb"), settings).unwrap();
        let insert = |row, outcome: Result<(), redb::Error>| {
            database.write(|write| {
                write.open_table(ROWS)?.insert(row, row)?;
                outcome
            })
        };
        insert(1, Ok(())).unwrap();
        let discarded = "Allocator state was discarded by a failed integrity check or commit".to_string();
        for error in [redb::Error::PreviousIo, redb::Error::Corrupted(discarded)] {
            assert!(insert(2, Err(error)).is_err());
            insert(3, Ok(())).unwrap();
        }
        // As if it could not be reopened at once.
        drop(database.open.write().unwrap().take());
        insert(4, Ok(())).unwrap();
        drop(database.open.write().unwrap().take());
        let rows = database.read(|read| {
            let table = read.open_table(ROWS)?;
            Ok::<_, redb::Error>([1, 2, 3, 4].map(|row| table.get(row).unwrap().is_some()))
        });
        assert_eq!(rows.unwrap(), [true, false, true, true]);
        assert!(!redb::Error::Corrupted("a page".into()).closes_database());
    }
}
