//! The command's side of an import: reads its files as the instance asks for them.

use std::io::{self, Read, Write};

use tokio::{io::AsyncWrite, runtime::Handle, sync::mpsc};

use super::{
    Attachment,
    frame::{self, Kind, MAX_BYTES},
};
use crate::{
    control::{
        Failure,
        failure::{import_failure, layer_file_failure},
        message::{Answer, Ask},
    },
    images::{
        archive::{self, ArchiveSource, FolderFile},
        layer::LayerFile,
    },
};

/// Why serving ended early.
enum Error {
    /// A file cannot be read.
    Failed(Failure),
    /// The instance is gone, or wants no more.
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

/// Serves the files of an attachment until there are no more questions. It blocks. A file that cannot be read ends it:
/// `failed` is told why before the instance is.
pub fn serve(
    attachment: Attachment,
    mut asks: mpsc::UnboundedReceiver<Ask>,
    to: impl AsyncWrite + Unpin,
    failed: impl FnOnce(Failure),
) {
    let mut out = FrameWriter { to, handle: Handle::current() };
    let mut files = Files::of(attachment);
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
struct FrameWriter<W> {
    to: W,
    handle: Handle,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    fn send(&mut self, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        self.handle.block_on(frame::write(&mut self.to, kind, bytes))
    }

    fn answer(&mut self, answer: Answer) -> io::Result<()> {
        self.send(Kind::Answer, &serde_json::to_vec(&answer)?)
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
enum Files {
    Archive(Option<ArchiveSource>),
    /// Each until it was sent.
    Layers(Vec<Option<LayerFile>>),
}

impl Files {
    fn of(attachment: Attachment) -> Self {
        match attachment {
            Attachment::Archive(source) => Self::Archive(Some(source)),
            Attachment::Layers(files) => Self::Layers(files.into_iter().map(Some).collect()),
            Attachment::Nothing | Attachment::Export(_) => Self::Archive(None),
        }
    }

    fn answer<W: AsyncWrite + Unpin>(&mut self, ask: Ask, out: &mut FrameWriter<W>) -> Result<(), Error> {
        match (self, ask) {
            (Self::Archive(source @ Some(ArchiveSource::Stream(_))), Ask::Archive) => {
                let Some(ArchiveSource::Stream(stream)) = source.take() else { return Err(Error::Closed) };
                out.copy(stream.size, stream.input, |e| unreadable(&stream.what, e))
            }
            (Self::Archive(Some(ArchiveSource::Folder(folder))), Ask::File(path)) => {
                let found = folder.open(&path).map_err(|e| import_failure(e.into()))?;
                let Some(FolderFile { input, size }) = found else { return Ok(out.answer(Answer::Missing)?) };
                out.copy(Some(size), input, |e| unreadable(&path, e))
            }
            (Self::Archive(Some(ArchiveSource::Folder(folder))), Ask::Has(path)) => {
                match folder.has(&path).map_err(|e| import_failure(e.into()))? {
                    true => out.answer(Answer::Found { size: None })?,
                    false => return Ok(out.answer(Answer::Missing)?),
                }
                Ok(out.end()?)
            }
            (Self::Archive(Some(ArchiveSource::Folder(folder))), Ask::List(path)) => {
                let mut list = Vec::new();
                let mut add = |name: &str, size| drop(write!(list, "{size} {name}\0"));
                folder.list(&path, &mut add).map_err(|e| import_failure(e.into()))?;
                out.copy(None, &list[..], |e| unreadable(&path, e))
            }
            (Self::Layers(files), Ask::Layer(number)) => {
                let file = files.get_mut(number).and_then(Option::take).ok_or(Error::Closed)?;
                send_layer(file, out)
            }
            // What was not attached is not served.
            _ => Err(Error::Closed),
        }
    }
}

fn send_layer<W: AsyncWrite + Unpin>(file: LayerFile, out: &mut FrameWriter<W>) -> Result<(), Error> {
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
