//! Builds the DAG of a file: chunks under a balanced tree, or a trickle tree.

mod trickle;

use bytes::Bytes;
use ocipfs_block::{Block, Cid};

use super::{dag_node::RAW, dag_options::DagOptions, profile::Root};
use trickle::Trickle;

/// Builds the tree from its leaves up, with no more than the open nodes in memory.
pub struct Builder {
    options: DagOptions,
    tree: Tree,
    /// Memory for the block of a framed leaf.
    framed: Vec<u8>,
    leaves: u64,
    /// The block of the only leaf so far, where the root gets metadata: it may be the root.
    only: Option<Block>,
}

enum Tree {
    /// The open node of each level.
    Balanced(Vec<Vec<Root>>),
    Trickle(Trickle),
}

impl Builder {
    /// Begins an empty file.
    pub fn new(options: impl Into<DagOptions>) -> Self {
        let options = options.into();
        let tree = match options.trickle {
            true => Tree::Trickle(Trickle::default()),
            false => Tree::Balanced(vec![Vec::new()]),
        };
        Self { options, tree, framed: Vec::new(), leaves: 0, only: None }
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
        let is_only = self.leaves == 0 && !self.options.metadata.is_empty() && !self.framed.is_empty();
        self.only = is_only.then(|| Block { cid, data: Bytes::copy_from_slice(&self.framed) });
        let nodes = self.push_root(Root { cid, size: chunk.len() as u64, dag_size });
        (cid, nodes)
    }

    /// Adds a leaf that was written before, and returns the inner nodes that are finished.
    pub fn push_root(&mut self, leaf: Root) -> Vec<Block> {
        let mut nodes = Vec::new();
        self.leaves += 1;
        match &mut self.tree {
            Tree::Balanced(levels) => add(&self.options, levels, 0, leaf, &mut nodes),
            Tree::Trickle(tree) => tree.add(&self.options, leaf, &mut nodes),
        }
        nodes
    }

    /// Closes every open node and returns the root with the last blocks. With metadata, the block of a root that would be the
    /// only leaf is one of them.
    pub fn finish(mut self) -> (Root, Vec<Block>) {
        let (options, only) = (self.options, self.only.take());
        let (root, mut blocks) = self.close_all();
        if !options.metadata.is_empty() {
            blocks.extend(only.filter(|only| blocks.iter().all(|block| block.cid != only.cid)));
        }
        options.finish(root, blocks)
    }

    fn close_all(mut self) -> (Root, Vec<Block>) {
        let mut blocks = Vec::new();
        if matches!(&self.tree, Tree::Balanced(levels) if levels[0].is_empty()) {
            blocks = self.push(Bytes::new());
        }
        let options = self.options;
        let mut levels = match self.tree {
            Tree::Balanced(levels) => levels,
            Tree::Trickle(tree) => return tree.finish(&options),
        };
        let mut level = 0;
        loop {
            let top = level + 1 == levels.len();
            if let ([root], true) = (levels[level].as_slice(), top) {
                return (*root, blocks);
            }
            let parent = close(&options, &mut levels[level], &mut blocks);
            level += 1;
            add(&options, &mut levels, level, parent, &mut blocks);
        }
    }
}

fn add(options: &DagOptions, levels: &mut Vec<Vec<Root>>, level: usize, root: Root, blocks: &mut Vec<Block>) {
    if levels.len() == level {
        levels.push(Vec::new());
    }
    // A full node is closed only when one more comes: alone it may be the root.
    if levels[level].len() == options.max_links {
        let parent = close(options, &mut levels[level], blocks);
        add(options, levels, level + 1, parent, blocks);
    }
    levels[level].push(root);
}

fn close(options: &DagOptions, level: &mut Vec<Root>, blocks: &mut Vec<Block>) -> Root {
    let (root, block) = options.file_node(&std::mem::take(level));
    blocks.push(block);
    root
}
