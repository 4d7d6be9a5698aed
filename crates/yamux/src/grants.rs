//! A larger first window for streams that the peer opens.
//!
//! yamux grants a new stream 256 KiB, and more only while it is read, which takes a round trip each time. Peers that open a
//! stream for each message, such as boxo, never get further: a block of 1 MiB takes three round trips. Here the peer is
//! granted [`EARLY_WINDOW`] more once yamux has accepted the stream. What arrives beyond the window that yamux knows is held
//! back until yamux has granted as much; its memory is charged to the account, like that of all unread bytes.

use std::collections::{HashMap, VecDeque};

use crate::unread::MAX_PIECE;

/// Bytes granted beyond yamux's own window: a block of the maximum length fits.
pub(crate) const EARLY_WINDOW: u32 = 2 * 1024 * 1024;

/// Length of a frame's header.
pub(crate) const HEADER_SIZE: usize = 12;
pub(crate) const DATA: u8 = 0;
pub(crate) const WINDOW_UPDATE: u8 = 1;

/// Window updates that wait to be written: beyond these, a peer that does not read gets only the window of yamux.
const MAX_UPDATES: usize = 1024;

/// Streams with a larger window than yamux knows.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    streams: HashMap<u32, Grant>,
    /// Streams whose first held frame may fit into the window by now.
    ready: VecDeque<u32>,
    /// Window updates to write.
    updates: VecDeque<[u8; HEADER_SIZE]>,
}

#[derive(Debug)]
struct Grant {
    /// Bytes that yamux accepts now.
    credit: u32,
    /// Frames beyond that, in order, each with its header.
    held: VecDeque<Vec<u8>>,
    held_bytes: usize,
    is_ready: bool,
}

/// The peer sent more than it was granted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WindowExceeded;

impl Grants {
    /// Grants a stream that yamux accepted a larger window; `consumed` bytes of it arrived already.
    pub(crate) fn accepted(&mut self, id: u32, consumed: u32) {
        if self.updates.len() >= MAX_UPDATES {
            return;
        }
        let credit = yamux::DEFAULT_CREDIT.saturating_sub(consumed);
        self.streams.insert(id, Grant { credit, held: VecDeque::new(), held_bytes: 0, is_ready: false });
        let mut update = [0; HEADER_SIZE];
        update[1] = WINDOW_UPDATE;
        update[4..8].copy_from_slice(&id.to_be_bytes());
        update[8..].copy_from_slice(&EARLY_WINDOW.to_be_bytes());
        self.updates.push_back(update);
    }

    /// Removes a stream that was dropped or reset, with what is held of it.
    pub(crate) fn removed(&mut self, id: u32) {
        self.streams.remove(&id);
    }

    /// Returns the next window update to write.
    pub(crate) fn next_update(&mut self) -> Option<[u8; HEADER_SIZE]> {
        self.updates.pop_front()
    }

    /// Records a window update of yamux.
    pub(crate) fn granted(&mut self, id: u32, bytes: u32) {
        let Some(grant) = self.streams.get_mut(&id) else { return };
        grant.credit = grant.credit.saturating_add(bytes);
        if grant.becomes_ready() {
            self.ready.push_back(id);
        }
    }

    /// Returns whether yamux accepts `bytes` of a stream now, and counts them; otherwise they are to be held.
    pub(crate) fn admits(&mut self, id: u32, bytes: u32) -> bool {
        let Some(grant) = self.streams.get_mut(&id) else { return true };
        let is_admitted = grant.held.is_empty() && bytes <= grant.credit;
        if is_admitted {
            grant.credit -= bytes;
        }
        is_admitted
    }

    /// Returns whether frames of a stream are held, so that the end of the stream has to wait.
    pub(crate) fn holds(&self, id: u32) -> bool {
        self.streams.get(&id).is_some_and(|grant| !grant.held.is_empty())
    }

    /// Holds a frame back.
    pub(crate) fn hold(&mut self, id: u32, frame: Vec<u8>) -> Result<(), WindowExceeded> {
        // The stream may have been dropped while the frame was read.
        let Some(grant) = self.streams.get_mut(&id) else { return Ok(()) };
        grant.held_bytes += frame.len() - HEADER_SIZE;
        grant.held.push_back(frame);
        // yamux may have granted more while the frame was read: the stream would get no further update that makes it ready.
        if grant.becomes_ready() {
            self.ready.push_back(id);
        }
        // Less than a piece may be left of yamux's own window.
        match grant.held_bytes > EARLY_WINDOW as usize + MAX_PIECE {
            true => Err(WindowExceeded),
            false => Ok(()),
        }
    }

    /// Returns a held frame that yamux accepts now.
    pub(crate) fn next_ready(&mut self) -> Option<Vec<u8>> {
        while let Some(id) = self.ready.front().copied() {
            let frame = self.streams.get_mut(&id).and_then(Grant::next);
            if frame.is_some() {
                return frame;
            }
            self.ready.pop_front();
        }
        None
    }
}

impl Grant {
    /// The bytes of the first held frame, if yamux accepts it now.
    fn admissible(&self) -> Option<u32> {
        let first = self.held.front().map(|frame| (frame.len() - HEADER_SIZE) as u32);
        first.filter(|bytes| *bytes <= self.credit)
    }

    /// Marks the stream as ready if yamux accepts a held frame of it; false if it was marked before.
    fn becomes_ready(&mut self) -> bool {
        let was_ready = self.is_ready;
        self.is_ready |= self.admissible().is_some();
        self.is_ready && !was_ready
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let Some(bytes) = self.admissible() else {
            self.is_ready = false;
            return None;
        };
        self.credit -= bytes;
        self.held_bytes -= bytes as usize;
        self.held.pop_front()
    }
}

/// The frames that yamux writes: where one ends, another may be put in, and the window updates among them are of interest.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    header: [u8; HEADER_SIZE],
    /// Bytes of the header that were written.
    written: usize,
    /// Bytes of the body that are left.
    body: usize,
    /// A frame of our own, and how much of it was written.
    own: Option<([u8; HEADER_SIZE], usize)>,
}

impl Outgoing {
    /// Returns what is left of the frame that is put in, if yamux is between two frames.
    pub(crate) fn own(&mut self, grants: &mut Grants) -> Option<&[u8]> {
        if self.written > 0 || self.body > 0 {
            return None;
        }
        if self.own.is_none() {
            self.own = grants.next_update().map(|update| (update, 0));
        }
        self.own.as_ref().map(|(frame, written)| &frame[*written..])
    }

    /// Records that bytes of the frame that is put in were written.
    pub(crate) fn wrote_own(&mut self, bytes: usize) {
        if let Some((_, written)) = &mut self.own {
            *written += bytes;
        }
        self.own.take_if(|(frame, written)| *written >= frame.len());
    }

    /// Returns how many of `bytes` belong to the current header or body.
    pub(crate) fn most(&self, bytes: usize) -> usize {
        if self.body > 0 { bytes.min(self.body) } else { bytes.min(HEADER_SIZE - self.written) }
    }

    /// Records what yamux wrote. Returns the stream and the bytes of a window update.
    pub(crate) fn wrote(&mut self, bytes: &[u8]) -> Option<(u32, u32)> {
        if self.body > 0 {
            self.body -= bytes.len();
            return None;
        }
        self.header[self.written..self.written + bytes.len()].copy_from_slice(bytes);
        self.written += bytes.len();
        if self.written < HEADER_SIZE {
            return None;
        }
        self.written = 0;
        let [_, kind, _, _, i, j, k, l, a, b, c, d] = self.header;
        let length = u32::from_be_bytes([a, b, c, d]);
        match kind {
            DATA => {
                self.body = length as usize;
                None
            }
            WINDOW_UPDATE => Some((u32::from_be_bytes([i, j, k, l]), length)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize) -> Vec<u8> {
        vec![7; HEADER_SIZE + bytes]
    }

    #[test]
    fn frames_beyond_the_window_of_yamux_are_held_until_it_grants_more() {
        let mut grants = Grants::default();
        assert!(grants.admits(1, u32::MAX), "nothing is known of the stream");
        grants.accepted(1, 1000);
        assert!(grants.admits(1, yamux::DEFAULT_CREDIT - 1000));
        assert!(!grants.admits(1, 1) && !grants.holds(1));
        grants.hold(1, frame(5)).unwrap();
        grants.hold(1, frame(6)).unwrap();
        grants.hold(1, frame(0)).unwrap();
        assert!(grants.holds(1) && grants.next_ready().is_none());
        assert!(!grants.admits(1, 0), "what comes later has to wait, too");
        grants.granted(1, 5);
        assert_eq!(grants.next_ready(), Some(frame(5)));
        assert_eq!(grants.next_ready(), None);
        grants.granted(1, 6);
        assert_eq!((grants.next_ready(), grants.next_ready()), (Some(frame(6)), Some(frame(0))));
        assert!(!grants.holds(1) && grants.next_ready().is_none());
        grants.granted(1, 9);
        assert!(grants.admits(1, 9) && !grants.admits(1, 1));
    }

    #[test]
    fn a_frame_held_while_yamux_grants_more_is_delivered() {
        let mut grants = Grants::default();
        grants.accepted(1, yamux::DEFAULT_CREDIT);
        assert!(!grants.admits(1, 5), "its bytes are read to be held");
        grants.granted(1, 100);
        grants.hold(1, frame(5)).unwrap();
        grants.hold(1, frame(6)).unwrap();
        assert_eq!((grants.next_ready(), grants.next_ready()), (Some(frame(5)), Some(frame(6))));
        assert!(grants.next_ready().is_none() && grants.admits(1, 89));
    }

    #[test]
    fn a_peer_that_exceeds_its_window_is_noticed_and_a_dropped_stream_holds_nothing() {
        let mut grants = Grants::default();
        grants.accepted(1, yamux::DEFAULT_CREDIT);
        let pieces = EARLY_WINDOW as usize / MAX_PIECE + 1;
        for _ in 0..pieces {
            grants.hold(1, frame(MAX_PIECE)).unwrap();
        }
        assert_eq!(grants.hold(1, frame(1)), Err(WindowExceeded));
        grants.granted(1, 100_000);
        grants.removed(1);
        assert!(grants.next_ready().is_none() && !grants.holds(1));
        grants.hold(1, frame(1)).unwrap();
    }

    #[test]
    fn own_frames_are_put_between_those_of_yamux() {
        let (mut out, mut grants) = (Outgoing::default(), Grants::default());
        let header = |kind: u8, length: u8| [0, kind, 0, 0, 0, 0, 0, 3, 0, 0, 0, length];
        grants.accepted(9, 0);
        assert_eq!(out.most(100), HEADER_SIZE);
        assert_eq!(out.wrote(&header(DATA, 4)[..7]), None);
        assert!(out.own(&mut grants).is_none(), "in a header");
        assert_eq!(out.wrote(&header(DATA, 4)[7..]), None);
        assert!(out.own(&mut grants).is_none(), "in a body");
        assert_eq!((out.most(100), out.wrote(&[1, 2, 3, 4])), (4, None));
        assert_eq!(out.own(&mut grants).unwrap().len(), HEADER_SIZE);
        out.wrote_own(5);
        assert_eq!(out.own(&mut grants).unwrap()[..3], [0, 0, 9]);
        out.wrote_own(7);
        assert!(out.own(&mut grants).is_none());
        assert_eq!(out.wrote(&header(WINDOW_UPDATE, 200)), Some((3, 200)));
        assert_eq!(out.wrote(&header(2, 9)), None);
        assert_eq!(out.most(100), HEADER_SIZE, "a ping has no body");
    }
}
