//! The command's side of an import: reads its files as the instance asks for them.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::AsFd,
};

use tokio::{io::AsyncWriteExt, net::unix::OwnedWriteHalf, runtime::Handle, sync::mpsc};

use super::{
    Attachment,
    frame::{self, Kind, MAX_BYTES},
    passed,
};
use crate::{
    control::{
        Failure,
        failure::{import_failure, layer_file_failure},
        message::{Answer, Ask},
    },
    images::{
        archive::{self, ArchiveFolder, ArchiveSource, ArchiveStream, FolderFile},
        bundle::import::BundleFile,
        input::Input,
        layer::LayerFile,
    },
};

/// Why serving ended early.
enum Error {
    /// A file cannot be read.
    Failed(Failure),
    /// The instance is gone, or needs nothing else.
    Closed,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<io::Error> for Error {
    fn from(_: io::Error) -> Self {
        Self::Closed
    }
}

/// Serves the files of an attachment until the last question. It blocks. A file that cannot be read ends it:
/// `failed` is told why before the instance is.
pub fn serve(
    attachment: Attachment,
    mut asks: mpsc::UnboundedReceiver<Ask>,
    to: OwnedWriteHalf,
    failed: impl FnOnce(Failure),
) {
    let mut out = FrameWriter { to, handle: Handle::current() };
    let mut files = ServedFiles { attached: ServedAttachment::of(attachment), passed: None };
    while let Some(ask) = asks.blocking_recv() {
        match files.answer(ask, &mut out) {
            Ok(()) => {}
            Err(Error::Closed) => return,
            Err(Error::Failed(failure)) => {
                failed(failure);
                let _ = out.send(Kind::Failed, &[]);
                return;
            }
        }
    }
}

/// Writes frames from a thread that may block.
struct FrameWriter {
    to: OwnedWriteHalf,
    handle: Handle,
}

impl FrameWriter {
    fn send(&mut self, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        self.handle.block_on(frame::write(&mut self.to, kind, bytes))
    }

    fn answer(&mut self, answer: Answer) -> io::Result<()> {
        self.send(Kind::Answer, &serde_json::to_vec(&answer)?)
    }

    /// Answers with an open file.
    fn pass(&mut self, size: Option<u64>, file: &File) -> io::Result<()> {
        let answer = serde_json::to_vec(&Answer::Found { size })?;
        let bytes = [&frame::head(Kind::Passed, answer.len())[..], &answer].concat();
        let Self { to, handle } = self;
        handle.block_on(async {
            let sent = passed::send((*to).as_ref(), &bytes, file.as_fd()).await?;
            to.write_all(&bytes[sent..]).await
        })
    }

    fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        bytes.chunks(MAX_BYTES).try_for_each(|chunk| self.send(Kind::Data, chunk))
    }

    fn end(&mut self) -> io::Result<()> {
        self.send(Kind::End, &[])
    }

    /// Sends a file, whose errors `read_error` explains.
    fn copy(
        &mut self,
        size: Option<u64>,
        mut input: impl Read,
        read_error: impl Fn(io::Error) -> Failure,
    ) -> Result<(), Error> {
        self.answer(Answer::Found { size })?;
        let mut buffer = vec![0; MAX_BYTES];
        loop {
            match input.read(&mut buffer) {
                Ok(0) => return Ok(self.end()?),
                Ok(length) => self.data(&buffer[..length])?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(read_error(e).into()),
            }
        }
    }
}

/// What is served.
struct ServedFiles {
    attached: ServedAttachment,
    /// The file that was passed last, until the next question: it may not arrive.
    passed: Option<Passed>,
}

enum ServedAttachment {
    Nothing,
    Stream(Option<ArchiveStream>),
    Folder(Box<dyn ArchiveFolder>),
    /// Each until it was sent.
    Layers(Vec<Option<LayerFile>>),
    Bundles(Vec<Option<BundleFile>>),
}

enum Passed {
    Input { what: String, input: Input, size: Option<u64> },
    Layer(LayerFile),
}

impl ServedAttachment {
    fn of(attachment: Attachment) -> Self {
        match attachment {
            Attachment::Archive(ArchiveSource::Stream(stream)) => Self::Stream(Some(stream)),
            Attachment::Archive(ArchiveSource::Folder(folder)) => Self::Folder(folder),
            Attachment::Layers(files) => Self::Layers(files.into_iter().map(Some).collect()),
            Attachment::Bundles(files) => Self::Bundles(files.into_iter().map(Some).collect()),
            Attachment::Nothing | Attachment::Export(_) => Self::Nothing,
        }
    }
}

impl ServedFiles {
    fn answer(&mut self, ask: Ask, out: &mut FrameWriter) -> Result<(), Error> {
        let passed = self.passed.take();
        match (&mut self.attached, ask) {
            (_, Ask::Bytes) => match passed.ok_or(Error::Closed)? {
                Passed::Input { what, input, size } => out.copy(size, input, |e| unreadable(&what, e)),
                Passed::Layer(file) => send_layer(file, out),
            },
            (ServedAttachment::Stream(stream), Ask::Archive) => {
                let ArchiveStream { what, input, size, .. } = stream.take().ok_or(Error::Closed)?;
                self.send(what, input, size, out)
            }
            (ServedAttachment::Bundles(files), Ask::Bundle(number)) => {
                let file = files.get_mut(number).and_then(Option::take).ok_or(Error::Closed)?;
                let BundleFile { what, input, size } = file;
                self.send(what, input, size, out)
            }
            (ServedAttachment::Folder(folder), Ask::File(path)) => {
                match folder.open(&path).map_err(|e| import_failure(e.into()))? {
                    Some(FolderFile { input, size }) => self.send(path, input, Some(size), out),
                    None => Ok(out.answer(Answer::Missing)?),
                }
            }
            (ServedAttachment::Folder(folder), Ask::Has(path)) => {
                let has = folder.has(&path).map_err(|e| import_failure(e.into()))?;
                match has {
                    true => out.copy(None, io::empty(), |e| unreadable(&path, e)),
                    false => Ok(out.answer(Answer::Missing)?),
                }
            }
            (ServedAttachment::Folder(folder), Ask::List(path)) => {
                let mut list = Vec::new();
                let mut add = |name: &str, size| drop(write!(list, "{size} {name}\0"));
                folder.list(&path, &mut add).map_err(|e| import_failure(e.into()))?;
                out.copy(None, &list[..], |e| unreadable(&path, e))
            }
            (ServedAttachment::Layers(files), Ask::Layer(number)) => {
                let file = files.get_mut(number).and_then(Option::take).ok_or(Error::Closed)?;
                let Some(opened) = file.file() else { return send_layer(file, out) };
                out.pass(file.size, opened)?;
                self.passed = Some(Passed::Layer(file));
                Ok(())
            }
            // Only attached files are served.
            _ => Err(Error::Closed),
        }
    }

    /// Passes a regular file, and sends the bytes of anything else.
    fn send(
        &mut self,
        what: String,
        input: Input,
        size: Option<u64>,
        out: &mut FrameWriter,
    ) -> Result<(), Error> {
        let Input::File(file) = &input else { return out.copy(size, input, |e| unreadable(&what, e)) };
        out.pass(size, file)?;
        self.passed = Some(Passed::Input { what, input, size });
        Ok(())
    }
}

fn send_layer(file: LayerFile, out: &mut FrameWriter) -> Result<(), Error> {
    out.answer(Answer::Found { size: file.size })?;
    let mut sent = Ok(());
    let read = file.read_to(|bytes| {
        sent = out.data(&bytes);
        match sent {
            Ok(()) => Ok(()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    });
    sent?;
    read.map_err(layer_file_failure)?;
    Ok(out.end()?)
}

fn unreadable(what: &str, error: io::Error) -> Failure {
    import_failure(archive::Error::Read { what: what.into(), why: error.to_string() }.into())
}
