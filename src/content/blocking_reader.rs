//! Content for what reads and does not wait: on a thread that may block.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::Reader;

/// The bytes of a [`Reader`], read on a thread that may block.
pub struct BlockingReader {
    reader: Reader,
    piece: Bytes,
}

impl From<Reader> for BlockingReader {
    fn from(reader: Reader) -> Self {
        Self { reader, piece: Bytes::new() }
    }
}

impl Read for BlockingReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match Handle::current().block_on(self.reader.next()).transpose().map_err(io::Error::other)? {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let part = self.piece.split_to(into.len().min(self.piece.len()));
        into[..part.len()].copy_from_slice(&part);
        Ok(part.len())
    }
}
