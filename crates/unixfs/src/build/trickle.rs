//! The trickle tree of a file: a node has leaves first, then four subtrees of each depth that is below its own.

use ocipfs_block::Block;

use crate::{DagOptions, Root};

/// Subtrees of one depth.
const REPEATS: usize = 4;

/// The open nodes, from the root down.
pub struct Trickle(Vec<Open>);

/// A node to which children are added.
struct Open {
    children: Vec<Root>,
    /// The depth of its subtrees is below this; the root has no limit.
    max_depth: Option<usize>,
    /// The depth of the next subtree, and how many of this depth there are.
    depth: usize,
    repeats: usize,
}

impl Open {
    fn new(max_depth: Option<usize>) -> Self {
        Self { children: Vec::new(), max_depth, depth: 1, repeats: 0 }
    }

    fn add_subtree(&mut self, root: Root) {
        self.children.push(root);
        self.repeats += 1;
        if self.repeats == REPEATS {
            (self.depth, self.repeats) = (self.depth + 1, 0);
        }
    }
}

impl Default for Trickle {
    fn default() -> Self {
        Self(vec![Open::new(None)])
    }
}

impl Trickle {
    /// Adds a leaf, and the nodes that are full to `blocks`.
    pub fn add(&mut self, options: &DagOptions, leaf: Root, blocks: &mut Vec<Block>) {
        while let Some(last) = self.0.last_mut() {
            if last.children.len() < options.max_links {
                last.children.push(leaf);
                return;
            }
            if last.max_depth.is_none_or(|max_depth| last.depth < max_depth) {
                let depth = last.depth;
                self.0.push(Open::new(Some(depth)));
                continue;
            }
            self.close(options, blocks);
        }
    }

    /// Closes the last node, and adds it to the one above it.
    fn close(&mut self, options: &DagOptions, blocks: &mut Vec<Block>) -> Option<Root> {
        let (root, block) = options.file_node(&self.0.pop()?.children);
        blocks.push(block);
        match self.0.last_mut() {
            Some(parent) => parent.add_subtree(root),
            None => return Some(root),
        }
        None
    }

    /// Closes every node and returns the root with the last blocks.
    pub fn finish(mut self, options: &DagOptions) -> (Root, Vec<Block>) {
        let mut blocks = Vec::new();
        loop {
            if let Some(root) = self.close(options, &mut blocks) {
                return (root, blocks);
            }
        }
    }
}
