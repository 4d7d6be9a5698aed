//! The other half of the inspector: decompresses a layer and reads its tar.

use std::io::{BufRead, ErrorKind, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::GzDecoder;
use ocipfs_oci::{Algorithm, Digest, Hasher};
use zstd::stream::read::Decoder as ZstdDecoder;

use super::input::LayerInput;
use super::tarball::TarCheck;
use super::{Compression, Error};

/// 128 MiB, the most that `zstd -d` accepts without being told to.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
const BUFFER: usize = 1 << 17;

/// Properties of a layer that require unpacking it.
#[derive(Debug)]
pub(super) struct LayerContent {
    pub(super) compression: Compression,
    /// Absent where the layer is stored as the tar itself.
    pub(super) diff_id: Option<Digest>,
}

/// Reads all of `input`, or up to where it cannot be a layer any more.
pub(super) fn unpack(
    mut input: LayerInput,
    is_unpadded: bool,
    unpacked: &AtomicU64,
) -> Result<LayerContent, Error> {
    let compression = Compression::detect(input.peek(4));
    let mut sink = TarSink {
        compression,
        hasher: Hasher::new(Algorithm::Sha256),
        check: TarCheck::default(),
        buffer: vec![0; BUFFER],
        unpacked,
    };
    match compression {
        Compression::None => sink.look_at(input)?,
        Compression::Gzip => gunzip(input, &mut sink)?,
        Compression::Zstd => unzstd(input, &mut sink)?,
    }
    match sink.check.finish() {
        Err(Error::PartialBlock(_)) if is_unpadded => {}
        checked => checked?,
    }
    Ok(LayerContent {
        compression,
        diff_id: (compression != Compression::None).then(|| sink.hasher.finish()),
    })
}

/// Decodes member by member, so that bytes between or after them are seen for what they are.
fn gunzip(mut input: LayerInput, sink: &mut TarSink<'_>) -> Result<(), Error> {
    loop {
        sink.drain(GzDecoder::new(&mut input))?;
        match input.peek(2) {
            [] => return Ok(()),
            [0x1f, 0x8b, ..] => {}
            _ => return Err(Error::TrailingGarbage),
        }
    }
}

fn unzstd(input: LayerInput, sink: &mut TarSink<'_>) -> Result<(), Error> {
    let mut decoder = ZstdDecoder::with_buffer(input).map_err(|error| sink.refuse(error))?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| sink.refuse(error))?;
    sink.drain(decoder)
}

/// Where the bytes of the tar go.
struct TarSink<'a> {
    compression: Compression,
    hasher: Hasher,
    check: TarCheck,
    buffer: Vec<u8>,
    /// How many came.
    unpacked: &'a AtomicU64,
}

impl TarSink<'_> {
    fn drain(&mut self, mut tar: impl Read) -> Result<(), Error> {
        loop {
            let length = match tar.read(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) => return Err(self.refuse(error)),
            };
            let bytes = &self.buffer[..length];
            self.check.update(bytes)?;
            self.hasher.update(bytes);
            self.unpacked.fetch_add(length as u64, Ordering::Relaxed);
        }
    }

    /// Takes a tar that is not compressed: the inspector hashes what is stored, which is the tar itself.
    fn look_at(&mut self, mut tar: LayerInput) -> Result<(), Error> {
        loop {
            let bytes = tar.fill_buf().map_err(|error| self.refuse(error))?;
            if bytes.is_empty() {
                return Ok(());
            }
            self.check.update(bytes)?;
            let length = bytes.len();
            tar.consume(length);
            self.unpacked.fetch_add(length as u64, Ordering::Relaxed);
        }
    }

    fn refuse(&self, reason: std::io::Error) -> Error {
        let compression = self.compression;
        match reason.kind() {
            ErrorKind::UnexpectedEof => Error::Truncated(compression),
            _ => Error::Corrupt { compression, reason },
        }
    }
}
