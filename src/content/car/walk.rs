//! The blocks of a DAG in the order of a depth-first search, read one after the other.

use std::{collections::HashSet, vec};

use bytes::Bytes;
use ocipfs_node::{Cid, FetchError};
use ocipfs_unixfs::RAW;

use super::{
    CarOptions,
    below::{Below, Wanted},
    resolve::SharedPath,
    room::{Busy, CarRoom, Taken},
};
use crate::content::{Content, Error, hold};

/// Bytes of memory for a walk to begin.
const FIRST_BYTES: u64 = 16 << 10;
/// Blocks that are remembered, so that none is written twice; beyond them a DAG may repeat some.
const MAX_SEEN: usize = 1 << 16;
/// Memory of one of them, with the room between them.
const SEEN_BYTES: u64 = 40;
/// They take memory in lots.
const SEEN_LOT: usize = 1 << 10;

/// The end of a digest: enough to tell blocks apart.
type Seen = [u8; 16];

/// Yields the blocks that a CAR is to contain.
pub struct CarWalk {
    content: Content,
    room: CarRoom,
    /// From the top to the current block: what comes next on each level, and its memory.
    levels: Vec<(vec::IntoIter<Wanted>, Option<Taken>)>,
    /// None if duplicates are written.
    seen: Option<HashSet<Seen>>,
    taken: Vec<Taken>,
}

impl CarWalk {
    /// Begins with the blocks of a path.
    pub fn new(
        content: Content,
        path: SharedPath,
        options: CarOptions,
        room: &CarRoom,
    ) -> Result<Self, Busy> {
        let taken = vec![room.try_take(FIRST_BYTES)?];
        let via = path.via.into_iter().map(|cid| Wanted { cid, below: Below::Nothing });
        let first: Vec<Wanted> = via.chain(path.end.wanted).collect();
        let seen = (!options.duplicates).then(HashSet::new);
        Ok(Self { content, room: room.clone(), levels: vec![(first.into_iter(), None)], seen, taken })
    }

    /// Returns the next block; none at the end.
    ///
    /// # Errors
    /// Fails if the next block is not here or not shared, or if there is no room for what follows it.
    pub async fn next(&mut self) -> Result<Option<(Cid, Bytes)>, Error> {
        while let Some((level, _)) = self.levels.last_mut() {
            let Some(Wanted { cid, below }) = level.next() else {
                self.levels.pop();
                continue;
            };
            let is_new = self.note(&cid);
            // Of a file that repeats a part, another range of it may be requested this time.
            let goes_on = is_new || matches!(below, Below::Bytes(_)) && cid.codec() != RAW;
            if !goes_on {
                continue;
            }
            let block = self.read(&cid).await?;
            let next = below.follow(&cid, &block)?;
            if !next.is_empty() {
                let bytes = size_of_val(&next[..]) as u64;
                let taken = self.take(bytes, &cid).await?;
                self.levels.push((next.into_iter(), Some(taken)));
            }
            if is_new {
                return Ok(Some((cid, block)));
            }
        }
        Ok(None)
    }

    async fn read(&self, cid: &Cid) -> Result<Bytes, Error> {
        let missing = || Error::Node(FetchError::Offline(*cid));
        let length = self.content.shared_size(cid).await?.ok_or_else(missing)?;
        let taken = self.take(length, cid).await?;
        let block = self.content.shared_block(cid).await?.ok_or_else(missing)?;
        Ok(hold(block, taken))
    }

    /// Waits until slow clients of other walks leave room.
    async fn take(&self, bytes: u64, cid: &Cid) -> Result<Taken, Error> {
        let after = self.content.stall_timeout();
        let taken = self.room.take(bytes, after).await;
        taken.map_err(|Busy| Error::Stalled { at: (*cid).into(), after })
    }

    /// Notes that a block is written; false if it was written before and is not to be written again.
    fn note(&mut self, cid: &Cid) -> bool {
        let Some(seen) = &mut self.seen else { return true };
        let key = end_of_digest(cid);
        if seen.contains(&key) {
            return false;
        }
        if seen.len() % SEEN_LOT == 0 && seen.len() < MAX_SEEN {
            self.taken.extend(self.room.try_take(SEEN_BYTES * SEEN_LOT as u64));
        }
        if seen.len() < (self.taken.len() - 1) * SEEN_LOT {
            seen.insert(key);
        }
        true
    }
}

/// Digests of accepted hash functions have at least 20 bytes.
fn end_of_digest(cid: &Cid) -> Seen {
    let digest = cid.hash().digest();
    let mut end = Seen::default();
    let length = digest.len().min(end.len());
    end[..length].copy_from_slice(&digest[digest.len() - length..]);
    end
}
