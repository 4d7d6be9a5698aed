//! Content-addressable archives, version 1: <https://ipld.io/specs/transport/car/carv1/>.
//!
//! ```
//! use ocipfs_block::{Cid, car};
//!
//! let cid: Cid = "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq".parse().expect("a CID");
//! let archive = [car::header(&[cid]), car::section(&cid, 5), b"hello".to_vec()].concat();
//! let mut decoder = car::Decoder::default();
//! decoder.push(archive.into());
//! assert_eq!(decoder.next().unwrap(), Some(car::Item::Header(vec![cid])));
//! assert!(matches!(decoder.next().unwrap(), Some(car::Item::Block(block)) if block.cid == cid));
//! decoder.finish().unwrap();
//! ```

mod buffers;
mod header;
mod reader;

use bytes::{Bytes, BytesMut};

use crate::{Block, Cid, hash::is_block, inline_bytes, varint};

pub use header::header;
pub use reader::{ReadError, Reader};

/// The longest header, which holds some ten thousand roots.
const MAX_HEADER_BYTES: u64 = 1 << 20;
/// The longest block that peers exchange, and its CID.
const MAX_SECTION_BYTES: u64 = (2 << 20) + 256;

/// Why bytes are not an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The archive ends within the header or a block.
    Truncated,
    /// The header is not that of a CARv1.
    Header(&'static str),
    /// A section is longer than a block may be.
    TooLong(u64),
    /// A section does not begin with a CID.
    Cid(String),
    /// A block does not match its CID, or has an untrusted hash function.
    Block(Cid),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Truncated => f.write_str("the archive ends within its header or a block"),
            Self::Header(why) => write!(f, "invalid header: {why}"),
            Self::TooLong(length) => {
                write!(f, "section of {length} bytes: a block and its CID have at most {MAX_SECTION_BYTES}")
            }
            Self::Cid(why) => write!(f, "a section does not begin with a CID: {why}"),
            Self::Block(cid) => {
                write!(f, "block does not match its CID {cid}, or its hash function is untrusted")
            }
        }
    }
}

impl std::error::Error for Error {}

/// A part of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The roots, which come first.
    Header(Vec<Cid>),
    /// A block, whose bytes match its CID.
    Block(Block),
}

/// Returns what is written in front of the bytes of a block of this length.
pub fn section(cid: &Cid, length: usize) -> Vec<u8> {
    let cid = cid.to_bytes();
    let mut out = Vec::with_capacity(cid.len() + 5);
    varint::put(&mut out, (cid.len() + length) as u64);
    out.extend_from_slice(&cid);
    out
}

/// Decodes an archive that comes in pieces, and verifies its blocks. Holds one section at most, and the last piece.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    has_header: bool,
}

impl Decoder {
    /// Adds the next bytes.
    pub fn push(&mut self, bytes: Bytes) {
        if self.buffer.is_empty()
            && let Ok(bytes) = bytes.clone().try_into_mut()
        {
            self.buffer = bytes;
            return;
        }
        self.buffer.extend_from_slice(&bytes);
    }

    /// Returns the next item; none if it is not there in whole yet.
    ///
    /// # Errors
    /// Fails if the bytes are not a CARv1, or a block does not match its CID.
    #[expect(clippy::should_implement_trait, reason = "it goes on after none")]
    pub fn next(&mut self) -> Result<Option<Item>, Error> {
        let limit = if self.has_header { MAX_SECTION_BYTES } else { MAX_HEADER_BYTES };
        let mut rest = &self.buffer[..];
        let length = match varint::get(&mut rest) {
            Err(varint::Error::Truncated) => return Ok(None),
            Err(varint::Error::TooLong) => return Err(Error::TooLong(u64::MAX)),
            Ok(length) if length > limit => return Err(Error::TooLong(length)),
            Ok(length) => length as usize,
        };
        if rest.len() < length {
            return Ok(None);
        }
        let _ = self.buffer.split_to(self.buffer.len() - rest.len());
        let section = self.buffer.split_to(length).freeze();
        if self.has_header {
            return block(section).map(|block| Some(Item::Block(block)));
        }
        self.has_header = true;
        header::decode(&section).map(|roots| Some(Item::Header(roots)))
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// Fails if it ended within its header or a block.
    pub fn finish(self) -> Result<(), Error> {
        if self.has_header && self.buffer.is_empty() { Ok(()) } else { Err(Error::Truncated) }
    }
}

fn block(mut section: Bytes) -> Result<Block, Error> {
    let mut rest = &section[..];
    let cid = Cid::read_bytes(&mut rest).map_err(|error| Error::Cid(error.to_string()))?;
    let length = section.len() - rest.len();
    let data = section.split_off(length);
    let matches = inline_bytes(&cid).map_or_else(|| is_block(&cid, &data), |bytes| bytes == data);
    if matches { Ok(Block { cid, data }) } else { Err(Error::Block(cid)) }
}

#[cfg(test)]
mod tests;
