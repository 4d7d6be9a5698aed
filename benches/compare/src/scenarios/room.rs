//! Resources of one scenario; all of them end with it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::{self, Receiver, Sender},
    },
};

use ocipfs_oci::Digest;
use tempfile::TempDir;

use super::Programs;
use crate::{Failure, report::Row, server::Children, tar};

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Plan {
    pub rounds: usize,
    pub mib: usize,
    /// Only so much that one sees whether it works.
    pub quick: bool,
}

impl Plan {
    /// The rounds of what takes long.
    pub fn few(&self) -> usize {
        self.rounds.min(3)
    }

    /// `mib`, or what is enough to see that it works.
    pub fn size(&self, mib: usize) -> usize {
        if self.quick { (mib / 8).clamp(1, 64) } else { mib }
    }
}

pub struct Room {
    dir: TempDir,
    pub plan: Plan,
    pub programs: Arc<Programs>,
    pub children: Children,
    rows: Option<Sender<Row>>,
    count: AtomicU32,
}

impl Room {
    pub fn new(parent: &Path, plan: Plan, programs: Arc<Programs>) -> io::Result<Self> {
        let (dir, children) = (tempfile::tempdir_in(parent)?, Children::default());
        Ok(Self { dir, plan, programs, children, rows: None, count: AtomicU32::new(0) })
    }

    /// Gives what is shown from now on, until the room is left.
    pub fn rows(&mut self) -> Receiver<Row> {
        let (rows, shown) = mpsc::channel();
        self.rows = Some(rows);
        shown
    }

    /// Makes a directory for one of a kind.
    pub fn new_dir(&self, kind: &str) -> Result<PathBuf, Failure> {
        let dir = self.new_path(kind);
        fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// Writes a tar of new bytes.
    pub fn new_tar(&self, mib: usize) -> Result<(PathBuf, Digest), Failure> {
        let path = self.new_path("layer").with_extension("tar");
        let digest = tar::write(&path, mib)?;
        Ok((path, digest))
    }

    fn new_path(&self, kind: &str) -> PathBuf {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        self.dir.path().join(format!("{kind}-{number}"))
    }

    /// Flushes pending writes to disk, so that no program pays for the writes of another.
    pub fn settle(&self) {
        let _ = Command::new("sync").status();
    }

    /// Shows what was measured.
    pub fn show(&self, row: Row) {
        // The receiver is gone if this took too long.
        let _ = self.rows.as_ref().map(|rows| rows.send(row));
    }
}
