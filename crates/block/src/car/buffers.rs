//! Memory for the blocks of an archive, which is used again: a new allocation of 1 MiB costs a fault for each of its pages, an
//! eighth of the time of an import.

use std::{
    io::{self, Read},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

/// Shorter blocks have memory of their own.
const MIN_BYTES: usize = 128 << 10;
/// Buffers that are kept while no block is in them.
const MAX_FREE: usize = 12;

/// Buffers of blocks. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer, which goes back when the last clone of its block is dropped.
struct Buffer {
    bytes: Vec<u8>,
    buffers: Buffers,
}

impl Buffers {
    /// Reads a block of this length.
    pub(super) fn read(&self, input: &mut impl Read, length: usize) -> io::Result<Bytes> {
        if length < MIN_BYTES {
            let mut bytes = vec![0; length];
            input.read_exact(&mut bytes)?;
            return Ok(bytes.into());
        }
        let free = self.free().pop();
        let bytes = match free {
            Some(mut bytes) => {
                bytes.resize(length, 0);
                bytes
            }
            None => vec![0; length],
        };
        let mut buffer = Buffer { bytes, buffers: self.clone() };
        input.read_exact(&mut buffer.bytes)?;
        Ok(Bytes::from_owner(buffer))
    }

    fn free(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.buffers.free();
        if free.len() < MAX_FREE {
            free.push(mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_block_is_used_again_once_the_block_is_dropped() {
        let buffers = Buffers::default();
        let read = |byte: u8, length: usize| buffers.read(&mut io::repeat(byte), length).unwrap();
        let (one, two) = (read(1, MIN_BYTES), read(2, 2 * MIN_BYTES));
        assert_ne!(one.as_ptr(), two.as_ptr());
        let (kept, place) = (two.slice(1..3), two.as_ptr());
        drop(two);
        assert_ne!(read(3, MIN_BYTES).as_ptr(), place, "a part of the block is in use");
        assert_eq!(kept, [2, 2][..]);
        drop(kept);
        // What was in it before is not seen.
        let again = read(4, MIN_BYTES + 1);
        assert_eq!(again.as_ptr(), place);
        assert!(again.len() == MIN_BYTES + 1 && again.iter().all(|byte| *byte == 4));
        assert!(one.iter().all(|byte| *byte == 1));
    }

    #[test]
    fn short_blocks_keep_no_buffer_and_few_buffers_are_kept() {
        let buffers = Buffers::default();
        drop(buffers.read(&mut io::repeat(1), MIN_BYTES - 1).unwrap());
        assert!(buffers.free().is_empty());
        let blocks: Vec<_> =
            (0..2 * MAX_FREE).map(|_| buffers.read(&mut io::repeat(1), MIN_BYTES).unwrap()).collect();
        drop(blocks);
        assert_eq!(buffers.free().len(), MAX_FREE);
        // An input that ends within a block.
        assert!(buffers.read(&mut io::empty(), MIN_BYTES).is_err());
        assert_eq!(buffers.free().len(), MAX_FREE);
    }
}
