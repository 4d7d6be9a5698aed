//! Cuts the bytes of a file into chunks, as Kubo's chunkers do.

mod buzhash;
mod rabin;

use std::str::FromStr;

use buzhash::BuzHash;
use rabin::Rabin;
pub use rabin::RabinSizes;

/// The longest chunk: with its frame it is not longer than a block may be.
pub const MAX_CHUNK_BYTES: usize = (2 << 20) - 256;
/// The chunk length of Kubo's default.
const DEFAULT_CHUNK_BYTES: usize = 256 << 10;

/// Where chunks end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunker {
    /// After so many bytes.
    Size(usize),
    /// Where a rolling hash of the content says so: between 128 and 512 KiB.
    Buzhash,
    /// Where a Rabin fingerprint of the content says so.
    Rabin(RabinSizes),
}

impl Default for Chunker {
    fn default() -> Self {
        Self::Size(DEFAULT_CHUNK_BYTES)
    }
}

impl Chunker {
    /// Returns the length of the shortest chunk, but for the last one of a file.
    pub fn min_bytes(self) -> usize {
        match self {
            Self::Size(size) => size,
            Self::Buzhash => buzhash::MIN_BYTES,
            Self::Rabin(sizes) => sizes.min,
        }
    }

    fn max_bytes(self) -> usize {
        match self {
            Self::Size(size) => size,
            Self::Buzhash => buzhash::MAX_BYTES,
            Self::Rabin(sizes) => sizes.max,
        }
    }
}

impl FromStr for Chunker {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, sizes) = text.split_once('-').map_or((text, None), |(name, sizes)| (name, Some(sizes)));
        match (name, sizes) {
            ("" | "default", None) => Ok(Self::default()),
            // What follows is ignored, as in Kubo.
            ("buzhash", _) => Ok(Self::Buzhash),
            ("rabin", sizes) => rabin_sizes(text, sizes).map(Self::Rabin),
            ("size", Some(size)) => match size.parse::<usize>() {
                Ok(size @ 1..=MAX_CHUNK_BYTES) => Ok(Self::Size(size)),
                _ => Err(format!("invalid chunker {text:?}: a chunk has 1 to {MAX_CHUNK_BYTES} bytes")),
            },
            _ => Err(format!(
                "unknown chunker {text:?}: expected size-<bytes>, rabin-<min>-<average>-<max> or buzhash"
            )),
        }
    }
}

/// Reads `<average>`, or `[min:]<min>-[avg:]<average>-[max:]<max>`.
fn rabin_sizes(text: &str, sizes: Option<&str>) -> Result<RabinSizes, String> {
    let invalid = |why: &str| format!("invalid chunker {text:?}: {why}");
    let Some(sizes) = sizes else { return Ok(RabinSizes::around(DEFAULT_CHUNK_BYTES)) };
    let number = |text: &str, label: &str| {
        let digits = text.strip_prefix(label).and_then(|rest| rest.strip_prefix(':')).unwrap_or(text);
        digits.parse::<usize>().map_err(|_| invalid(&format!("{label} is not a number of bytes")))
    };
    let sizes = match sizes.split('-').collect::<Vec<_>>()[..] {
        [average] => {
            let average = number(average, "avg")?;
            // So that nothing below overflows.
            RabinSizes::around(average.min(2 * MAX_CHUNK_BYTES))
        }
        [min, average, max] => RabinSizes {
            min: number(min, "min")?,
            average: number(average, "avg")?,
            max: number(max, "max")?,
        },
        _ => return Err(invalid("expected rabin, rabin-<average> or rabin-<min>-<average>-<max>")),
    };
    let RabinSizes { min, average, max } = sizes;
    if min < rabin::WINDOW_BYTES {
        return Err(invalid(&format!("min is {min}, and must be {} bytes or more", rabin::WINDOW_BYTES)));
    }
    if min >= average || average >= max {
        return Err(invalid("min must be smaller than the average, and that smaller than max"));
    }
    if max > MAX_CHUNK_BYTES {
        return Err(invalid(&format!("a chunk has at most {MAX_CHUNK_BYTES} bytes")));
    }
    Ok(sizes)
}

/// The rolling hash of a chunk.
#[derive(Debug)]
enum Rolling {
    Buzhash(BuzHash),
    Rabin(Rabin),
}

impl Rolling {
    /// Begins a chunk; none where chunks have a fixed size.
    fn new(chunker: Chunker) -> Option<Self> {
        match chunker {
            Chunker::Size(_) => None,
            Chunker::Buzhash => Some(Self::Buzhash(BuzHash::default())),
            Chunker::Rabin(sizes) => Some(Self::Rabin(Rabin::new(sizes))),
        }
    }

    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Buzhash(hash) => hash.end(bytes),
            Self::Rabin(hash) => hash.end(bytes),
        }
    }
}

/// Cuts a stream of pieces; holds the bytes of one chunk.
#[derive(Debug)]
pub struct Chunks {
    chunker: Chunker,
    /// Bytes of a chunk whose end has not come.
    open: Vec<u8>,
    /// The rolling hash of `open`, as far as it was read.
    rolling: Option<Rolling>,
}

impl Chunks {
    /// Begins a file.
    pub fn new(chunker: Chunker) -> Self {
        Self { chunker, open: Vec::new(), rolling: Rolling::new(chunker) }
    }

    /// Takes the next bytes of the file, and gives `each` the chunks that are complete.
    pub fn push(&mut self, piece: &[u8], each: impl FnMut(&[u8])) {
        match self.chunker {
            Chunker::Size(size) => self.push_fixed(size, piece, each),
            Chunker::Buzhash | Chunker::Rabin(_) => self.push_rolling(piece, each),
        }
    }

    fn push_fixed(&mut self, size: usize, mut piece: &[u8], mut each: impl FnMut(&[u8])) {
        if !self.open.is_empty() {
            let (rest, after) = piece.split_at(piece.len().min(size - self.open.len()));
            self.open.extend_from_slice(rest);
            piece = after;
            if self.open.len() < size {
                return;
            }
            each(&self.open);
            self.open.clear();
        }
        let chunks = piece.chunks_exact(size);
        self.open.extend_from_slice(chunks.remainder());
        chunks.for_each(each);
    }

    fn push_rolling(&mut self, mut piece: &[u8], mut each: impl FnMut(&[u8])) {
        loop {
            let (some, after) = piece.split_at(piece.len().min(self.chunker.max_bytes() - self.open.len()));
            self.open.extend_from_slice(some);
            piece = after;
            match self.rolling.as_mut().and_then(|rolling| rolling.end(&self.open)) {
                Some(length) => {
                    each(&self.open[..length]);
                    self.open.drain(..length);
                    self.rolling = Rolling::new(self.chunker);
                }
                // What is open is shorter than the longest chunk, so all of the piece is in it.
                None => return,
            }
        }
    }

    /// Gives the last chunk, if bytes are left.
    pub fn finish(self, each: impl FnOnce(&[u8])) {
        if !self.open.is_empty() {
            each(&self.open);
        }
    }
}

#[cfg(test)]
mod tests;
