//! The thread that writes the audit log.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write, stdout},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use super::AuditError;
use crate::http::lock::locked;

/// Stands for the standard output.
const STDOUT: &str = "-";
/// Between two tries to write a line; doubled after each.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(10);

/// What the thread gets.
pub enum Message {
    /// A line. `written` is told when it is written, and dropped when it has to wait.
    Line { line: Line, written: oneshot::Sender<()> },
    /// All before it is written, and what [`Shared`] has is seen.
    Wake(oneshot::Sender<()>),
}

/// A line with its end, which counts as unwritten until this is dropped.
pub struct Line {
    bytes: Vec<u8>,
    shared: Arc<Shared>,
}

impl Line {
    pub fn new(bytes: Vec<u8>, shared: &Arc<Shared>) -> Self {
        shared.unwritten.fetch_add(1, Ordering::Relaxed);
        Self { bytes, shared: shared.clone() }
    }

    /// Tells a line that the file does not take in the log of the process.
    pub fn log(&self) {
        let line = String::from_utf8_lossy(self.bytes.trim_ascii_end());
        tracing::error!(%line, "a line is missing in the audit log");
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shared.unwritten.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the thread is told past the queue, and what it tells.
#[derive(Default)]
pub struct Shared {
    told: Mutex<Told>,
    changed: Condvar,
    is_failing: AtomicBool,
    /// Lines that wait for a place in the queue, are in it, or are being written.
    unwritten: AtomicUsize,
}

#[derive(Default)]
struct Told {
    /// The file is to be opened again.
    reopen: bool,
    /// Lines that cannot be written do not wait any more.
    close: bool,
}

impl Shared {
    /// Has the file opened again before the next line.
    pub fn reopen(&self) {
        locked(&self.told).reopen = true;
        self.changed.notify_all();
    }

    /// Has each line tried once more at most.
    pub fn close(&self) {
        locked(&self.told).close = true;
        self.changed.notify_all();
    }

    /// Whether the last line could not be written yet.
    pub fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// How many lines are neither written nor in the log of the process.
    pub fn unwritten(&self) -> usize {
        self.unwritten.load(Ordering::Relaxed)
    }

    fn is_closing(&self) -> bool {
        locked(&self.told).close
    }

    /// Waits, but not when there is something to do.
    fn wait(&self, delay: Duration) {
        let told = locked(&self.told);
        let is_idle = |told: &mut Told| !told.reopen && !told.close;
        drop(self.changed.wait_timeout_while(told, delay, is_idle).unwrap_or_else(PoisonError::into_inner));
    }
}

/// Where lines go.
pub enum Target {
    Stdout,
    File(File),
}

impl Target {
    /// Opens a file, or the standard output for `-`.
    pub fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new(STDOUT) {
            return Ok(Self::Stdout);
        }
        let mut file = File::options().create(true).append(true).mode(0o600).open(path)?;
        if is_cut_short(path).unwrap_or_default() {
            let _ = file.write_all(b"\n");
        }
        Ok(Self::File(file))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match self {
            Self::Stdout => stdout().lock().write_all(bytes).map(|()| bytes.len()),
            Self::File(file) => file.write(bytes),
        }?;
        if written == 0 { Err(ErrorKind::WriteZero.into()) } else { Ok(written) }
    }
}

/// Whether the last line of a file has no end: the disk was full, or the machine stopped.
fn is_cut_short(path: &Path) -> io::Result<bool> {
    let metadata = path.metadata()?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Ok(false);
    }
    let (mut file, mut last) = (File::open(path)?, [0]);
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// The state of the thread.
pub struct Writer {
    path: PathBuf,
    target: Target,
    shared: Arc<Shared>,
}

impl Writer {
    pub fn new(path: PathBuf, target: Target, shared: Arc<Shared>) -> Self {
        Self { path, target, shared }
    }

    /// Writes until all senders are gone.
    pub fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        while let Some(message) = messages.blocking_recv() {
            self.reopen_if_told();
            match message {
                Message::Line { line, written } => self.write(&line, written),
                Message::Wake(done) => drop(done.send(())),
            }
        }
    }

    /// Returns whether there is another file now.
    fn reopen_if_told(&mut self) -> bool {
        if !std::mem::take(&mut locked(&self.shared.told).reopen) || matches!(self.target, Target::Stdout) {
            return false;
        }
        match Target::open(&self.path) {
            Ok(target) => {
                self.target = target;
                true
            }
            Err(why) => {
                tracing::error!("{}; the previous file stays", AuditError::new(&self.path, why));
                false
            }
        }
    }

    /// Appends a line, by one call if the disk has room, so that lines of several processes do not mix.
    fn write(&mut self, line: &Line, written: oneshot::Sender<()>) {
        let (mut rest, mut delay, mut written) = (line.bytes.as_slice(), FIRST_RETRY, Some(written));
        while !rest.is_empty() {
            match self.target.write(rest) {
                Ok(length) => rest = &rest[length..],
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) => {
                    self.failed(why);
                    // The request is answered.
                    written = None;
                    if self.shared.is_closing() {
                        return line.log();
                    }
                    self.shared.wait(delay);
                    delay = (delay * 2).min(MAX_RETRY);
                    if self.reopen_if_told() {
                        rest = &line.bytes;
                    }
                }
            }
        }
        if self.shared.is_failing.swap(false, Ordering::Relaxed) {
            tracing::info!(path = %self.path.display(), "the audit log is written again");
        }
        if let Some(written) = written {
            let _ = written.send(());
        }
    }

    fn failed(&self, why: io::Error) {
        if !self.shared.is_failing.swap(true, Ordering::Relaxed) {
            let error = AuditError::new(&self.path, why);
            tracing::error!("{error}; its lines wait, and are written once it can be");
        }
    }
}
