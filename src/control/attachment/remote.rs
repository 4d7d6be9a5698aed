//! The instance's side: the attachment of a command at the other end of the control socket.

use std::{
    fs::File,
    io::{self, BufRead, Read},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Buf, Bytes};
use tokio::{io::BufReader, sync::mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    Attachment, Destination,
    frame::{Frame, Kind},
    passed::PassedReader,
};
use crate::{
    control::message::{Answer, Ask, Attached, AttachedLayer},
    images::{
        archive::{self, ArchiveFolder, ArchiveSource, ArchiveStream, FolderFile},
        bundle::import::BundleFile,
        export::{ExportOrders, ExportTarget},
        input::Input,
        layer::LayerFile,
    },
};

/// Frames that wait to be read.
const QUEUE_LENGTH: usize = 8;

/// The longest name of a file, with its size.
const MAX_ENTRY_BYTES: u64 = 512;

/// Where frames arrive, with the open files that were passed.
pub type Frames = mpsc::Sender<io::Result<(Frame, Option<OwnedFd>)>>;

/// An attachment, and what serves it.
pub struct Remote {
    /// The attachment.
    pub attachment: Attachment,
    /// What the instance asks of the command.
    pub asks: mpsc::UnboundedReceiver<Ask>,
    /// What the command answers.
    pub frames: Frames,
    /// What an export writes.
    pub orders: ExportOrders,
}

impl Remote {
    /// Makes the attachment that a command describes. It is read in threads that may block.
    pub fn new(attached: Attached, gone: CancellationToken) -> Self {
        let (ask, asks) = mpsc::unbounded_channel();
        let (sender, frames) = mpsc::channel(QUEUE_LENGTH);
        let files = RemoteFiles(Arc::new(Mutex::new(CommandLink { ask, frames, gone, is_open: false })));
        let (target, orders) = ExportTarget::remote();
        let attachment = match attached {
            Attached::Nothing => Attachment::Nothing,
            Attached::Archive { what, size, manifest } => {
                let input = Input::stream(files.bytes(Ask::Archive));
                let stream = ArchiveStream { what, input, size, manifest };
                Attachment::Archive(ArchiveSource::Stream(stream))
            }
            Attached::Folder => Attachment::Archive(ArchiveSource::Folder(Box::new(RemoteFolder(files)))),
            Attached::Layers(layers) => {
                let layers = layers.into_iter().enumerate().map(|(number, layer)| {
                    let input = files.bytes(Ask::Layer(number));
                    let AttachedLayer { name, what, size, is_folder } = layer;
                    let mut file = LayerFile::new(name, what, size, Input::stream(input));
                    file.is_folder = is_folder;
                    file
                });
                Attachment::Layers(layers.collect())
            }
            Attached::Bundles(bundles) => {
                let bundles = bundles.into_iter().enumerate().map(|(number, bundle)| BundleFile {
                    what: bundle.what,
                    input: Input::stream(files.bytes(Ask::Bundle(number))),
                    size: bundle.size,
                });
                Attachment::Bundles(bundles.collect())
            }
            Attached::Export => Attachment::Export(Destination::made(target)),
        };
        Self { attachment, asks, frames: sender, orders }
    }
}

/// Reads frames until the command is gone.
pub async fn receive(mut from: BufReader<PassedReader>, frames: Frames, gone: CancellationToken) {
    loop {
        let frame = Frame::read(&mut from).await.map(|frame| {
            let file = if frame.kind == Kind::Passed { from.get_mut().take_file() } else { None };
            (frame, file)
        });
        let ended = frame.is_err();
        if ended {
            gone.cancel();
        }
        if frames.send(frame).await.is_err() || ended {
            return;
        }
    }
}

/// The files of a command. One file at a time is read.
#[derive(Clone)]
struct RemoteFiles(Arc<Mutex<CommandLink>>);

struct CommandLink {
    ask: mpsc::UnboundedSender<Ask>,
    frames: mpsc::Receiver<io::Result<(Frame, Option<OwnedFd>)>>,
    gone: CancellationToken,
    /// Whether bytes of a file are still to come.
    is_open: bool,
}

/// A file that was found.
struct FoundFile {
    size: Option<u64>,
    /// The file itself; where it is absent, its bytes follow.
    passed: Option<File>,
}

impl CommandLink {
    fn next(&mut self) -> io::Result<(Frame, Option<OwnedFd>)> {
        let gone = || Err(io::Error::other("the command is gone"));
        let (frame, file) = self.frames.blocking_recv().unwrap_or_else(gone)?;
        self.is_open = frame.kind == Kind::Data;
        match frame.kind {
            Kind::Failed => Err(io::Error::other("the command could not read it")),
            _ => Ok((frame, file)),
        }
    }

    /// Asks for a file.
    fn ask(&mut self, ask: Ask) -> io::Result<Option<FoundFile>> {
        // The unread rest of the previous file is still on its way.
        while self.is_open {
            self.next()?;
        }
        let is_second = matches!(ask, Ask::Bytes);
        self.ask.send(ask).map_err(|_| io::Error::other("the command is gone"))?;
        let (frame, file) = self.next()?;
        let Answer::Found { size } = serde_json::from_slice(&frame.bytes)? else { return Ok(None) };
        let passed = file.map(File::from).filter(|file| file.metadata().is_ok_and(|meta| meta.is_file()));
        match (frame.kind, passed) {
            (Kind::Passed, None) if is_second => Err(io::Error::other("the command did not send the file")),
            (Kind::Passed, None) => self.ask(Ask::Bytes),
            (_, passed) => {
                self.is_open = passed.is_none();
                Ok(Some(FoundFile { size, passed }))
            }
        }
    }
}

impl RemoteFiles {
    fn link(&self) -> MutexGuard<'_, CommandLink> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of a file, which is asked for when they are read.
    fn bytes(&self, ask: Ask) -> RemoteFile {
        RemoteFile { files: self.clone(), ask: Some(ask), passed: None, current: Bytes::new(), ended: false }
    }
}

/// The bytes of a file.
struct RemoteFile {
    files: RemoteFiles,
    /// None once it was asked for.
    ask: Option<Ask>,
    passed: Option<File>,
    current: Bytes,
    ended: bool,
}

impl Read for RemoteFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut link = self.files.link();
        if let Some(ask) = self.ask.take() {
            self.passed = link.ask(ask)?.ok_or(io::ErrorKind::NotFound)?.passed;
        }
        if let Some(file) = &mut self.passed {
            // The caller does not wait for the result any longer.
            return match link.gone.is_cancelled() {
                true => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the command disconnected")),
                false => file.read(buffer),
            };
        }
        while self.current.is_empty() && !self.ended {
            let (frame, _) = link.next()?;
            self.ended = frame.kind != Kind::Data;
            self.current = frame.bytes;
        }
        let length = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// A layout folder of a command.
struct RemoteFolder(RemoteFiles);

impl ArchiveFolder for RemoteFolder {
    fn open(&self, path: &str) -> Result<Option<FolderFile>, archive::Error> {
        let found = self.0.link().ask(Ask::File(path.into())).map_err(|e| failed(path, e))?;
        let Some(FoundFile { size, passed }) = found else { return Ok(None) };
        let size = size.ok_or_else(|| failed(path, io::Error::other("its size is not known")))?;
        let (files, current) = (self.0.clone(), Bytes::new());
        let input = Input::stream(RemoteFile { files, ask: None, passed, current, ended: false });
        Ok(Some(FolderFile { input, size }))
    }

    fn has(&self, path: &str) -> Result<bool, archive::Error> {
        let found = self.0.link().ask(Ask::Has(path.into()));
        found.map(|found| found.is_some()).map_err(|e| failed(path, e))
    }

    fn list(&self, path: &str, each: &mut dyn FnMut(&str, u64)) -> Result<(), archive::Error> {
        let mut entries = io::BufReader::new(self.0.bytes(Ask::List(path.into())));
        let mut entry = Vec::new();
        loop {
            entry.clear();
            let length = (&mut entries).take(MAX_ENTRY_BYTES).read_until(0, &mut entry);
            if length.map_err(|e| failed(path, e))? == 0 {
                return Ok(());
            }
            let text = std::str::from_utf8(&entry).ok().and_then(|text| text.strip_suffix('\0'));
            let parsed = text.and_then(|text| text.split_once(' '));
            let parsed = parsed.and_then(|(size, name)| Some((name, size.parse().ok()?)));
            let (name, size) =
                parsed.ok_or_else(|| failed(path, io::Error::other("an invalid list of files")))?;
            each(name, size);
        }
    }
}

fn failed(path: &str, error: io::Error) -> archive::Error {
    archive::Error::Read { what: path.into(), why: error.to_string() }
}
