//! The wants that one peer has of this node: a pure state machine.
//!
//! A want is *ready*, then *in progress* while its block is read, and *waiting* if the block is not stored: it is
//! answered when the block arrives, as peers expect.

#[cfg(test)]
mod tests;

use std::{cmp::Reverse, collections::HashMap};

use super::wire::{Kind, WantlistEntry};
use crate::{Cid, as_v1};

/// Maximum number of wants of a peer, the same as in boxo.
pub const MAX_WANTS: usize = 1024;
const EVICTED_WANTS: usize = MAX_WANTS / 16;
/// The priority of a block that a reader waits for. boxo gives it to the first block of a session.
pub const URGENT: i32 = i32::MAX;

/// A want of the peer, for a block or its presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// The CID as the peer wrote it, which is used in the answer.
    pub cid: Cid,
    pub kind: Kind,
    pub send_dont_have: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WantState {
    Ready,
    /// The block is being read; `arrived` if it was stored meanwhile.
    InProgress {
        arrived: bool,
    },
    Waiting,
}

#[derive(Debug)]
struct LedgerEntry {
    want: Want,
    priority: i32,
    /// Orders wants of equal priority by age.
    number: u64,
    state: WantState,
    /// Whether its block had to wait, since another peer may pass it on.
    held: bool,
}

/// The wantlist of one peer.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: HashMap<Cid, LedgerEntry>,
    counter: u64,
}

impl Ledger {
    /// Applies a wantlist: a full one, or changes.
    pub fn apply(&mut self, full: bool, entries: Vec<WantlistEntry>) {
        if full {
            self.entries.clear();
        }
        // No want starts to wait in this loop, so if none can be evicted for one entry, none can for the next.
        let mut gives_way = true;
        for entry in entries {
            if entry.cancel {
                self.entries.remove(&as_v1(&entry.cid));
            } else {
                self.add(entry, &mut gives_way);
            }
        }
    }

    fn add(&mut self, entry: WantlistEntry, gives_way: &mut bool) {
        let WantlistEntry { cid, priority, kind, send_dont_have, .. } = entry;
        let cid_v1 = as_v1(&cid);
        if let Some(entry) = self.entries.get_mut(&cid_v1) {
            entry.priority = priority;
            // WANT-HAVE does not take back WANT-BLOCK.
            if entry.want.kind == Kind::Have {
                entry.want.kind = kind;
            }
            entry.want.send_dont_have |= send_dont_have;
            // A repeated want is answered again.
            if entry.state == WantState::Waiting {
                entry.state = WantState::Ready;
            }
            return;
        }
        if self.entries.len() >= MAX_WANTS {
            *gives_way = *gives_way && self.make_room();
            if !*gives_way {
                return;
            }
        }
        self.counter += 1;
        let want = Want { cid, kind, send_dont_have };
        self.entries.insert(
            cid_v1,
            LedgerEntry { want, priority, number: self.counter, state: WantState::Ready, held: false },
        );
    }

    /// Evicts some waiting wants with the lowest priority; several at once, so that not every further want scans the
    /// list.
    fn make_room(&mut self) -> bool {
        let waiting = self.entries.iter().filter(|(_, entry)| entry.state == WantState::Waiting);
        let mut waiting: Vec<_> =
            waiting.map(|(cid_v1, entry)| ((entry.priority, Reverse(entry.number)), *cid_v1)).collect();
        waiting.sort_unstable_by_key(|(rank, _)| *rank);
        for (_, cid_v1) in waiting.iter().take(EVICTED_WANTS) {
            self.entries.remove(cid_v1);
        }
        !waiting.is_empty()
    }

    /// Returns whether the peer has no wants, not even waiting ones.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes up to `limit` presences to look up, the oldest wants first.
    pub fn next_haves(&mut self, limit: usize) -> Vec<Want> {
        let ready =
            |entry: &&mut LedgerEntry| entry.state == WantState::Ready && entry.want.kind == Kind::Have;
        let mut haves: Vec<&mut LedgerEntry> = self.entries.values_mut().filter(ready).collect();
        haves.sort_unstable_by_key(|entry| entry.number);
        haves.truncate(limit);
        let take = |entry: &mut LedgerEntry| {
            entry.state = WantState::InProgress { arrived: false };
            entry.want.clone()
        };
        haves.into_iter().map(take).collect()
    }

    /// Takes the block to send next.
    ///
    /// Blocks that other peers were sent least often recently go first, so that peers pulling the same content can
    /// exchange blocks; then the peer's own priority decides. `sent` returns that count, or until when a block has to
    /// wait; its second argument tells whether a reader waits for the block. Fails with the earliest time at which a
    /// block can be sent, if there is one.
    pub fn next_block<T: Ord>(
        &mut self,
        sent: impl Fn(&Cid, bool) -> Result<u32, T>,
    ) -> Result<Want, Option<T>> {
        let ready = self
            .entries
            .iter_mut()
            .filter(|(_, entry)| entry.state == WantState::Ready && entry.want.kind == Kind::Block);
        let mut held: Option<T> = None;
        let ranked = ready.filter_map(|(cid_v1, entry)| {
            let urgent = entry.priority == URGENT;
            let sent = match sent(cid_v1, urgent) {
                Ok(sent) => sent,
                Err(until) => {
                    entry.held = true;
                    held = [held.take(), Some(until)].into_iter().flatten().min();
                    return None;
                }
            };
            // A block that a reader waits for goes first, even if others have it.
            let sent = if urgent { 0 } else { sent };
            Some(((sent, Reverse(entry.priority), entry.number), entry))
        });
        let Some((_, entry)) = ranked.min_by_key(|(rank, _)| *rank) else { return Err(held) };
        entry.state = WantState::InProgress { arrived: false };
        Ok(entry.want.clone())
    }

    /// Returns whether a want that is still open had to wait, since another peer may pass its block on.
    pub fn was_held(&self, cid: &Cid) -> bool {
        self.entries.get(&as_v1(cid)).is_some_and(|entry| entry.held)
    }

    /// Makes a want ready again that was taken and cannot be answered yet.
    pub fn put_back(&mut self, cid: &Cid) {
        if let Some(entry) = self.entries.get_mut(&as_v1(cid))
            && let WantState::InProgress { .. } = entry.state
        {
            entry.state = WantState::Ready;
        }
    }

    /// Makes all wants wait that were taken and will not be answered: each is ready again once it is repeated or its block arrives.
    pub fn abandon(&mut self) {
        for entry in self.entries.values_mut() {
            entry.state = match entry.state {
                WantState::InProgress { arrived: true } => WantState::Ready,
                WantState::InProgress { arrived: false } => WantState::Waiting,
                other => other,
            };
        }
    }

    /// Returns whether a want can be processed.
    pub fn is_ready(&self, cid: &Cid) -> bool {
        self.entries.get(&as_v1(cid)).is_some_and(|entry| entry.state == WantState::Ready)
    }

    /// Ends a want whose block was sent. Returns false if it was cancelled or answered meanwhile.
    pub fn block_sent(&mut self, cid: &Cid) -> bool {
        let cid_v1 = as_v1(cid);
        let is_taken = self
            .entries
            .get(&cid_v1)
            .is_some_and(|entry| matches!(entry.state, WantState::InProgress { .. }));
        if is_taken {
            self.entries.remove(&cid_v1);
        }
        is_taken
    }

    /// Ends a want whose presence was sent. If its block is wanted by now, the want is ready again.
    pub fn presence_sent(&mut self, cid: &Cid) {
        let cid_v1 = as_v1(cid);
        match self.entries.get_mut(&cid_v1) {
            Some(entry) if entry.want.kind == Kind::Block => entry.state = WantState::Ready,
            _ => drop(self.entries.remove(&cid_v1)),
        }
    }

    /// Records that a block is not stored. Returns whether to send DONT_HAVE.
    pub fn not_found(&mut self, cid: &Cid) -> bool {
        let Some(entry) = self.entries.get_mut(&as_v1(cid)) else { return false };
        match entry.state {
            WantState::InProgress { arrived: true } => {
                entry.state = WantState::Ready;
                false
            }
            WantState::InProgress { arrived: false } => {
                entry.state = WantState::Waiting;
                entry.want.send_dont_have
            }
            _ => false,
        }
    }

    /// Records that a block was stored. Returns whether the peer waits for it.
    pub fn arrived(&mut self, cid: &Cid) -> bool {
        let Some(entry) = self.entries.get_mut(&as_v1(cid)) else { return false };
        match &mut entry.state {
            WantState::Waiting => entry.state = WantState::Ready,
            WantState::InProgress { arrived } => *arrived = true,
            WantState::Ready => {}
        }
        entry.state == WantState::Ready
    }
}
