//! Blocks that came along with one that was asked for: a node of this kind sends with a directory the file that it leads
//! to, which saves a round trip.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{Block, Cid, blocks::key};

/// No longer block is taken unasked.
pub const LONGEST: usize = 64 << 10;
const MOST: usize = 16;

/// The last few of them, until somebody wants them.
#[derive(Default)]
pub struct Ahead(VecDeque<Block>);

impl Ahead {
    /// Keeps blocks, if all of them are short enough; else they are nothing that a peer may send unasked.
    pub fn keep(&mut self, blocks: Vec<Block>) -> bool {
        let are_short = blocks.iter().all(|block| block.data.len() <= LONGEST);
        if are_short {
            // Copied: a slice would hold the memory of its whole message.
            let copied = |block: Block| Block { data: Bytes::copy_from_slice(&block.data), ..block };
            self.0.extend(blocks.into_iter().map(copied));
            self.0.drain(..self.0.len().saturating_sub(MOST));
        }
        are_short
    }

    /// Takes a block out.
    pub fn take(&mut self, cid: &Cid) -> Option<Block> {
        let index = self.0.iter().position(|block| key(&block.cid) == key(cid))?;
        self.0.remove(index)
    }
}
