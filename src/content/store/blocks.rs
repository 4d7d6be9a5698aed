//! Owners and places of blocks: one row for each owner, the first of them in the main table.

use bytes::Bytes;
use ocipfs_node::Block;
use redb::ReadableTable;

use super::{
    Error,
    layout::{BlockKey, BlockPlace},
    tables::{LOOSE_BYTES, PlaceRow, Tables, add_to},
};

/// The owner of blocks that belong to no file.
pub const NO_OWNER: u64 = 0;
/// The owner of such blocks that came before the node left another network.
pub const FORMER_OWNER: u64 = u64::MAX - 1;

/// Whether blocks of this owner belong to no file.
pub fn is_loose(owner: u64) -> bool {
    owner == NO_OWNER || owner == FORMER_OWNER
}

impl BlockPlace {
    pub fn from_row((window, block): PlaceRow) -> Self {
        match window {
            Some((offset, length)) => Self::Window { offset, length },
            None => Self::Inline(Bytes::copy_from_slice(block)),
        }
    }

    fn as_row(&self) -> PlaceRow<'_> {
        match self {
            Self::Inline(block) => (None, block),
            Self::Window { offset, length } => (Some((*offset, *length)), &[]),
        }
    }
}

impl Tables<'_> {
    /// Keeps blocks that belong to no file.
    pub fn put_blocks(&mut self, blocks: &[Block]) -> Result<(), Error> {
        blocks.iter().try_for_each(|block| {
            self.own(&BlockKey::of(&block.cid), NO_OWNER, &BlockPlace::Inline(block.data.clone()))
        })
    }

    /// Records that `owner` has the block at `place`; where it has it already, nothing changes.
    pub fn own(&mut self, key: &BlockKey, owner: u64, place: &BlockPlace) -> Result<(), Error> {
        let first = self.blocks.get(key.bytes())?.map(|row| row.value().0);
        match first {
            Some(first) if first == owner => return Ok(()),
            Some(_) if self.shared.get((key.bytes(), owner))?.is_some() => return Ok(()),
            Some(_) => drop(self.shared.insert((key.bytes(), owner), place.as_row())?),
            None => drop(self.blocks.insert(key.bytes(), (owner, place.as_row()))?),
        }
        self.count(owner, place, 1)
    }

    /// Records that `owner` lost the block; another owner takes its place.
    pub fn disown(&mut self, key: &BlockKey, owner: u64) -> Result<(), Error> {
        let first = self.blocks.get(key.bytes())?.map(|row| {
            let (owner, place) = row.value();
            (owner, BlockPlace::from_row(place))
        });
        let Some((_, place)) = first.filter(|(first, _)| *first == owner) else {
            let removed = self.shared.remove((key.bytes(), owner))?;
            let removed = removed.map(|place| BlockPlace::from_row(place.value()));
            return removed.map_or(Ok(()), |place| self.count(owner, &place, -1));
        };
        let next = self.shared.range((key.bytes(), 0)..=(key.bytes(), u64::MAX))?.next().transpose()?;
        let next = next.map(|(key, place)| (key.value().1, BlockPlace::from_row(place.value())));
        match next {
            None => drop(self.blocks.remove(key.bytes())?),
            Some((next, place)) => {
                self.shared.remove((key.bytes(), next))?;
                self.blocks.insert(key.bytes(), (next, place.as_row()))?;
            }
        }
        self.count(owner, &place, -1)
    }

    /// The bytes of blocks that belong to no file are part of what is stored.
    fn count(&mut self, owner: u64, place: &BlockPlace, times: i64) -> Result<(), Error> {
        match place {
            BlockPlace::Inline(block) if is_loose(owner) => {
                add_to(&mut self.meta, LOOSE_BYTES, times * block.len() as i64)
            }
            _ => Ok(()),
        }
    }
}
