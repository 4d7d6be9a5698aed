//! Inner nodes that are fetched before a reader needs them.
//!
//! They are stored and not taken up: a reader that needs one finds it in the node directory, and learns then what is wrong with it.

use std::collections::HashSet;

use ocipfs_node::{Block, BlockFetcher, Cid, as_v1};
use ocipfs_unixfs::DagNode;

use super::Task;
use crate::content::Error;

/// Bytes of nodes ahead after which the others are not fetched. Those of Kubo's defaults have 8 KiB each; a hostile file may have
/// nodes of 2 MiB.
const MAX_BYTES: usize = 512 << 10;

/// The nodes that were wanted ahead and did not come, by their CIDs in version 1, and the bytes of those that came.
#[derive(Default)]
pub struct NodesAhead {
    /// With those that were given up: one of them may have come already.
    missing: HashSet<Cid>,
    is_wanted: bool,
    bytes: usize,
}

impl Task {
    /// Wants nodes that readers may need next, and gives up those that did not come with what readers needed.
    pub(super) async fn want_ahead(&mut self, fetcher: &mut BlockFetcher) -> Result<(), Error> {
        let chosen = self.tree.take_ahead(&self.shared.interest());
        if self.tree.wanted() == 0 || self.ahead.bytes > MAX_BYTES {
            self.unwant_ahead(fetcher);
        } else if !chosen.is_empty() && self.finds_what_it_keeps() {
            let share = self.content.settings().share;
            let missing = self.content.store().run(move |store| share.missing(store, chosen)).await?;
            self.ahead.missing.extend(missing.iter().map(as_v1));
            self.ahead.is_wanted = true;
            fetcher.want_ahead(missing);
        }
        Ok(())
    }

    /// Whether what is stored for this file is found again when it is needed.
    fn finds_what_it_keeps(&self) -> bool {
        let file = &self.shared.file;
        !file.is_streaming_through() && self.content.settings().share.permits(file.origin())
    }

    fn unwant_ahead(&mut self, fetcher: &mut BlockFetcher) {
        if std::mem::take(&mut self.ahead.is_wanted) {
            let missing = self.ahead.missing.iter().filter(|cid| !self.tree.wants(cid));
            fetcher.unwant(missing.copied().collect());
        }
    }

    /// Stores the blocks that were wanted ahead alone, and returns the others.
    pub(super) async fn keep_ahead(&mut self, blocks: Vec<Block>) -> Result<Vec<Block>, Error> {
        let is_ahead =
            |block: &Block| self.ahead.missing.remove(&as_v1(&block.cid)) && !self.tree.wants(&block.cid);
        let (ahead, others): (Vec<Block>, Vec<Block>) = blocks.into_iter().partition(is_ahead);
        if ahead.is_empty() {
            return Ok(others);
        }
        let bytes: usize = ahead.iter().map(|block| block.data.len()).sum();
        self.ahead.bytes += bytes;
        self.since_checkpoint += bytes as u64;
        let nodes: Vec<Block> = ahead.into_iter().filter(is_node).collect();
        let cids: Vec<Cid> = nodes.iter().map(|block| block.cid).collect();
        let file = self.shared.file.clone();
        let keep = move || nodes.into_iter().try_for_each(|block| file.insert_node(block.cid, block.data));
        tokio::task::spawn_blocking(keep).await.map_err(Error::stopped)??;
        cids.iter().for_each(|cid| self.tree.look_again(cid));
        self.content.node().arrived(&cids);
        Ok(others)
    }
}

/// Whether a block is an inner node of a file without data of its own.
fn is_node(block: &Block) -> bool {
    let node = DagNode::decode(&block.cid, block.data.clone());
    matches!(node, Ok(DagNode::File { data, children }) if data.is_empty() && !children.is_empty())
}
