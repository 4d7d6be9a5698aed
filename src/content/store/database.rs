//! The index file: durable commits, quick to open after a crash, and alive again after a full disk.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    time::Duration,
};

use ocipfs_node::database::{self, FileUsage, Settings};
use redb::{ReadTransaction, WriteTransaction};

use super::error::Error;

/// Without a quick repair the first opening after a crash walks the whole file.
pub(super) const SETTINGS: Settings =
    Settings { cache_bytes: if cfg!(test) { 1 << 20 } else { 16 << 20 }, quick_repair: true };

/// The index file, whose commits many changes may share.
pub struct Database {
    file: database::Database,
    waiting: Mutex<Vec<QueuedWrites>>,
    /// Held by who commits for those that wait.
    turn: Mutex<()>,
    /// Reads so far.
    #[cfg(test)]
    pub reads: std::sync::atomic::AtomicU64,
}

type Work = Box<dyn FnMut(&WriteTransaction) -> Result<(), Error> + Send>;

/// A change that waits to be committed with others.
struct QueuedWrites {
    work: Work,
    done: SyncSender<Result<(), Error>>,
}

impl Database {
    /// Opens the file, which need not exist.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let closed = |why| Error::Closed { path: path.into(), why };
        Ok(Self::of(database::Database::open(path, SETTINGS).map_err(closed)?))
    }

    pub(super) fn of(file: database::Database) -> Self {
        Self {
            file,
            waiting: Mutex::default(),
            turn: Mutex::default(),
            #[cfg(test)]
            reads: Default::default(),
        }
    }

    /// Reads what is committed now.
    pub fn read<T>(&self, with: impl Fn(&ReadTransaction) -> Result<T, Error>) -> Result<T, Error> {
        #[cfg(test)]
        self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.file.read(with)
    }

    /// Begins a read of what is committed now, whatever is written later.
    pub fn snapshot(&self) -> Result<ReadTransaction, Error> {
        Ok(self.file.snapshot()?)
    }

    /// Changes all or nothing; what is committed is on the disk.
    pub fn write<T>(&self, with: impl FnOnce(&WriteTransaction) -> Result<T, Error>) -> Result<T, Error> {
        self.file.write(with)
    }

    /// Returns the size of the file.
    pub fn file_bytes(&self) -> u64 {
        self.file.file_bytes()
    }

    /// Returns whether the file can be worth a compaction.
    pub(super) fn may_be_sparse(&self) -> bool {
        self.file.may_be_sparse()
    }

    /// Returns the number of rows.
    pub(super) fn rows(&self) -> Result<u64, Error> {
        Ok(self.file.rows()?)
    }

    /// Measures the file. Reads all pages that hold rows.
    pub(super) fn usage(&self) -> Result<FileUsage, Error> {
        Ok(self.file.usage()?)
    }

    /// Returns free pages to the file system; false if there was no moment without a transaction within `patience`.
    pub(super) fn compact(&self, patience: Duration) -> Result<bool, Error> {
        Ok(self.file.compact(patience)?)
    }

    /// Does what `write` would do, and undoes it: nothing is changed.
    pub fn rehearse<T>(&self, with: impl FnOnce(&WriteTransaction) -> Result<T, Error>) -> Result<T, Error> {
        self.file.rehearse(with)
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
        lock(&self.waiting).push(QueuedWrites { work: Box::new(work), done });
        // Writers that come during a commit wait here, and the first of them commits for all.
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
        let tell = |one: &mut QueuedWrites, result| drop(one.done.send(result));
        match together {
            Ok(()) => all.iter_mut().for_each(|one| tell(one, Ok(()))),
            Err(error) if let [one] = all.as_mut_slice() => tell(one, Err(error)),
            Err(_) => all.iter_mut().for_each(|one| {
                let result = self.write(|write| (one.work)(write));
                tell(one, result);
            }),
        }
    }
}

/// Locks data that stays valid if a thread panics while it holds the lock.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
