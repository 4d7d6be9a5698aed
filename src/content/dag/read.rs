//! UnixFS -> bytes, in order, with blocks fetched ahead.

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use ocipfs_node::Cid;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use super::{Fetcher, File, unixfs::Unit};
use crate::content::{CidPath, Error, MIB};

/// What one stream begins with, and the most it may grow to. What is on the disk needs no more than
/// the first: it comes as quickly as it is asked for, and less memory stays in the cache.
const FIRST_WINDOW: u64 = 4 * MIB as u64;
const LARGEST_WINDOW: u64 = 32 * MIB as u64;
/// No peer sends a longer block, so a longer part is an inner node.
const MAX_BLOCK: u64 = 2 * MIB as u64;
const MAX_DEPTH: usize = 32;
/// A block that took longer shows a full link: more at once would only queue there.
const TOO_SLOW: Duration = Duration::from_secs(2);

/// A part of the file, at its offset.
enum Part {
    /// Not asked for yet.
    Waiting,
    /// On its way.
    Fetching { since: Instant },
    /// Here.
    Here(Bytes),
}

struct Slot {
    cid: Cid,
    /// Where the part ends in the file.
    end: u64,
    depth: usize,
    part: Part,
    /// Its share of the process's read-ahead.
    _room: Option<OwnedSemaphorePermit>,
}

type Arrival = (u64, Cid, Result<Unit, Error>);

/// Walks a file's DAG from `range.start` to `range.end`, the front first, others ahead of need.
pub struct Walk {
    at: CidPath,
    fetcher: Arc<Fetcher>,
    range: Range<u64>,
    slots: BTreeMap<u64, Slot>,
    /// Tasks, so that they go on while nobody reads: one that stood still would hold the block store's lock.
    fetching: FuturesUnordered<AbortOnDropHandle<Arrival>>,
    /// Bytes on their way or here but not yet read.
    ahead: u64,
    window: u64,
    largest_window: u64,
    room: Arc<Semaphore>,
}

impl Walk {
    /// Starts at a file whose first block is here.
    pub fn new(
        at: CidPath,
        fetcher: Arc<Fetcher>,
        file: File,
        range: Range<u64>,
        room: Arc<Semaphore>,
    ) -> Result<Self, Error> {
        let largest_window = if fetcher.is_verified() { FIRST_WINDOW } else { LARGEST_WINDOW };
        let mut walk = Self {
            at,
            fetcher,
            range,
            slots: BTreeMap::new(),
            fetching: FuturesUnordered::new(),
            ahead: 0,
            window: FIRST_WINDOW,
            largest_window,
            room,
        };
        walk.expand(0, 0, file.cid, file.unit)?;
        Ok(walk)
    }

    /// The next bytes of the file, or none at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(bytes) = self.front() {
                return Ok(Some(bytes));
            }
            if self.slots.is_empty() {
                return Ok(None);
            }
            self.fetch_ahead();
            let after = self.fetcher.stall_timeout();
            match tokio::time::timeout(after, self.fetching.next()).await {
                Ok(Some(Ok((offset, cid, unit)))) => self.arrived(offset, cid, unit?)?,
                Ok(Some(Err(_))) => return Err(ocipfs_node::Error::Stopped.into()),
                // Whatever is not fetched is here, so the front would have been taken.
                Ok(None) => return Ok(None),
                Err(_) => return Err(Error::Stalled { at: self.at.clone(), after }),
            }
        }
    }

    fn front(&mut self) -> Option<Bytes> {
        let first = self.slots.first_entry()?;
        if !matches!(first.get().part, Part::Here(_)) {
            return None;
        }
        let (offset, slot) = first.remove_entry();
        let Part::Here(bytes) = slot.part else { return None };
        self.ahead = self.ahead.saturating_sub(bytes.len() as u64);
        let from = self.range.start.saturating_sub(offset).min(bytes.len() as u64);
        let to = self.range.end.saturating_sub(offset).min(bytes.len() as u64);
        Some(bytes.slice(from as usize..to as usize))
    }

    fn fetch_ahead(&mut self) {
        let front = self.slots.first_key_value().map_or(0, |(offset, _)| *offset);
        for (offset, slot) in &mut self.slots {
            if offset - front > 2 * LARGEST_WINDOW {
                break;
            }
            if !matches!(slot.part, Part::Waiting) {
                continue;
            }
            let size = cost(slot.end - offset);
            // What the reader waits for is always fetched, even where an inner node that came late puts it before
            // a window that is full; beyond it, the window and the process's budget decide.
            if *offset != front && size > 0 {
                if self.ahead + size > self.window {
                    break;
                }
                let mib = (size as usize).div_ceil(MIB) as u32;
                match self.room.clone().try_acquire_many_owned(mib) {
                    Ok(room) => slot._room = Some(room),
                    Err(_) => break,
                }
            }
            self.ahead += size;
            slot.part = Part::Fetching { since: Instant::now() };
            let (fetcher, offset, cid) = (self.fetcher.clone(), *offset, slot.cid);
            let task = tokio::spawn(async move { (offset, cid, fetcher.block(&cid).await) });
            self.fetching.push(AbortOnDropHandle::new(task));
        }
    }

    fn arrived(&mut self, offset: u64, cid: Cid, unit: Unit) -> Result<(), Error> {
        let Some(slot) = self.slots.remove(&offset) else { return Ok(()) };
        let size = slot.end - offset;
        if let Part::Fetching { since } = slot.part {
            self.adapt(since.elapsed(), cost(size));
        }
        self.ahead = self.ahead.saturating_sub(cost(size));
        if unit.size() != size || !matches!(unit, Unit::File { .. }) {
            let why =
                format!("{} of {} bytes where a file's part of {size} belongs", unit.kind(), unit.size());
            return Err(Error::Corrupt { cid, why });
        }
        if let Unit::File { data, children } = &unit
            && children.is_empty()
        {
            self.insert(offset, Slot { part: Part::Here(data.clone()), ..slot });
            return Ok(());
        }
        self.expand(offset, slot.depth + 1, cid, unit)
    }

    /// Quick blocks widen the window, as in TCP's slow start; slow ones narrow it.
    fn adapt(&mut self, took: Duration, size: u64) {
        self.window = match took {
            took if took < TOO_SLOW => (self.window + size).min(self.largest_window),
            _ => (self.window / 2).max(FIRST_WINDOW),
        };
    }

    /// Replaces a block by its parts, as far as the range needs them.
    fn expand(&mut self, offset: u64, depth: usize, cid: Cid, unit: Unit) -> Result<(), Error> {
        let Unit::File { data, children } = unit else { return Ok(()) };
        if depth > MAX_DEPTH {
            return Err(Error::Corrupt { cid, why: format!("its DAG is deeper than {MAX_DEPTH}") });
        }
        let end = offset + data.len() as u64;
        let own = Slot { cid, end, depth, part: Part::Here(data), _room: None };
        self.insert(offset, own);
        let mut offset = end;
        for child in children {
            let end = offset + child.size;
            self.insert(offset, Slot { cid: child.cid, end, depth, part: Part::Waiting, _room: None });
            offset = end;
        }
        Ok(())
    }

    /// Takes a part up, if it holds bytes of the range.
    fn insert(&mut self, offset: u64, slot: Slot) {
        if offset < slot.end && offset < self.range.end && slot.end > self.range.start {
            if let Part::Here(bytes) = &slot.part {
                self.ahead += bytes.len() as u64;
            }
            self.slots.insert(offset, slot);
        }
    }
}

/// What a part adds to the bytes ahead: nothing if it is too long for one block, so an inner node.
fn cost(size: u64) -> u64 {
    if size > MAX_BLOCK { 0 } else { size }
}

#[cfg(test)]
mod tests {
    use multihash_codetable::{Code, MultihashDigest};
    use ocipfs_node::{Block, Node};

    use super::*;
    use crate::content::dag::unixfs::{Child, RAW};

    #[tokio::test]
    async fn the_front_is_fetched_though_later_parts_fill_the_window() {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::open_offline(dir.path()).await.unwrap();
        let cid = Cid::new_v1(RAW, Code::Sha2_256.digest(b"front"));
        node.put(vec![Block { cid, data: "front".into() }]).await.unwrap();
        let patience = Duration::from_secs(10);
        let fetcher = Arc::new(Fetcher::new(node.session(cid), patience, patience));
        let unit = Unit::File { data: Bytes::new(), children: vec![Child { cid, size: 5 }] };
        let room = Arc::new(Semaphore::new(1));
        let mut walk = Walk::new(cid.into(), fetcher, File { cid, unit }, 0..5, room).unwrap();
        walk.ahead = walk.window;
        assert_eq!(walk.next().await.unwrap().as_deref(), Some(&b"front"[..]));
        assert_eq!(walk.next().await.unwrap(), None);
    }
}
