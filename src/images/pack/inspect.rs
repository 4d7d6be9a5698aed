//! Properties of a layer for its manifest, computed in one pass over the layer's stored bytes.

use std::fmt;
use std::io;
use std::sync::{
    Arc,
    atomic::AtomicU64,
    mpsc::{SyncSender, sync_channel},
};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use ocipfs_oci::{Algorithm, Digest, Hasher, media_type};

mod input;
mod tarball;
#[cfg(test)]
mod tests;
mod unpack;

/// The most that one message to the unpacking thread holds, and how many may wait: 4 MiB.
const CHUNK: usize = 1 << 18;
const QUEUE_LENGTH: usize = 16;

/// Leading bytes that tell how a layer is compressed.
pub const COMPRESSION_MAGIC_BYTES: u64 = 4;

/// Why bytes are no layer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No byte was given.
    #[error("the layer is empty: expected a tar")]
    Empty,
    /// The compressed stream stops before its end.
    #[error("the layer is truncated: its {0} stream ends early")]
    Truncated(Compression),
    /// The compressed stream breaks its format, its checksum, or the limit on memory.
    #[error("the layer cannot be decompressed as {compression}: {reason}")]
    Corrupt {
        /// Compression that the first bytes of the layer indicate.
        compression: Compression,
        /// Error of the decoder.
        reason: io::Error,
    },
    /// Bytes that are not gzip follow the last gzip member.
    #[error("the layer has trailing garbage after its gzip stream")]
    TrailingGarbage,
    /// The content starts with no tar header.
    #[error("the layer is not a tar, plain or compressed with gzip or zstd")]
    NotTar,
    /// The tar is compressed in a way for which layers have no media type.
    #[error("the layer is compressed with {0}, which layers cannot be: decompress it first (`{0} -dk FILE`)")]
    Unsupported(&'static str),
    /// The tar does not fill its last block.
    #[error("the layer is truncated: its tar of {0} bytes is not a multiple of 512")]
    PartialBlock(u64),
    /// The inspector was used again after it had returned an error.
    #[error("the layer was rejected before its end")]
    Refused,
    /// The system has no thread left for the inspector.
    #[error("cannot start a thread to unpack the layer: {0}")]
    Thread(io::Error),
}

/// How a layer is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// A tar as it is.
    None,
    /// One or more gzip members (RFC 1952).
    Gzip,
    /// One or more zstd frames (RFC 8878).
    Zstd,
}

impl Compression {
    /// Reads the magic number that a layer starts with, of which it takes four bytes.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame (RFC 8878, 3.1.2).
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// The media type of an OCI layer that is stored like this.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => media_type::OCI_LAYER_TAR,
            Self::Gzip => media_type::OCI_LAYER_TAR_GZIP,
            Self::Zstd => media_type::OCI_LAYER_TAR_ZSTD,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// Properties of a layer that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedLayer {
    /// The digest of the bytes as they are stored.
    pub digest: Digest,
    /// The digest of the uncompressed tar, which image configurations name.
    pub diff_id: Digest,
    /// The number of bytes as they are stored.
    pub size: u64,
    /// How the tar is compressed.
    pub compression: Compression,
}

/// Measures a layer while its stored bytes pass by.
///
/// The bytes are hashed by the caller's thread, and unpacked and hashed again by one other, at
/// most 4 MiB behind. Memory stays bounded whatever the bytes claim; time does not, as a small
/// layer may unpack to a huge tar.
#[derive(Debug)]
pub struct LayerInspector {
    /// Absent where another component hashes the stored bytes.
    stored: Option<Hasher>,
    size: u64,
    /// Absent before the first byte and after an error.
    unpacker: Option<Unpacker>,
    /// Whether the tar may end within a block.
    is_unpadded: bool,
    /// Bytes of the tar that were unpacked.
    unpacked: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Unpacker {
    chunks: SyncSender<Bytes>,
    thread: JoinHandle<Result<unpack::LayerContent, Error>>,
}

impl Default for LayerInspector {
    fn default() -> Self {
        Self::new()
    }
}

impl LayerInspector {
    /// Starts with no bytes.
    pub fn new() -> Self {
        let stored = Some(Hasher::new(Algorithm::Sha256));
        Self { stored, size: 0, unpacker: None, is_unpadded: false, unpacked: Arc::default() }
    }

    /// Starts with no bytes, where the digest of what is stored will be known.
    pub fn unhashed() -> Self {
        Self { stored: None, ..Self::new() }
    }

    /// Starts with no bytes of a layer whose tar may lack the padding of its last file, as umoci writes it.
    pub fn unpadded() -> Self {
        Self { is_unpadded: true, ..Self::new() }
    }

    /// Takes the next bytes of the layer; an error may concern bytes given before.
    pub fn update(&mut self, bytes: &Bytes) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        let unpacker = match self.unpacker.take() {
            Some(unpacker) => unpacker,
            None if self.size == 0 => Unpacker::start(self.is_unpadded, self.unpacked.clone())?,
            None => return Err(Error::Refused),
        };
        for chunk in bytes.chunks(CHUNK) {
            self.size += chunk.len() as u64;
            if unpacker.chunks.send(bytes.slice_ref(chunk)).is_err() {
                // It hangs up before the end only to refuse.
                return Err(unpacker.finish().err().unwrap_or(Error::Refused));
            }
            if let Some(stored) = &mut self.stored {
                stored.update(chunk);
            }
        }
        self.unpacker = Some(unpacker);
        Ok(())
    }

    /// Returns the counter of the bytes of the uncompressed tar, which is complete once the inspector has finished.
    pub fn unpacked(&self) -> Arc<AtomicU64> {
        self.unpacked.clone()
    }

    /// Returns the properties of the layer, once all its bytes were given.
    pub fn finish(mut self) -> Result<InspectedLayer, Error> {
        let digest = self.stored.take().unwrap_or_else(|| Hasher::new(Algorithm::Sha256)).finish();
        self.finish_as(digest)
    }

    /// Does the same as [`Self::finish`] with a known digest of the stored bytes.
    pub fn finish_as(self, digest: Digest) -> Result<InspectedLayer, Error> {
        let content = match self.unpacker {
            Some(unpacker) => unpacker.finish()?,
            None if self.size == 0 => return Err(Error::Empty),
            None => return Err(Error::Refused),
        };
        Ok(InspectedLayer {
            diff_id: content.diff_id.unwrap_or_else(|| digest.clone()),
            digest,
            size: self.size,
            compression: content.compression,
        })
    }
}

/// How a layer that begins with these bytes is stored; none where they are those of no layer.
pub fn compression_of(first: &[u8]) -> Option<Compression> {
    match Compression::detect(first) {
        Compression::None if first.len() < 512 => None,
        Compression::None => tarball::TarCheck::default().update(first).is_ok().then_some(Compression::None),
        compressed => Some(compressed),
    }
}

/// Says what a plain tar is by its first bytes, its length and its digest; none where more has to be read.
pub fn plain(first: &[u8], size: u64, digest: &Digest) -> Result<Option<InspectedLayer>, Error> {
    let compression = Compression::detect(first);
    if compression != Compression::None {
        return Ok(None);
    }
    let mut check = tarball::TarCheck::default();
    check.update(first)?;
    if !check.skip(size.saturating_sub(first.len() as u64)) {
        return Ok(None);
    }
    check.finish()?;
    Ok(Some(InspectedLayer { digest: digest.clone(), diff_id: digest.clone(), size, compression }))
}

impl Unpacker {
    fn start(is_unpadded: bool, unpacked: Arc<AtomicU64>) -> Result<Self, Error> {
        let (chunks, waiting) = sync_channel(QUEUE_LENGTH);
        let thread = thread::Builder::new()
            .name("inspector".into())
            .spawn(move || unpack::unpack(input::LayerInput::new(waiting), is_unpadded, &unpacked))
            .map_err(Error::Thread)?;
        Ok(Self { chunks, thread })
    }

    fn finish(self) -> Result<unpack::LayerContent, Error> {
        drop(self.chunks);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
