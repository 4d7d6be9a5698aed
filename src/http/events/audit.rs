//! The audit log: one JSON object per line, in a file or on the standard output.
//!
//! One thread writes. A request queues its line and waits until it is written, but not for a disk that is slow or full: then the
//! line waits in the queue, and is written later. Where the queue is full too, and at the end of the process, lines that cannot be
//! written go to the log of the process. Only where the disk does not answer at all are the last lines lost; then the log tells how
//! many.

mod writer;

#[cfg(test)]
mod tests;

use std::{io, path::Path, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::Event;
use crate::http::reloaded::Reload;
use writer::{Line, Message, Shared, Target, Writer};

/// Lines that wait for a slow disk: some megabytes.
const QUEUE: usize = 10_000;
/// How long a request waits for its line, and for a place in the queue.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the last lines may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no audit log.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the audit log {path}: {why}")]
pub struct AuditError {
    path: String,
    why: io::Error,
}

impl AuditError {
    /// A file, and the error of the operating system.
    pub fn new(path: &Path, why: io::Error) -> Self {
        Self { path: path.display().to_string(), why }
    }
}

/// An audit log. Clones share it.
#[derive(Clone)]
pub struct Audit {
    queue: mpsc::Sender<Message>,
    shared: Arc<Shared>,
    /// [`WRITE_TIMEOUT`], except in tests.
    write_timeout: Duration,
}

impl Audit {
    /// Opens a file to append to, which only its owner can read if it is new, and starts the thread that writes.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        Self::with_queue(path, QUEUE, WRITE_TIMEOUT)
    }

    fn with_queue(path: &Path, length: usize, write_timeout: Duration) -> Result<Self, AuditError> {
        let failed = |why| AuditError::new(path, why);
        let target = Target::open(path).map_err(failed)?;
        let (queue, messages) = mpsc::channel(length);
        let shared = Arc::<Shared>::default();
        let writer = Writer::new(path.into(), target, shared.clone());
        let thread = std::thread::Builder::new().name("audit".into());
        thread.spawn(move || writer.run(messages)).map_err(failed)?;
        Ok(Self { queue, shared, write_timeout })
    }

    /// Appends a line. It is written even if the caller does not wait.
    pub async fn write(&self, event: &Event) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        let audit = self.clone();
        let _ = tokio::spawn(async move { audit.write_line(line).await }).await;
    }

    /// Queues a line, and waits until it is written, as long as a slow disk may take.
    async fn write_line(&self, line: Vec<u8>) {
        let Self { queue, shared, write_timeout } = self;
        let line = Line::new(line, shared);
        let place = match queue.try_reserve() {
            Ok(place) => Some(place),
            // It does not become better soon.
            Err(_) if shared.is_failing() => None,
            Err(_) => timeout(*write_timeout, queue.reserve()).await.ok().and_then(Result::ok),
        };
        let Some(place) = place else { return line.log() };
        let (written, is_written) = oneshot::channel();
        place.send(Message::Line { line, written });
        if !shared.is_failing() {
            let _ = timeout(*write_timeout, is_written).await;
        }
    }

    /// Opens the file again: what rotates logs has renamed it.
    pub async fn reopen(&self) {
        self.shared.reopen();
        let _ = timeout(self.write_timeout, self.wake()).await;
    }

    /// Writes the lines that wait, at the end of the process. Those that the file refuses go to the log of the process; of those that
    /// wait for a disk that does not answer, it has the number only.
    pub async fn close(&self) {
        self.shared.close();
        if timeout(CLOSE_TIMEOUT, self.wake()).await.is_ok() {
            return;
        }
        let lines = self.shared.unwritten();
        if lines > 0 {
            tracing::error!(lines, "the audit log did not take its last lines in time; they are lost");
        }
    }

    /// Has the thread see what it is told past the queue, once it has written the lines of the queue.
    async fn wake(&self) {
        let (done, is_done) = oneshot::channel();
        let _ = self.queue.send(Message::Wake(done)).await;
        let _ = is_done.await;
    }
}

impl Reload for Audit {
    fn reload(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.reopen())
    }
}
