//! The blocks of a stored file, as a bundle has them: each node before those below it, and each block as often as the file
//! has it, so that a reader knows the place of each.

use ocipfs_node::{Block, Cid, FetchError, inline_bytes};
use ocipfs_unixfs::links;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{Content, Error, Store};

/// Blocks that wait to be written.
const QUEUE_LENGTH: usize = 4;
/// Nodes below each other.
const MAX_DEPTH: usize = 32;

/// A block of a file.
#[derive(Clone, Debug)]
pub struct FileBlock {
    /// The block.
    pub block: Block,
    /// How many nodes are above it.
    pub depth: usize,
    /// Whether there are blocks below it.
    pub is_inner: bool,
}

impl Content {
    /// Reads and verifies the blocks of a stored file.
    pub fn file_blocks(&self, root: Cid) -> Receiver<Result<FileBlock, Error>> {
        let (sender, blocks) = channel(QUEUE_LENGTH);
        let store = self.store().clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = walk(&store, root, &sender) {
                let _ = sender.blocking_send(Err(error));
            }
        });
        blocks
    }
}

fn walk(store: &Store, root: Cid, to: &Sender<Result<FileBlock, Error>>) -> Result<(), Error> {
    let mut waiting = vec![(root, 0)];
    while let Some((cid, depth)) = waiting.pop() {
        // Its CID carries it.
        if inline_bytes(&cid).is_some() {
            continue;
        }
        if depth > MAX_DEPTH {
            return Err(Error::Corrupt { cid: root, why: format!("DAG is deeper than {MAX_DEPTH} levels") });
        }
        let data = store.get_verified(&cid).map_err(Error::from)?.ok_or(FetchError::Offline(cid))?;
        let below = links(&cid, data.clone())?;
        let is_inner = !below.is_empty();
        waiting.extend(below.into_iter().rev().map(|link| (link, depth + 1)));
        let block = FileBlock { block: Block { cid, data }, depth, is_inner };
        if to.blocking_send(Ok(block)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
