//! The index file: durable commits, quick to open after a crash, and alive again after a full disk.

use std::{
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use redb::{Builder, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::Error;

const CACHE: usize = 16 << 20;

/// One redb file, opened anew in its place when an error of the disk has closed it.
pub struct Database {
    path: PathBuf,
    /// None only where it could not be opened again.
    open: RwLock<Option<redb::Database>>,
}

impl Database {
    /// Opens the file, which need not exist.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self { path: path.into(), open: RwLock::new(Some(open(path)?)) })
    }

    /// Reads what is committed now.
    pub fn read<T>(&self, with: impl Fn(&ReadTransaction) -> Result<T, Error>) -> Result<T, Error> {
        match self.with(|database| with(&database.begin_read()?)) {
            Err(error) if error.closes_database() => {
                self.reopen()?;
                self.with(|database| with(&database.begin_read()?))
            }
            result => result,
        }
    }

    /// Changes all or nothing; what is committed is on the disk.
    pub fn write<T>(&self, with: impl FnOnce(&WriteTransaction) -> Result<T, Error>) -> Result<T, Error> {
        let result = self.with(|database| {
            let mut write = database.begin_write()?;
            // Without it the first opening after a crash walks the whole file.
            write.set_quick_repair(true);
            let value = with(&write)?;
            write.commit()?;
            Ok(value)
        });
        if result.as_ref().is_err_and(Error::closes_database)
            && let Err(error) = self.reopen()
        {
            tracing::warn!("the index cannot be opened again now: {error}");
        }
        result
    }

    fn with<T>(&self, with: impl FnOnce(&redb::Database) -> Result<T, Error>) -> Result<T, Error> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        with(open.as_ref().ok_or(Error::Index(redb::Error::DatabaseClosed))?)
    }

    fn reopen(&self) -> Result<(), Error> {
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been here first.
        if slot.as_ref().is_some_and(|database| database.begin_write().is_ok()) {
            return Ok(());
        }
        // The old one holds the file's lock.
        drop(slot.take());
        *slot = Some(open(&self.path)?);
        Ok(())
    }
}

fn open(path: &Path) -> Result<redb::Database, Error> {
    let closed = |why| Error::Closed { path: path.into(), why };
    Builder::new().set_cache_size(CACHE).create(path).map_err(closed)
}
