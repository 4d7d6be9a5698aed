//! Bytes on their way: each piece comes out when its time has come, in order.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Instant,
};

/// More than 1 GB/s puts on the way in 50 ms; who would put more waits.
const MOST: usize = 64 << 20;

/// One way of one connection.
#[derive(Default)]
pub struct Line {
    pieces: Mutex<Pieces>,
    changed: Condvar,
}

#[derive(Default)]
struct Pieces {
    waiting: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    ended: bool,
    closed: bool,
}

impl Line {
    /// Puts a piece on its way; says whether anybody will take it.
    pub fn put(&self, due: Instant, piece: Vec<u8>) -> bool {
        let mut pieces = self.when(|pieces| pieces.closed || pieces.bytes < MOST);
        pieces.bytes += piece.len();
        pieces.waiting.push_back((due, piece));
        self.changed.notify_all();
        !pieces.closed
    }

    /// Says that nothing more comes.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Signals that the receiver takes no further bytes.
    pub fn close(&self) {
        let mut pieces = self.lock();
        pieces.closed = true;
        pieces.waiting.clear();
        self.changed.notify_all();
    }

    /// Waits for the next piece and for its time.
    pub fn take(&self) -> Option<Vec<u8>> {
        let mut pieces = self.when(|pieces| pieces.closed || pieces.ended || !pieces.waiting.is_empty());
        let (due, piece) = if pieces.closed { None } else { pieces.waiting.pop_front() }?;
        drop(pieces);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // Until now it was on its way.
        self.lock().bytes -= piece.len();
        self.changed.notify_all();
        Some(piece)
    }

    fn when(&self, holds: impl Fn(&Pieces) -> bool) -> MutexGuard<'_, Pieces> {
        self.changed.wait_while(self.lock(), |pieces| !holds(pieces)).unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
