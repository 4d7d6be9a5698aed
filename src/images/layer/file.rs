//! A file, a folder or a stream that becomes a layer.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Cursor, Read, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::images::{
    input::Input,
    pack::{
        folder,
        gzip::GzipWriter,
        inspect::{COMPRESSION_MAGIC_BYTES, Compression},
    },
};

const CHUNK: usize = 1 << 20;

/// Why it cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path cannot be opened or read.
    #[error("cannot read {what}: {why}")]
    Read {
        /// What is read.
        what: String,
        /// Error of the operating system.
        why: String,
    },
    /// The path's last component cannot name a layer.
    #[error("invalid layer path {}: expected a last component in UTF-8", .0.display())]
    Name(PathBuf),
    /// The folder cannot be packed.
    #[error(transparent)]
    Pack(#[from] folder::Error),
}

/// What becomes a layer.
pub struct LayerFile {
    /// The name of the file in the layer's directory.
    pub name: String,
    /// What errors call it.
    pub what: String,
    /// Its bytes, where they are known.
    pub size: Option<u64>,
    /// Whether it is a folder, which is packed as it is read.
    pub is_folder: bool,
    bytes: LayerBytes,
}

enum LayerBytes {
    Input(Input),
    /// With the time of every entry, in seconds since 1970.
    Folder(PathBuf, u64),
}

impl LayerFile {
    /// Opens a file, a folder, or something else that can be read; `epoch` is the time of all files in a folder.
    pub fn open(path: &Path, epoch: u64) -> Result<Self, Error> {
        let what = path.display().to_string();
        let failed = |e| read(&what, e);
        let meta = fs::metadata(path).map_err(failed)?;
        if meta.is_dir() {
            // `.` and `..` name a folder by what it is called where it is.
            let full = fs::canonicalize(path).map_err(failed)?;
            let name = format!("{}.tar.gz", last_component(&full)?);
            let bytes = LayerBytes::Folder(path.into(), epoch);
            return Ok(Self { name, what, size: None, is_folder: true, bytes });
        }
        let file = File::open(path).map_err(failed)?;
        // A process substitution or a standard stream has no name of its own.
        if !meta.is_file() && ["/dev", "/proc"].iter().any(|system| path.starts_with(system)) {
            return Self::unnamed(what, file);
        }
        let name = last_component(path)?;
        Ok(match meta.is_file() {
            true => Self::new(name, what, Some(meta.len()), Input::File(file)),
            false => Self::new(name, what, None, Input::stream(file)),
        })
    }

    /// Takes an input that is called so.
    pub fn new(name: String, what: String, size: Option<u64>, input: Input) -> Self {
        Self { name, what, size, is_folder: false, bytes: LayerBytes::Input(input) }
    }

    /// Returns the regular file that it is.
    pub fn file(&self) -> Option<&File> {
        match &self.bytes {
            LayerBytes::Input(Input::File(file)) => Some(file),
            _ => None,
        }
    }

    /// Returns the folder that it is, if it is on this side of a connection.
    pub fn folder(&self) -> Option<&Path> {
        match &self.bytes {
            LayerBytes::Folder(path, _) => Some(path),
            LayerBytes::Input(_) => None,
        }
    }

    /// Takes a stream without a name, which is named by its compression.
    pub fn unnamed(what: String, mut input: impl Read + Send + 'static) -> Result<Self, Error> {
        let mut start = Vec::new();
        let reading = input.by_ref().take(COMPRESSION_MAGIC_BYTES).read_to_end(&mut start);
        reading.map_err(|e| read(&what, e))?;
        let name = match Compression::detect(&start) {
            Compression::None => "layer.tar",
            Compression::Gzip => "layer.tar.gz",
            Compression::Zstd => "layer.tar.zst",
        };
        Ok(Self::new(name.into(), what, None, Input::stream(Cursor::new(start).chain(input))))
    }

    /// Passes all bytes on, those of a folder as a compressed tar; ends early where `push` fails.
    pub fn read_to(self, mut push: impl FnMut(Bytes) -> io::Result<()>) -> Result<(), Error> {
        match self.bytes {
            LayerBytes::Input(mut input) => loop {
                let mut chunk = Vec::with_capacity(CHUNK);
                let length = input.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
                if length.map_err(|e| read(&self.what, e))? == 0 {
                    return Ok(());
                }
                push(chunk.into()).map_err(|e| Error::Pack(folder::Error::Write(e)))?;
            },
            LayerBytes::Folder(path, epoch) => {
                let mut gzip = GzipWriter::new(BufWriter::with_capacity(CHUNK, Push(push)));
                folder::pack(&path, epoch, &mut gzip)?;
                let flushed = gzip.finish().and_then(|mut out| out.flush());
                Ok(flushed.map_err(folder::Error::Write)?)
            }
        }
    }
}

struct Push<F>(F);

impl<F: FnMut(Bytes) -> io::Result<()>> Write for Push<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.0)(Bytes::copy_from_slice(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn last_component(path: &Path) -> Result<String, Error> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(String::from).ok_or_else(|| Error::Name(path.into()))
}

fn read(what: &str, error: io::Error) -> Error {
    Error::Read { what: what.into(), why: error.to_string() }
}
