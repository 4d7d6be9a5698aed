//! An archive that is being written: a folder, or a tar, compressed or not, into a file or any other writer.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    thread,
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::parts::{Parts, PartsDest};
use crate::images::pack::{gzip::GzipWriter, inspect::Compression};

/// Chunks that wait for the disk.
const QUEUE_LENGTH: usize = 16;
/// Bytes that are written at a time.
const BUFFER_BYTES: usize = 1 << 20;
/// At which `zstd` compresses by default.
const ZSTD_LEVEL: i32 = 3;

/// Where an archive is written to.
pub enum Dest {
    /// A folder, which must not be there, or be empty.
    Folder(PathBuf),
    /// A tar file, which must not be there.
    File(PathBuf, Compression),
    /// A tar in any other place. What it gets is complete only if the export succeeds.
    Stream(Box<dyn Write + Send>, Compression),
    /// The parts of a bundle, each a file of the export.
    Parts(PartsDest),
}

/// An archive that is being written by a thread of its own; dropped before its end, it leaves no file.
pub struct ExportTarget {
    orders: mpsc::Sender<ExportOrder>,
    outcome: oneshot::Receiver<io::Result<()>>,
}

/// What an [`ExportTarget`] is told to do.
pub enum ExportOrder {
    /// Begin a file.
    File {
        /// Its path in the layout.
        path: String,
        /// Its bytes.
        size: u64,
    },
    /// Write the next bytes of the file.
    Bytes(Bytes),
    /// Complete the archive.
    Finish,
}

/// The other end of an [`ExportTarget`], which carries out its orders.
pub struct ExportOrders {
    orders: mpsc::Receiver<ExportOrder>,
    /// None once the export has ended.
    tell: Option<oneshot::Sender<io::Result<()>>>,
}

impl ExportOrders {
    /// Waits for the next order, without end where the export has ended or is abandoned.
    pub async fn next(&mut self) -> ExportOrder {
        match self.orders.recv().await {
            Some(order) if self.tell.is_some() => order,
            _ => {
                self.tell = None;
                std::future::pending().await
            }
        }
    }

    /// Ends the export, which is complete or failed.
    pub fn end(&mut self, outcome: io::Result<()>) {
        self.orders.close();
        if let Some(tell) = self.tell.take() {
            let _ = tell.send(outcome);
        }
    }
}

impl ExportTarget {
    /// Creates the folder or the file, and starts to write.
    pub fn create(dest: Dest) -> io::Result<Self> {
        let (sink, made) = match dest {
            Dest::Folder(dir) => (ExportSink::folder(&dir)?, Some(dir)),
            Dest::File(path, compression) => {
                let file = File::create_new(&path)?;
                (ExportSink::tar(TarOutput::File(file), compression)?, Some(path))
            }
            Dest::Stream(stream, compression) => {
                (ExportSink::tar(TarOutput::Stream(stream), compression)?, None)
            }
            Dest::Parts(dest) => (ExportSink::Parts(Parts::new(dest)?), None),
        };
        let (target, mut received) = Self::remote();
        let write = move || {
            let written = run(sink, &mut received.orders);
            if let (Err(_), Some(made)) = (&written, made) {
                remove(&made);
            }
            received.end(written);
        };
        thread::Builder::new().name("export".into()).spawn(write)?;
        Ok(target)
    }

    /// A target whose orders are carried out elsewhere.
    pub fn remote() -> (Self, ExportOrders) {
        let (orders, received) = mpsc::channel(QUEUE_LENGTH);
        let (tell, outcome) = oneshot::channel();
        (Self { orders, outcome }, ExportOrders { orders: received, tell: Some(tell) })
    }

    /// Begins a file of so many bytes.
    pub async fn file(&mut self, path: &str, size: u64) -> io::Result<()> {
        self.order(ExportOrder::File { path: path.into(), size }).await
    }

    /// The next bytes of it.
    pub async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        self.order(ExportOrder::Bytes(bytes)).await
    }

    /// Waits until all of it is written, and on the disk where that is its place.
    pub async fn finish(mut self) -> io::Result<()> {
        self.order(ExportOrder::Finish).await?;
        self.outcome.await.unwrap_or_else(|_| Err(aborted()))
    }

    /// Waits until nothing of it is left.
    pub async fn abandon(self) {
        drop(self.orders);
        let _ = self.outcome.await;
    }

    async fn order(&mut self, order: ExportOrder) -> io::Result<()> {
        match self.orders.send(order).await {
            Ok(()) => Ok(()),
            Err(_) => match (&mut self.outcome).await {
                Ok(Err(error)) => Err(error),
                _ => Err(aborted()),
            },
        }
    }
}

fn aborted() -> io::Error {
    io::Error::other("export aborted")
}

/// Writes what is ordered, to the end.
fn run(mut sink: ExportSink, received: &mut mpsc::Receiver<ExportOrder>) -> io::Result<()> {
    while let Some(order) = received.blocking_recv() {
        let done = match order {
            ExportOrder::File { path, size } => sink.file(&path, size),
            ExportOrder::Bytes(bytes) => sink.write(&bytes),
            ExportOrder::Finish => return sink.finish(),
        };
        if let Err(error) = done {
            sink.abort();
            return Err(error);
        }
    }
    sink.abort();
    Err(aborted())
}

fn remove(made: &Path) {
    let _ = match made.is_dir() {
        true => fs::remove_dir_all(made),
        false => fs::remove_file(made),
    };
}

/// The file that a tar becomes.
enum TarOutput {
    File(File),
    Stream(Box<dyn Write + Send>),
}

impl Write for TarOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stream(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stream(stream) => stream.flush(),
        }
    }
}

/// An encoder for the bytes of a tar.
enum Encoder {
    None(BufWriter<TarOutput>),
    Gzip(GzipWriter<BufWriter<TarOutput>>),
    Zstd(zstd::Encoder<'static, BufWriter<TarOutput>>),
    Aborted,
}

impl Encoder {
    fn new(place: TarOutput, compression: Compression) -> io::Result<Self> {
        let file = BufWriter::with_capacity(BUFFER_BYTES, place);
        Ok(match compression {
            Compression::None => Self::None(file),
            Compression::Gzip => Self::Gzip(GzipWriter::new(file)),
            Compression::Zstd => Self::Zstd(zstd::Encoder::new(file, ZSTD_LEVEL)?),
        })
    }

    fn finish(self) -> io::Result<()> {
        let file = match self {
            Self::None(file) => file,
            Self::Gzip(gzip) => gzip.finish()?,
            Self::Zstd(zstd) => zstd.finish()?,
            Self::Aborted => return Err(aborted()),
        };
        match file.into_inner().map_err(|e| e.into_error())? {
            TarOutput::File(file) => file.sync_all(),
            mut place => place.flush(),
        }
    }
}

impl Write for Encoder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(file) => file.write(bytes),
            Self::Gzip(gzip) => gzip.write(bytes),
            Self::Zstd(zstd) => zstd.write(bytes),
            Self::Aborted => Err(aborted()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum ExportSink {
    Folder {
        dir: PathBuf,
        open: Option<BufWriter<File>>,
    },
    /// With what is missing of the last file's last block.
    Tar {
        tar: tar::Builder<Encoder>,
        padding: usize,
    },
    Parts(Parts),
}

impl ExportSink {
    fn folder(dir: &Path) -> io::Result<Self> {
        match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the folder is not empty")),
            Err(_) => fs::create_dir(dir)?,
        }
        Ok(Self::Folder { dir: dir.into(), open: None })
    }

    fn tar(place: TarOutput, compression: Compression) -> io::Result<Self> {
        Ok(Self::Tar { tar: tar::Builder::new(Encoder::new(place, compression)?), padding: 0 })
    }

    fn file(&mut self, path: &str, size: u64) -> io::Result<()> {
        self.end_file()?;
        match self {
            Self::Folder { dir, open } => {
                let full = dir.join(path);
                full.parent().map_or(Ok(()), fs::create_dir_all)?;
                *open = Some(BufWriter::with_capacity(BUFFER_BYTES, File::create_new(full)?));
            }
            Self::Tar { tar, padding } => {
                // In this form paths may be longer than 100 bytes, as those of sha512 digests are.
                let mut header = tar::Header::new_gnu();
                header.set_size(size);
                header.set_mode(0o644);
                header.set_mtime(0);
                header.set_entry_type(tar::EntryType::Regular);
                tar.append_data(&mut header, path, io::empty())?;
                *padding = (512 - (size % 512) as usize) % 512;
            }
            Self::Parts(parts) => parts.begin()?,
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Folder { open: Some(file), .. } => file.write_all(bytes),
            Self::Folder { .. } => Ok(()),
            Self::Tar { tar, .. } => tar.get_mut().write_all(bytes),
            Self::Parts(parts) => parts.write(bytes),
        }
    }

    fn end_file(&mut self) -> io::Result<()> {
        match self {
            Self::Folder { open, .. } => match open.take() {
                Some(file) => file.into_inner().map_err(|e| e.into_error())?.sync_all(),
                None => Ok(()),
            },
            Self::Tar { tar, padding } => {
                let missing = std::mem::take(padding);
                tar.get_mut().write_all(&[0; 512][..missing])
            }
            Self::Parts(parts) => parts.end(),
        }
    }

    fn finish(mut self) -> io::Result<()> {
        if let Err(error) = self.end_file() {
            self.abort();
            return Err(error);
        }
        match self {
            Self::Folder { .. } => Ok(()),
            Self::Tar { tar, .. } => tar.into_inner()?.finish(),
            Self::Parts(parts) => parts.finish(),
        }
    }

    /// Ends the writing as it is: a dropped tar would get its end, and look whole.
    fn abort(&mut self) {
        let Self::Tar { tar, .. } = self else { return };
        drop(std::mem::replace(tar.get_mut(), Encoder::Aborted));
    }
}

#[cfg(test)]
mod tests;
