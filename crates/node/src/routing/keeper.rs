//! Persists the routing store over a restart: reads it once, then writes changes in batches, without disk access in the
//! swarm's task.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{
    Store,
    clock::Now,
    disk::{self, File},
};

pub(crate) const FILE: &str = "routing.redb";
const WRITE_INTERVAL: Duration = Duration::from_secs(10);
/// Rounds of writing between two sweeps. Reads check the expiry themselves, so a sweep only returns memory.
const SWEEP_ROUNDS: u32 = 30;
/// Keys in one transaction, which are copied while the swarm waits for the store.
const WRITE_BATCH: usize = 2048;

/// A routing store and its file.
pub(crate) struct Keeper {
    store: Store,
    /// `None` if the file cannot be used: the store then lives as long as the process.
    file: Option<Arc<File>>,
    is_failing: bool,
}

impl Keeper {
    /// Opens the store of `me` in the data directory. Peers will send its records again, so an unusable file is not an
    /// error.
    pub(crate) async fn open(data_dir: &Path, me: PeerId) -> Self {
        let (store, path) = (Store::new(me), data_dir.join(FILE));
        let file = restored(path.clone(), store.clone()).await.inspect_err(|error| {
            let path = path.display();
            tracing::warn!(%path, %error, "cannot open the routing store; its records are lost at the next restart");
        });
        Self { store, file: file.ok().map(Arc::new), is_failing: false }
    }

    pub(crate) fn store(&self) -> Store {
        self.store.clone()
    }

    /// Sweeps the store and writes changes until it is stopped, and once more then.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        for round in 1_u32.. {
            let stopped = tokio::time::timeout(WRITE_INTERVAL, stop.cancelled()).await.is_ok();
            if round.is_multiple_of(SWEEP_ROUNDS) {
                self.store.sweep(Instant::now());
            }
            self.write().await;
            if stopped {
                return;
            }
        }
    }

    /// Writes the changes. If that fails, for instance on a full disk, they are written with the next ones.
    async fn write(&mut self) {
        let (store, file) = (self.store.clone(), self.file.clone());
        let written = spawn_blocking(move || write_changes(&store, file.as_deref())).await;
        match written {
            Ok(Ok(())) => self.is_failing = false,
            Ok(Err(error)) => self.failed(&error),
            Err(error) => self.failed(&error),
        }
    }

    /// Logs the first of consecutive failures.
    fn failed(&mut self, error: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(%error, "cannot write the routing store; will retry");
        }
    }
}

/// Loads `store` from the file, which is replaced if it is damaged.
async fn restored(path: PathBuf, store: Store) -> Result<File, redb::Error> {
    let found = path.clone();
    let read = spawn_blocking(move || {
        let (file, now) = (File::open(&found)?, Now::read());
        store.restore(file.read(now)?, now);
        Ok(file)
    });
    let why = match read.await {
        Ok(Err(error)) if disk::is_damage(&error) => error.to_string(),
        Ok(opened) => return opened,
        // A file that makes the reader panic is damaged too.
        Err(panicked) => panicked.to_string(),
    };
    tracing::warn!(path = %path.display(), why, "routing store is damaged; starting with an empty one");
    File::replace(&path)
}

fn write_changes(store: &Store, file: Option<&File>) -> Result<(), redb::Error> {
    let (providers, values) = store.drain_changes();
    let Some(file) = file else { return Ok(()) };
    let write = || {
        let now = Now::read();
        for keys in providers.chunks(WRITE_BATCH) {
            file.write(&store.rows(keys, &[]), now)?;
        }
        values.chunks(WRITE_BATCH).try_for_each(|keys| file.write(&store.rows(&[], keys), now))
    };
    let written = write();
    if written.is_err() {
        store.return_changes((providers, values));
    }
    written
}

#[cfg(test)]
mod tests;
