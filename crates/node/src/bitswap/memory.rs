//! Memory that messages are read into, used again: new pages cost as much as the copying.

use std::sync::Mutex;

use bytes::Bytes;

use crate::locked;

/// Shorter messages are not worth it.
const SHORT: usize = 64 << 10;
/// Longer buffers are not kept.
const LONG: usize = 2 << 20;
/// Buffers kept for the next messages, all connections together.
const MOST: usize = 8;

static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn spare<T>(with: impl FnOnce(&mut Vec<Vec<u8>>) -> T) -> T {
    with(&mut locked(&SPARE))
}

/// A message's bytes, whose memory is kept for another when the last who reads them is done.
pub struct Buffer {
    bytes: Vec<u8>,
    length: usize,
}

impl Buffer {
    /// Returns memory to read `length` bytes into, which has to grow as they come: its own length is anything.
    pub fn spare(length: usize) -> Vec<u8> {
        if length < SHORT { Vec::new() } else { spare(Vec::pop).unwrap_or_default() }
    }

    /// Takes the first `length` bytes.
    pub fn of(bytes: Vec<u8>, length: usize) -> Self {
        debug_assert!(length <= bytes.len());
        Self { bytes, length }
    }

    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if (SHORT..=LONG).contains(&bytes.len()) {
            spare(|spare| {
                if spare.len() < MOST {
                    spare.push(bytes);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_as_long_as_asked_for_whatever_it_held_before() {
        for length in [10, SHORT, 3 * SHORT + 5, 100, SHORT + 1, LONG + SHORT, SHORT] {
            let mut bytes = Buffer::spare(length);
            bytes.resize(length.max(bytes.len()), 0);
            bytes[..length].fill(7);
            let bytes = Buffer::of(bytes, length).freeze();
            assert_eq!(bytes.len(), length);
            assert!(bytes.iter().all(|byte| *byte == 7));
        }
    }
}
