//! Files of the account and of certificates that could not be written yet: what the server issued is used all the same, and written
//! again and again, since a new order for it would count against the limits of the server.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio_util::sync::CancellationToken;

use super::{Error, files};
use crate::http::lock::locked;

/// Between two tries; doubled after each.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(300);

/// Files to be written, with their newest bytes. Clones share them.
#[derive(Clone, Default)]
pub struct Kept(Arc<KeptInner>);

#[derive(Default)]
struct KeptInner {
    files: Mutex<BTreeMap<PathBuf, Arc<[u8]>>>,
    /// Held while files are written, so that an older state of one never replaces a newer one.
    writing: AsyncMutex<()>,
    added: Notify,
}

impl Kept {
    /// Writes a file now, or when it can be.
    pub async fn write(&self, path: PathBuf, bytes: Vec<u8>) {
        locked(&self.0.files).insert(path, bytes.into());
        if let Err(error) = self.write_all().await {
            tracing::error!(
                "{error}; what it would hold is used from memory, and written again until it is on disk"
            );
            self.0.added.notify_one();
        }
    }

    /// Writes what could not be written until `stop`, and once more then.
    pub async fn run(self, stop: &CancellationToken) {
        let writing = async {
            loop {
                self.0.added.notified().await;
                self.write_until_done().await;
            }
        };
        stop.run_until_cancelled(writing).await;
        if let Err(error) = self.write_all().await {
            tracing::error!("{error}; a new one has to be requested at the next start");
        }
    }

    async fn write_until_done(&self) {
        let mut delay = FIRST_RETRY;
        loop {
            tokio::time::sleep(delay).await;
            let Err(error) = self.write_all().await else { break };
            delay = (delay * 2).min(MAX_RETRY);
            tracing::warn!(retry_seconds = delay.as_secs(), "{error}");
        }
        tracing::info!("all files of the ACME account and its certificates are on disk");
    }

    /// Tries all files; returns an error if one is left.
    async fn write_all(&self) -> Result<(), Error> {
        let _writing = self.0.writing.lock().await;
        let mut failed = Ok(());
        let all: Vec<_> =
            locked(&self.0.files).iter().map(|(path, bytes)| (path.clone(), bytes.clone())).collect();
        for (path, bytes) in all {
            let (to, content) = (path.clone(), bytes.clone());
            let written = tokio::task::spawn_blocking(move || files::write(&to, &content)).await;
            match written.unwrap_or_else(|why| Err(files::refused(&path, why))) {
                Ok(()) => {
                    let mut files = locked(&self.0.files);
                    // There may be a newer one.
                    if files.get(&path).is_some_and(|newest| Arc::ptr_eq(newest, &bytes)) {
                        files.remove(&path);
                    }
                }
                Err(error) => failed = Err(error),
            }
        }
        failed
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_cannot_be_written_is_written_again_until_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let (one, two) = (missing.join("one.pem"), dir.path().join("two.pem"));
        let (kept, stop) = (Kept::default(), CancellationToken::new());
        kept.write(one.clone(), b"old".to_vec()).await;
        kept.write(one.clone(), b"new".to_vec()).await;
        kept.write(two.clone(), b"two".to_vec()).await;
        assert!(!one.exists() && fs::read(&two).unwrap() == b"two", "one holds up no other");
        let (running, stopping) = (kept.clone(), stop.clone());
        let running = tokio::spawn(async move { running.run(&stopping).await });
        tokio::time::sleep(FIRST_RETRY * 3).await;
        assert!(!one.exists() && !running.is_finished());
        fs::create_dir(&missing).unwrap();
        tokio::time::sleep(MAX_RETRY * 2).await;
        assert!(fs::read(&one).unwrap() == b"new", "the newest");
        assert!(locked(&kept.0.files).is_empty());
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test]
    async fn a_file_is_tried_once_more_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing/one.pem");
        let (kept, stop) = (Kept::default(), CancellationToken::new());
        kept.write(path.clone(), b"one".to_vec()).await;
        fs::create_dir(path.parent().unwrap()).unwrap();
        stop.cancel();
        kept.run(&stop).await;
        assert!(path.exists());
    }
}
