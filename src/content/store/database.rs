//! The index file: durable commits, quick to open after a crash, and alive again after a full disk.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        mpsc::{SyncSender, sync_channel},
    },
};

use redb::{Builder, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::{Error, lock};

const CACHE: usize = 16 << 20;

/// One redb file, opened anew in its place when an error of the disk has closed it.
pub struct Database {
    path: PathBuf,
    /// None only where it could not be opened again.
    open: RwLock<Option<redb::Database>>,
    waiting: Mutex<Vec<Waiting>>,
    /// Held by who commits for those that wait.
    turn: Mutex<()>,
}

type Work = Box<dyn FnMut(&WriteTransaction) -> Result<(), Error> + Send>;

/// A change that waits to be committed with others.
struct Waiting {
    work: Work,
    done: SyncSender<Result<(), Error>>,
}

impl Database {
    /// Opens the file, which need not exist.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let open = RwLock::new(Some(open(path)?));
        Ok(Self { path: path.into(), open, waiting: Mutex::default(), turn: Mutex::default() })
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

    /// Does what `write` would do, and undoes it: nothing is changed.
    pub fn rehearse<T>(&self, with: impl FnOnce(&WriteTransaction) -> Result<T, Error>) -> Result<T, Error> {
        self.with(|database| {
            let write = database.begin_write()?;
            let value = with(&write)?;
            write.abort()?;
            Ok(value)
        })
    }

    /// Like `write`, in one commit with what others change at this time. Where one of them fails, each is done again by
    /// itself, so `with` may run twice; only the changes of its last run are kept.
    pub fn write_together<T: Send + 'static>(
        &self,
        mut with: impl FnMut(&WriteTransaction) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let value = Arc::new(Mutex::new(None));
        let slot = value.clone();
        let work = move |write: &WriteTransaction| {
            *lock(&slot) = Some(with(write)?);
            Ok(())
        };
        let (done, committed) = sync_channel(1);
        lock(&self.waiting).push(Waiting { work: Box::new(work), done });
        // Whoever comes while a commit is under way waits here, and the first of them commits for all.
        let turn = lock(&self.turn);
        let mut result = committed.try_recv();
        if result.is_err() {
            self.commit_waiting();
            result = committed.try_recv();
        }
        drop(turn);
        result.unwrap_or(Err(Error::BrokenOff))?;
        lock(&value).take().ok_or(Error::BrokenOff)
    }

    fn commit_waiting(&self) {
        let mut all = std::mem::take(&mut *lock(&self.waiting));
        let together = self.write(|write| all.iter_mut().try_for_each(|one| (one.work)(write)));
        let tell = |one: &mut Waiting, result| drop(one.done.send(result));
        match together {
            Ok(()) => all.iter_mut().for_each(|one| tell(one, Ok(()))),
            Err(error) if let [one] = all.as_mut_slice() => tell(one, Err(error)),
            Err(_) => all.iter_mut().for_each(|one| {
                let result = self.write(|write| (one.work)(write));
                tell(one, result);
            }),
        }
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
