//! The bytes of an archive: decompressed, and limited where only headers may stand.

use std::{
    cell::Cell,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    rc::Rc,
};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;

use super::{
    listing::{self, EarlyManifest},
    xz::XzDecoder,
};
use crate::images::pack::inspect::Compression;

/// Maximum size of the headers of one entry: its long names and attributes.
const MAX_HEADERS: u64 = 1 << 20;

/// Leading bytes that tell how an archive is compressed.
const MAGIC_BYTES: u64 = 6;

/// How an archive is compressed, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    None,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

impl Packing {
    pub fn detect(start: &[u8]) -> Self {
        match (start, Compression::detect(start)) {
            (_, Compression::Gzip) => Self::Gzip,
            (_, Compression::Zstd) => Self::Zstd,
            ([0xfd, b'7', b'z', b'X', b'Z', 0, ..], _) => Self::Xz,
            ([b'B', b'Z', b'h', b'1'..=b'9', ..], _) => Self::Bzip2,
            _ => Self::None,
        }
    }

    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
            Self::Xz => Some("xz"),
            Self::Bzip2 => Some("bzip2"),
        }
    }
}

/// Why a decoder failed.
pub type Damage = Rc<Cell<Option<io::Error>>>;

/// The bytes of a tar.
pub struct Decompressed {
    /// The tar as it is read.
    pub input: Box<dyn Read>,
    /// How they were compressed.
    pub compression: Option<&'static str>,
    /// The decoder's error.
    pub damage: Damage,
}

/// Decompresses a stream of a tar. Decoders have bounded memory, and each byte that they give is read once and counted
/// by its reader, so no ratio is too high.
pub fn decompressed(mut input: impl Read + 'static) -> io::Result<Decompressed> {
    let mut start = Vec::new();
    input.by_ref().take(MAGIC_BYTES).read_to_end(&mut start)?;
    let packing = Packing::detect(&start);
    let input = BufReader::with_capacity(1 << 20, io::Cursor::new(start).chain(input));
    let damage = Damage::default();
    let input: Box<dyn Read> = match packing {
        Packing::None => Box::new(input),
        Packing::Gzip => Box::new(Observed { inner: MultiGzDecoder::new(input), damage: damage.clone() }),
        Packing::Zstd => {
            Box::new(Observed { inner: zstd::Decoder::with_buffer(input)?, damage: damage.clone() })
        }
        Packing::Xz => {
            let inner = XzDecoder::new(input);
            Box::new(BufReader::new(Observed { inner, damage: damage.clone() }))
        }
        Packing::Bzip2 => Box::new(Observed { inner: MultiBzDecoder::new(input), damage: damage.clone() }),
    };
    Ok(Decompressed { input, compression: packing.name(), damage })
}

/// Remembers why a decoder failed, which the tar reader does not pass on.
struct Observed<R> {
    inner: R,
    damage: Damage,
}

impl<R: Read> Read for Observed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let kind = error.kind();
            // The first error says why: a decoder that failed only repeats that it did.
            let first = self.damage.take().unwrap_or(error);
            self.damage.set(Some(first));
            kind.into()
        })
    }
}

/// Lets only the headers of one entry be read before the next [`next`](Self::next): the tar reader keeps
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

/// A list of the images of an archive.
enum List {
    Manifest,
    Index,
}

/// Finds `manifest.json`, which docker archives have, in a tar that can be read twice. It counts as absent where layers are to be
/// imported as they are.
pub fn find_manifest(file: &mut File) -> io::Result<EarlyManifest> {
    let mut start = Vec::new();
    file.take(MAGIC_BYTES).read_to_end(&mut start)?;
    file.rewind()?;
    if Packing::detect(&start) != Packing::None {
        return Ok(EarlyManifest::Unknown);
    }
    let (input, limit) = Limited::new(BufReader::new(&mut *file));
    let mut archive = tar::Archive::new(input);
    let (mut found, mut is_unchanged) = (EarlyManifest::Absent, false);
    for entry in archive.entries_with_seek()? {
        // What is wrong with it is said when it is read.
        let Ok(mut entry) = entry else { break };
        let list = match super::path::clean(&entry.path_bytes()).as_deref() {
            Ok("manifest.json") => Some((List::Manifest, super::MAX_MANIFEST)),
            Ok("index.json") => Some((List::Index, super::MAX_INDEX)),
            _ => None,
        };
        if let Some((list, most)) = list {
            let mut bytes = Vec::new();
            limit.data();
            let _ = entry.by_ref().take(most).read_to_end(&mut bytes);
            match list {
                List::Index => is_unchanged = listing::is_unchanged(&bytes),
                List::Manifest => {
                    found = EarlyManifest::Found(String::from_utf8_lossy(&bytes).into_owned());
                }
            }
        }
        limit.headers();
    }
    file.rewind()?;
    Ok(if is_unchanged { EarlyManifest::Absent } else { found })
}
