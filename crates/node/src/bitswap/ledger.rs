//! What one peer wants of this node: a pure state machine.
//!
//! A want is *ready* until somebody looks for its block, *taken* meanwhile, and *waits* where the block is not
//! here: it is answered when the block comes, as peers expect of each other.

#[cfg(test)]
mod tests;

use std::{cmp::Reverse, collections::HashMap};

use super::wire::{Entry, Kind};
use crate::{Cid, blocks::key};

/// As many as boxo keeps for a peer.
pub const MAX_WANTS: usize = 1024;
const FORGOTTEN_AT_ONCE: usize = MAX_WANTS / 16;
/// The priority of what a reader waits for; boxo gives it to the first block of a session.
pub const URGENT: i32 = i32::MAX;

/// A block or its presence, wanted by the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// As the peer wrote it; so it is answered.
    pub cid: Cid,
    pub kind: Kind,
    pub send_dont_have: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Ready,
    /// And whether the block came meanwhile.
    Taken {
        arrived: bool,
    },
    Waiting,
}

#[derive(Debug)]
struct Line {
    want: Want,
    priority: i32,
    /// Earlier wants go first where nothing else decides.
    number: u64,
    stage: Stage,
}

/// The want list of one peer.
#[derive(Debug, Default)]
pub struct Ledger {
    lines: HashMap<Cid, Line>,
    counter: u64,
}

impl Ledger {
    /// Takes a want list, or a change of the one before.
    pub fn apply(&mut self, full: bool, entries: Vec<Entry>) {
        if full {
            self.lines.clear();
        }
        // Nothing begins to wait meanwhile: where no want gives way to one, none does to those after it.
        let mut gives_way = true;
        for entry in entries {
            if entry.cancel {
                self.lines.remove(&key(&entry.cid));
            } else {
                self.add(entry, &mut gives_way);
            }
        }
    }

    fn add(&mut self, entry: Entry, gives_way: &mut bool) {
        let Entry { cid, priority, kind, send_dont_have, .. } = entry;
        let name = key(&cid);
        if let Some(line) = self.lines.get_mut(&name) {
            line.priority = priority;
            // A want for a block is not taken back by one for its presence.
            if line.want.kind == Kind::Have {
                line.want.kind = kind;
            }
            line.want.send_dont_have |= send_dont_have;
            // Who asks again wants an answer again.
            if line.stage == Stage::Waiting {
                line.stage = Stage::Ready;
            }
            return;
        }
        if self.lines.len() >= MAX_WANTS {
            *gives_way = *gives_way && self.make_room();
            if !*gives_way {
                return;
            }
        }
        self.counter += 1;
        let want = Want { cid, kind, send_dont_have };
        self.lines.insert(name, Line { want, priority, number: self.counter, stage: Stage::Ready });
    }

    /// Forgets the least of what only waits; some of it at once, so that not each further want looks at all others.
    fn make_room(&mut self) -> bool {
        let waiting = self.lines.iter().filter(|(_, line)| line.stage == Stage::Waiting);
        let mut waiting: Vec<_> =
            waiting.map(|(name, line)| ((line.priority, Reverse(line.number)), *name)).collect();
        waiting.sort_unstable_by_key(|(rank, _)| *rank);
        for (_, name) in waiting.iter().take(FORGOTTEN_AT_ONCE) {
            self.lines.remove(name);
        }
        !waiting.is_empty()
    }

    /// Whether nothing is wanted, not even waited for.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Takes the presences to look for, `limit` at most.
    pub fn take_haves(&mut self, limit: usize) -> Vec<Want> {
        let ready = |line: &&mut Line| line.stage == Stage::Ready && line.want.kind == Kind::Have;
        let taken = self.lines.values_mut().filter(ready).take(limit);
        let take = |line: &mut Line| {
            line.stage = Stage::Taken { arrived: false };
            line.want.clone()
        };
        taken.map(take).collect()
    }

    /// Takes the block to send next: of those that were `sent` to others least often just now, so that peers who
    /// pull the same thing at once have something to give each other; then by the peer's own priority. `sent` may say until
    /// when one has to wait, and is told whether a reader waits for the block. Where nothing can be sent, says when that
    /// ends first, if it does by itself.
    pub fn take_block<T: Ord>(
        &mut self,
        sent: impl Fn(&Cid, bool) -> Result<u32, T>,
    ) -> Result<Want, Option<T>> {
        let ready = self
            .lines
            .iter_mut()
            .filter(|(_, line)| line.stage == Stage::Ready && line.want.kind == Kind::Block);
        let mut held: Option<T> = None;
        let ranked = ready.filter_map(|(name, line)| {
            let urgent = line.priority == URGENT;
            let sent = match sent(name, urgent) {
                Ok(sent) => sent,
                Err(until) => {
                    held = [held.take(), Some(until)].into_iter().flatten().min();
                    return None;
                }
            };
            // What a reader waits for comes first, whoever has it.
            let sent = if urgent { 0 } else { sent };
            Some(((sent, Reverse(line.priority), line.number), line))
        });
        let Some((_, line)) = ranked.min_by_key(|(rank, _)| *rank) else { return Err(held) };
        line.stage = Stage::Taken { arrived: false };
        Ok(line.want.clone())
    }

    /// Whether a want can be looked for.
    pub fn is_ready(&self, cid: &Cid) -> bool {
        self.lines.get(&key(cid)).is_some_and(|line| line.stage == Stage::Ready)
    }

    /// Ends a want that was taken; false where it was cancelled or answered since.
    pub fn answered(&mut self, cid: &Cid) -> bool {
        let name = key(cid);
        let is_taken = self.lines.get(&name).is_some_and(|line| matches!(line.stage, Stage::Taken { .. }));
        if is_taken {
            self.lines.remove(&name);
        }
        is_taken
    }

    /// Ends a want for a presence that was taken. Where its block is wanted by now, that is looked for next.
    pub fn told(&mut self, cid: &Cid) {
        let name = key(cid);
        match self.lines.get_mut(&name) {
            Some(line) if line.want.kind == Kind::Block => line.stage = Stage::Ready,
            _ => drop(self.lines.remove(&name)),
        }
    }

    /// Notes that the block of a want that was taken is not here; whether the peer wants to be told.
    pub fn missing(&mut self, cid: &Cid) -> bool {
        let Some(line) = self.lines.get_mut(&key(cid)) else { return false };
        match line.stage {
            Stage::Taken { arrived: true } => {
                line.stage = Stage::Ready;
                false
            }
            Stage::Taken { arrived: false } => {
                line.stage = Stage::Waiting;
                line.want.send_dont_have
            }
            _ => false,
        }
    }

    /// Notes that a block is here now; whether the peer waits for it.
    pub fn arrived(&mut self, cid: &Cid) -> bool {
        let Some(line) = self.lines.get_mut(&key(cid)) else { return false };
        match &mut line.stage {
            Stage::Waiting => line.stage = Stage::Ready,
            Stage::Taken { arrived } => *arrived = true,
            Stage::Ready => {}
        }
        line.stage == Stage::Ready
    }
}
