//! Cuts the bytes of a file into chunks, as Kubo's chunkers do.

mod buzhash;

use std::str::FromStr;

use buzhash::BuzHash;

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
}

impl Default for Chunker {
    fn default() -> Self {
        Self::Size(DEFAULT_CHUNK_BYTES)
    }
}

impl FromStr for Chunker {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" | "default" => return Ok(Self::default()),
            "buzhash" => return Ok(Self::Buzhash),
            _ => {}
        }
        let size = text
            .strip_prefix("size-")
            .ok_or_else(|| format!("unknown chunker {text:?}: expected size-<bytes> or buzhash"))?;
        match size.parse::<usize>() {
            Ok(size @ 1..=MAX_CHUNK_BYTES) => Ok(Self::Size(size)),
            _ => Err(format!("invalid chunker {text:?}: a chunk has 1 to {MAX_CHUNK_BYTES} bytes")),
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
    rolling: BuzHash,
}

impl Chunks {
    /// Begins a file.
    pub fn new(chunker: Chunker) -> Self {
        Self { chunker, open: Vec::new(), rolling: BuzHash::default() }
    }

    /// Takes the next bytes of the file, and gives `each` the chunks that are complete.
    pub fn push(&mut self, piece: &[u8], each: impl FnMut(&[u8])) {
        match self.chunker {
            Chunker::Size(size) => self.push_fixed(size, piece, each),
            Chunker::Buzhash => self.push_rolling(piece, each),
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
            let (some, after) = piece.split_at(piece.len().min(buzhash::MAX_BYTES - self.open.len()));
            self.open.extend_from_slice(some);
            piece = after;
            match self.rolling.end(&self.open) {
                Some(length) => {
                    each(&self.open[..length]);
                    self.open.drain(..length);
                    self.rolling = BuzHash::default();
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
