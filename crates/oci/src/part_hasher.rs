//! The sha256 of a whole and of each of its parts, in one pass over the bytes.
//!
//! The rounds of one hash wait for each other, so a core that computes two hashes of the same bytes at once needs hardly longer than
//! for one: the second one uses what the first one leaves idle, and what depends on the bytes alone is computed once.

mod rounds;
#[cfg(test)]
mod tests;

use sha2::block_api::compress256;

use crate::digest::Digest;

/// Bytes of a block of sha256.
const BLOCK_BYTES: usize = 64;
/// Bytes at the end of the last block: the length of the message in bits.
const LENGTH_BYTES: usize = 8;
/// The state before the first block (FIPS 180-4, 5.3.3).
const START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// Hashes a whole and its parts.
#[derive(Clone, Debug)]
pub struct PartHasher {
    state: [u32; 8],
    /// Bytes of the whole so far, and those of them that do not fill a block.
    length: u64,
    open: Vec<u8>,
}

impl Default for PartHasher {
    fn default() -> Self {
        Self { state: START, length: 0, open: Vec::new() }
    }
}

impl PartHasher {
    /// Whether one pass is faster than two here, for parts that begin at multiples of so many bytes.
    pub fn is_fast(alignment: usize) -> bool {
        alignment.is_multiple_of(BLOCK_BYTES) && rounds::are_supported()
    }

    /// Adds the next part, and returns its digest.
    pub fn part(&mut self, bytes: &[u8]) -> Digest {
        if !self.open.is_empty() {
            self.update(bytes);
            return Digest::sha256_of(bytes);
        }
        let (blocks, rest) = bytes.as_chunks();
        let mut part = START;
        rounds::compress_both(&mut self.state, &mut part, blocks);
        self.length += bytes.len() as u64;
        self.open.extend_from_slice(rest);
        finish(part, rest, bytes.len() as u64)
    }

    /// Adds bytes that are a part of the whole alone.
    fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.open.extend_from_slice(bytes);
        let (blocks, rest) = self.open.as_chunks();
        compress256(&mut self.state, blocks);
        self.open = rest.to_vec();
    }

    /// Returns the digest of the whole.
    pub fn finish(self) -> Digest {
        finish(self.state, &self.open, self.length)
    }
}

/// Ends a message of `length` bytes, of which `rest` fills no block.
fn finish(mut state: [u32; 8], rest: &[u8], length: u64) -> Digest {
    let mut last = rest.to_vec();
    last.push(0x80);
    let padded = (last.len() + LENGTH_BYTES).next_multiple_of(BLOCK_BYTES);
    last.resize(padded - LENGTH_BYTES, 0);
    last.extend_from_slice(&(length * 8).to_be_bytes());
    compress256(&mut state, last.as_chunks().0);
    let mut hash = [0; 32];
    hash.as_chunks_mut().0.iter_mut().zip(state).for_each(|(bytes, word)| *bytes = word.to_be_bytes());
    Digest::from_sha256(hash)
}
