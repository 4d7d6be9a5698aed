//! Unsolicited blocks: an ocipfs peer sends a small file along with the requested directory that leads to it, which
//! saves a round trip.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{Block, Cid, as_v1};

/// Longer unsolicited blocks are not accepted.
pub const MAX_BLOCK_BYTES: usize = 64 << 10;
const MAX_BLOCKS: usize = 16;

/// The most recent unsolicited blocks, until a session wants them.
#[derive(Default)]
pub struct UnsolicitedBlocks(VecDeque<Block>);

impl UnsolicitedBlocks {
    /// Keeps the blocks if all are short enough. Returns false if they are not acceptable as unsolicited blocks.
    pub fn keep(&mut self, blocks: Vec<Block>) -> bool {
        let are_short = blocks.iter().all(|block| block.data.len() <= MAX_BLOCK_BYTES);
        if are_short {
            // Copied, since a slice would keep its whole message in memory.
            let copied = |block: Block| Block { data: Bytes::copy_from_slice(&block.data), ..block };
            self.0.extend(blocks.into_iter().map(copied));
            self.0.drain(..self.0.len().saturating_sub(MAX_BLOCKS));
        }
        are_short
    }

    /// Removes and returns a block.
    pub fn remove(&mut self, cid: &Cid) -> Option<Block> {
        let index = self.0.iter().position(|block| as_v1(&block.cid) == as_v1(cid))?;
        self.0.remove(index)
    }
}
