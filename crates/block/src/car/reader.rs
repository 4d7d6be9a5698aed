//! Reads an archive from a file or a pipe, one block at a time: the bytes of a block are copied once.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use super::{Error, MAX_HEADER_BYTES, MAX_SECTION_BYTES, buffers::Buffers, header};
use crate::{Block, Cid};

/// Read at a time where less is needed.
const BUFFER_BYTES: usize = 64 << 10;

/// Why no block was read.
#[derive(Debug)]
pub enum ReadError {
    /// The input cannot be read.
    Input(io::Error),
    /// The bytes are not an archive.
    Invalid(Error),
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        Self::Invalid(error)
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // The end of the input has no other cause.
            ErrorKind::UnexpectedEof if error.get_ref().is_none() => Self::Invalid(Error::Truncated),
            _ => Self::Input(error),
        }
    }
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Input(error) => error.fmt(f),
            Self::Invalid(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {}

/// The blocks of an archive, which the caller verifies.
#[derive(Debug)]
pub struct Reader<R> {
    input: BufReader<R>,
    position: u64,
    buffers: Buffers,
}

impl<R: Read> Reader<R> {
    /// Reads the header, and returns its roots.
    ///
    /// # Errors
    /// Fails if the input does not begin with the header of a CARv1.
    pub fn open(input: R) -> Result<(Self, Vec<Cid>), ReadError> {
        let input = BufReader::with_capacity(BUFFER_BYTES, input);
        let mut reader = Self { input, position: 0, buffers: Buffers::default() };
        let length = reader.length(MAX_HEADER_BYTES)?.ok_or(Error::Truncated)?;
        let bytes = reader.bytes(length)?;
        let roots = header::decode(&bytes)?;
        Ok((reader, roots))
    }

    /// Returns the next block, whose bytes were not compared with its CID; none at the end.
    ///
    /// # Errors
    /// Fails if the input fails, ends within a block or is not an archive. There is nothing to read after that.
    pub fn next_unverified(&mut self) -> Result<Option<Block>, ReadError> {
        let Some(length) = self.length(MAX_SECTION_BYTES)? else { return Ok(None) };
        let mut section = self.input.by_ref().take(length);
        let cid = match Cid::read_bytes(&mut section) {
            Ok(cid) => cid,
            Err(error) => {
                let is_within = section.limit() > 0;
                let is_truncated = is_within && self.input.fill_buf()?.is_empty();
                return Err(
                    if is_truncated { Error::Truncated } else { Error::Cid(error.to_string()) }.into()
                );
            }
        };
        let left = section.limit();
        self.position += length - left;
        let data = self.buffers.read(&mut self.input, left as usize)?;
        self.position += left;
        Ok(Some(Block { cid, data }))
    }

    /// Returns how many bytes were read.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Reads the length of the header or of a section; none at the end of the input.
    fn length(&mut self, limit: u64) -> Result<Option<u64>, ReadError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            match self.input.read_exact(&mut byte) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof && shift == 0 => return Ok(None),
                read => read?,
            }
            self.position += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return if value > limit { Err(Error::TooLong(value).into()) } else { Ok(Some(value)) };
            }
        }
        Err(Error::TooLong(u64::MAX).into())
    }

    fn bytes(&mut self, length: u64) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; length as usize];
        self.input.read_exact(&mut bytes)?;
        self.position += length;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use multihash_codetable::{Code, MultihashDigest};

    use super::*;
    use crate::car::{header, section};

    fn archive(blocks: &[&[u8]]) -> (Vec<Cid>, Vec<u8>) {
        let cids: Vec<Cid> =
            blocks.iter().map(|block| Cid::new_v1(0x55, Code::Sha2_256.digest(block))).collect();
        let mut bytes = header(&cids[..1]);
        for (cid, block) in cids.iter().zip(blocks) {
            bytes.extend(section(cid, block.len()));
            bytes.extend_from_slice(block);
        }
        (cids, bytes)
    }

    fn read(bytes: &[u8]) -> Result<Vec<Block>, ReadError> {
        let (mut reader, _) = Reader::open(bytes)?;
        let mut blocks = Vec::new();
        while let Some(block) = reader.next_unverified()? {
            blocks.push(block);
        }
        assert_eq!(reader.position(), bytes.len() as u64);
        Ok(blocks)
    }

    #[test]
    fn blocks_are_read_as_they_were_written() {
        let large = vec![7; 1 << 20];
        let (cids, bytes) = archive(&[b"one", b"", &large]);
        let (_, roots) = Reader::open(&bytes[..]).unwrap();
        assert_eq!(roots, cids[..1]);
        let blocks = read(&bytes).unwrap();
        assert_eq!(blocks.iter().map(|block| block.cid).collect::<Vec<_>>(), cids);
        assert_eq!(blocks[2].data, large);
    }

    #[test]
    fn an_archive_that_ends_within_a_block_is_truncated_and_one_that_ends_between_blocks_is_not() {
        let (_, bytes) = archive(&[b"one", b"two"]);
        let last = 1 + 36 + 3;
        for cut in 0..bytes.len() {
            let read = read(&bytes[..cut]);
            let is_between = cut == bytes.len() - last || cut == bytes.len() - 2 * last;
            match read {
                Ok(_) => assert!(is_between, "{cut}"),
                Err(ReadError::Invalid(Error::Truncated)) => assert!(!is_between, "{cut}"),
                Err(error) => panic!("{cut}: {error}"),
            }
        }
    }

    #[test]
    fn sections_that_are_too_long_or_have_no_cid_are_rejected_before_they_are_read() {
        let (_, mut bytes) = archive(&[b"one"]);
        bytes.extend([0xff, 0xff, 0xff, 0x7f]);
        assert!(matches!(read(&bytes), Err(ReadError::Invalid(Error::TooLong(_)))));
        let (_, mut bytes) = archive(&[b"one"]);
        bytes.extend([4, 9, 9, 9, 9]);
        assert!(matches!(read(&bytes), Err(ReadError::Invalid(Error::Cid(_)))));
        assert!(matches!(read(b"not an archive at all"), Err(ReadError::Invalid(_))));
    }
}
