//! The files of the node directory: whole blobs by their sha256, unfinished ones by their id.

use std::{
    fs::{self, File},
    io::ErrorKind,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Error, lock, tables::Hash};

/// Kept free, so that the index can always be written.
const HEADROOM: u64 = 32 << 20;

/// Where blobs are kept.
pub struct Disk {
    blobs: PathBuf,
    incoming: PathBuf,
    /// How often the names in `incoming` were begun to be synced, and how often that was done.
    begun: AtomicU64,
    synced: Mutex<u64>,
}

impl Disk {
    /// Makes the directories that are missing below `dir`.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let (blobs, incoming) = (dir.join("blobs"), dir.join("incoming"));
        let disk = Self { blobs, incoming, begun: AtomicU64::default(), synced: Mutex::default() };
        for path in [&disk.blobs, &disk.incoming] {
            fs::create_dir_all(path).map_err(Error::at(path))?;
        }
        sync_dir(dir)?;
        Ok(disk)
    }

    /// Where a whole blob is.
    pub fn blob(&self, sha256: &Hash) -> PathBuf {
        let hex: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        self.blobs.join(&hex[..2]).join(hex)
    }

    /// Where an unfinished file is.
    pub fn incoming(&self, id: u64) -> PathBuf {
        self.incoming.join(id.to_string())
    }

    /// The ids of the unfinished files.
    pub fn all_incoming(&self) -> Result<Vec<u64>, Error> {
        let at = || Error::at(&self.incoming);
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.incoming).map_err(at())? {
            ids.extend(entry.map_err(at())?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        Ok(ids)
    }

    /// Begins an unfinished file, or goes on with one.
    pub fn create(&self, id: u64) -> Result<File, Error> {
        let path = self.incoming(id);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).open(&path).map_err(Error::at(&path))
    }

    /// A file without a name, which is gone when it is closed.
    pub fn scratch(&self, number: u64) -> Result<File, Error> {
        let path = self.incoming.join(format!("scratch-{number}"));
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(&path);
        let file = file.map_err(Error::at(&path))?;
        unlink(&path)?;
        Ok(file)
    }

    /// Makes the names of unfinished files durable; required before a row refers to one. Concurrent callers
    /// wait and share the next sync.
    pub fn sync_incoming(&self) -> Result<(), Error> {
        let begun = self.begun.load(Ordering::SeqCst);
        let mut synced = lock(&self.synced);
        if *synced > begun {
            return Ok(());
        }
        let turn = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        sync_dir(&self.incoming)?;
        *synced = turn;
        Ok(())
    }

    /// Moves a finished file to its place. A crash before it is durable is mended at the next opening.
    pub fn place(&self, id: u64, sha256: &Hash) -> Result<(), Error> {
        let (from, to) = (self.incoming(id), self.blob(sha256));
        if let Some(shard) = to.parent() {
            fs::create_dir_all(shard).map_err(Error::at(shard))?;
        }
        fs::rename(&from, &to).map_err(Error::at(&to))?;
        // Where both were names of one file, renaming does nothing.
        unlink(&from)
    }

    /// Refuses to go on where less is free than the index may need.
    pub fn check_space(&self) -> Result<(), Error> {
        if self.available()? < HEADROOM { Err(Error::Full) } else { Ok(()) }
    }

    /// Bytes that are free beyond those that the index may need.
    pub fn free(&self) -> Result<u64, Error> {
        Ok(self.available()?.saturating_sub(HEADROOM))
    }

    fn available(&self) -> Result<u64, Error> {
        let at = |errno: rustix::io::Errno| Error::at(&self.incoming)(errno.into());
        let stat = rustix::fs::statvfs(&self.incoming).map_err(at)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// Removes a file that may be gone.
pub fn unlink(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::at(path)),
    }
}

/// Gives back the room of a range of a file, where the file system can.
#[cfg(target_os = "linux")]
pub fn punch(file: &File, range: &Range<u64>) -> std::io::Result<()> {
    use rustix::{
        fs::{FallocateFlags, fallocate},
        io::Errno,
    };
    match fallocate(
        file,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        range.start,
        range.end - range.start,
    ) {
        Err(Errno::OPNOTSUPP) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(not(target_os = "linux"))]
pub fn punch(_: &File, _: &Range<u64>) -> std::io::Result<()> {
    Ok(())
}

fn sync_dir(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::at(path))
}
