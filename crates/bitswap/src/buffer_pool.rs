//! A pool of message buffers: allocating new pages costs as much as copying.

use std::sync::Mutex;

use bytes::Bytes;

use crate::locked;

/// Buffers for shorter messages are not pooled.
const MIN_POOLED_BYTES: usize = 64 << 10;
/// Longer buffers are not pooled.
const MAX_POOLED_BYTES: usize = 2 << 20;
/// Buffers in the pool, for all connections together.
const MAX_POOLED_BUFFERS: usize = 8;

static POOL: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn with_pool<T>(with: impl FnOnce(&mut Vec<Vec<u8>>) -> T) -> T {
    with(&mut locked(&POOL))
}

/// The bytes of a message; its buffer returns to the pool when the last reference is dropped.
pub struct Buffer {
    bytes: Vec<u8>,
    length: usize,
}

impl Buffer {
    /// Returns a buffer to read `length` bytes into. Its own length is arbitrary: it has to grow as bytes arrive.
    pub fn reusable(length: usize) -> Vec<u8> {
        if length < MIN_POOLED_BYTES { Vec::new() } else { with_pool(Vec::pop).unwrap_or_default() }
    }

    /// Wraps the first `length` bytes.
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
        if (MIN_POOLED_BYTES..=MAX_POOLED_BYTES).contains(&bytes.len()) {
            with_pool(|pool| {
                if pool.len() < MAX_POOLED_BUFFERS {
                    pool.push(bytes);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pooled_buffer_has_the_requested_length() {
        for length in [
            10,
            MIN_POOLED_BYTES,
            3 * MIN_POOLED_BYTES + 5,
            100,
            MIN_POOLED_BYTES + 1,
            MAX_POOLED_BYTES + MIN_POOLED_BYTES,
            MIN_POOLED_BYTES,
        ] {
            let mut bytes = Buffer::reusable(length);
            bytes.resize(length.max(bytes.len()), 0);
            bytes[..length].fill(7);
            let bytes = Buffer::of(bytes, length).freeze();
            assert_eq!(bytes.len(), length);
            assert!(bytes.iter().all(|byte| *byte == 7));
        }
    }
}
