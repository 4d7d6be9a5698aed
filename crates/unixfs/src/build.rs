//! Builds the DAG of a file: fixed chunks under a balanced tree.

use bytes::Bytes;
use ocipfs_block::{Block, Cid};

use super::{dag_node::RAW, dag_options::DagOptions, profile::Root};

/// Builds the tree from its leaves up, with at most one open node a level in memory.
pub struct Builder {
    options: DagOptions,
    levels: Vec<Vec<Root>>,
    /// Memory for the block of a framed leaf.
    framed: Vec<u8>,
}

impl Builder {
    /// Begins an empty file.
    pub fn new(options: impl Into<DagOptions>) -> Self {
        Self { options: options.into(), levels: vec![Vec::new()], framed: Vec::new() }
    }

    /// Adds a chunk, of the length that the chunker chose, and returns the blocks that are finished.
    pub fn push(&mut self, chunk: Bytes) -> Vec<Block> {
        let (cid, nodes) = self.push_leaf(&chunk);
        let data = if cid.codec() == RAW { chunk } else { Bytes::copy_from_slice(&self.framed) };
        [Block { cid, data }].into_iter().chain(nodes).collect()
    }

    /// Adds a chunk, and returns the CID of its leaf and the inner nodes that are finished, without the leaf's block.
    pub fn push_leaf(&mut self, chunk: &[u8]) -> (Cid, Vec<Block>) {
        self.framed.clear();
        let cid = self.options.leaf(chunk, &mut self.framed);
        let dag_size = if self.framed.is_empty() { chunk.len() } else { self.framed.len() } as u64;
        let mut nodes = Vec::new();
        self.add(0, Root { cid, size: chunk.len() as u64, dag_size }, &mut nodes);
        (cid, nodes)
    }

    /// Adds a leaf that was written before, and returns the inner nodes that are finished.
    pub fn push_root(&mut self, leaf: Root) -> Vec<Block> {
        let mut nodes = Vec::new();
        self.add(0, leaf, &mut nodes);
        nodes
    }

    fn add(&mut self, level: usize, root: Root, blocks: &mut Vec<Block>) {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        // A full node is closed only when one more comes: alone it may be the root.
        if self.levels[level].len() == self.options.max_links {
            let parent = self.close(level, blocks);
            self.add(level + 1, parent, blocks);
        }
        self.levels[level].push(root);
    }

    fn close(&mut self, level: usize, blocks: &mut Vec<Block>) -> Root {
        let children = std::mem::take(&mut self.levels[level]);
        let (root, block) = self.options.file_node(&children);
        blocks.push(block);
        root
    }

    /// Closes every open node and returns the root with the last blocks.
    pub fn finish(mut self) -> (Root, Vec<Block>) {
        let mut blocks = Vec::new();
        if self.levels[0].is_empty() {
            blocks = self.push(Bytes::new());
        }
        let mut level = 0;
        loop {
            let top = level + 1 == self.levels.len();
            if let ([root], true) = (self.levels[level].as_slice(), top) {
                return (*root, blocks);
            }
            let parent = self.close(level, &mut blocks);
            level += 1;
            self.add(level, parent, &mut blocks);
        }
    }
}
