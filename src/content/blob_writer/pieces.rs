//! The memory of the pieces of one blob. Pieces are as large as an allocation with a mapping of its own, so each new one would cost
//! a page fault for every page of it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::PIECE_BYTES;

/// Memory of pieces that are written and hashed, for those that follow. Clones share it.
#[derive(Clone, Default)]
pub struct Pieces(Arc<Mutex<Vec<Vec<u8>>>>);

/// A piece that gives its memory back once nothing reads it.
struct Piece {
    bytes: Vec<u8>,
    pieces: Pieces,
}

impl Pieces {
    /// Makes room in `open` for a whole piece.
    pub fn make_room(&self, open: &mut Vec<u8>) {
        if open.capacity() >= PIECE_BYTES {
            return;
        }
        let Some(mut free) = self.with(Vec::pop) else { return open.reserve_exact(PIECE_BYTES - open.len()) };
        free.clear();
        free.extend_from_slice(open);
        *open = free;
    }

    /// Takes a whole piece out of `open`.
    pub fn take(&self, open: &mut Vec<u8>) -> Bytes {
        Bytes::from_owner(Piece { bytes: std::mem::take(open), pieces: self.clone() })
    }

    /// Frees the memory that no piece uses.
    pub fn free(&self) {
        self.with(|free| *free = Vec::new());
    }

    fn with<T>(&self, change: impl FnOnce(&mut Vec<Vec<u8>>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // The queues bound how many there are.
        if self.bytes.capacity() == PIECE_BYTES {
            let bytes = std::mem::take(&mut self.bytes);
            self.pieces.with(|free| free.push(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_piece_is_used_again_once_nothing_reads_it() {
        let (pieces, mut open) = (Pieces::default(), b"abc".to_vec());
        pieces.make_room(&mut open);
        open.resize(PIECE_BYTES, 1);
        let place = open.as_ptr();
        let piece = pieces.take(&mut open);
        let reader = piece.clone();
        drop(piece);
        open.extend_from_slice(b"def");
        pieces.make_room(&mut open);
        assert_ne!(open.as_ptr(), place);
        drop(reader);
        let mut next = b"ghi".to_vec();
        pieces.make_room(&mut next);
        assert_eq!((next.as_ptr(), &next[..]), (place, &b"ghi"[..]));
    }
}
