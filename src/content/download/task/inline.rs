//! Parts of a file that the links of its nodes carry and a `Cid` has no room for.

use ocipfs_node::{Block, Cid};

use super::Task;
use crate::content::Error;

/// Blocks that are remembered before those are dropped that are here by now.
const MAX_CARRIED: usize = 4096;

impl Task {
    /// Remembers blocks that a node carries, until they are written.
    pub(super) fn remember_inlined(&mut self, blocks: Vec<Block>) {
        let tree = &self.tree;
        let parts = blocks.into_iter().filter(|block| tree.lacks(&block.cid));
        self.inlined.extend(parts.map(|block| (block.cid, block.data)));
        if self.inlined.len() > MAX_CARRIED {
            self.inlined.retain(|cid, _| tree.lacks(cid));
        }
    }

    /// Writes the parts that were remembered; returns the others.
    pub(super) async fn absorb_inlined(&mut self, parts: Vec<Cid>) -> Result<Vec<Cid>, Error> {
        let (mut carried, mut others) = (Vec::new(), Vec::new());
        for cid in parts {
            match self.inlined.get(&cid) {
                Some(data) => carried.push(Block { cid, data: data.clone() }),
                None => others.push(cid),
            }
        }
        self.absorb_all(carried, Vec::new()).await?;
        Ok(others)
    }
}
