//! The bytes of an archive: counted, decompressed, and limited where only headers may stand.

use std::{
    cell::Cell,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    rc::Rc,
};

use flate2::bufread::MultiGzDecoder;

use crate::images::pack::inspect::Compression;

/// Maximum size of the headers of one entry: its long names and attributes.
const MAX_HEADERS: u64 = 1 << 20;

/// Told the bytes read so far.
pub type Progress = Box<dyn FnMut(u64) + Send>;

/// Counts what is read.
pub struct CountingReader<R> {
    inner: R,
    done: u64,
    progress: Progress,
}

impl<R: Read> CountingReader<R> {
    pub fn new(inner: R, progress: Progress) -> Self {
        Self { inner, done: 0, progress }
    }
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.done += length as u64;
        (self.progress)(self.done);
        Ok(length)
    }
}

/// A stream of a tar, whatever it is compressed by.
pub fn decompressed(mut input: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    let mut start = Vec::new();
    input.by_ref().take(4).read_to_end(&mut start)?;
    let compression = Compression::detect(&start);
    let input = BufReader::with_capacity(1 << 20, io::Cursor::new(start).chain(input));
    Ok(match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(MultiGzDecoder::new(input)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(input)?),
    })
}

/// Lets no more than the headers of one entry be read before the next [`next`](Self::next): the tar reader keeps
/// long names and attributes in memory, however many bytes they claim.
pub struct Limited<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

/// Says what may be read.
#[derive(Clone)]
pub struct Limit(Rc<Cell<u64>>);

impl Limit {
    /// Headers follow.
    pub fn headers(&self) {
        self.0.set(MAX_HEADERS);
    }

    /// The data of an entry follows.
    pub fn data(&self) {
        self.0.set(u64::MAX);
    }
}

impl<R> Limited<R> {
    pub fn new(inner: R) -> (Self, Limit) {
        let left = Rc::new(Cell::new(MAX_HEADERS));
        (Self { inner, left: left.clone() }, Limit(left))
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)? as u64;
        let left = self.left.get().checked_sub(length);
        self.left.set(left.ok_or_else(|| io::Error::other("the header of an entry is too large"))?);
        Ok(length as usize)
    }
}

impl<R: Seek> Seek for Limited<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

/// Whether a tar has `manifest.json`, as docker archives do; none where only reading all of it would tell.
pub fn is_docker(file: &mut File) -> Option<bool> {
    let mut start = [0; 4];
    file.read_exact(&mut start).ok()?;
    file.rewind().ok()?;
    if Compression::detect(&start) != Compression::None {
        return None;
    }
    let (input, limit) = Limited::new(BufReader::new(&mut *file));
    let mut archive = tar::Archive::new(input);
    let mut found = false;
    for entry in archive.entries_with_seek().ok()? {
        // What is wrong with it is said when it is read.
        let Ok(entry) = entry else { break };
        found |= super::parts::clean(&entry.path_bytes()).is_ok_and(|path| path == "manifest.json");
        limit.headers();
    }
    file.rewind().ok()?;
    Some(found)
}
