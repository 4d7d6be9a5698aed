use ocipfs_node::Block;
use ocipfs_unixfs::{Builder, Chunks, DagOptions, Root};

use crate::content::{
    Profile,
    store::{BlobLayout, Leaf},
};

/// How the DAG of a file is made of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// Where the chunks end.
    pub chunker: ocipfs_unixfs::Chunker,
    /// How the nodes are written.
    pub dag: DagOptions,
}

impl From<Profile> for FileOptions {
    fn from(profile: Profile) -> Self {
        Self { chunker: ocipfs_unixfs::Chunker::Size(profile.chunk()), dag: profile.options() }
    }
}

/// Cuts pieces into leaves, and builds the tree above them.
pub struct DagChunker {
    chunks: Chunks,
    tree: LeafTree,
}

struct LeafTree {
    builder: Builder,
    leaves: Vec<Leaf>,
    nodes: Vec<Block>,
    offset: u64,
    has_metadata: bool,
}

impl DagChunker {
    pub fn new(options: FileOptions) -> Self {
        let (builder, has_metadata) = (Builder::new(options.dag), !options.dag.metadata.is_empty());
        let tree = LeafTree { builder, leaves: vec![], nodes: vec![], offset: 0, has_metadata };
        Self { chunks: Chunks::new(options.chunker), tree }
    }

    pub fn push(&mut self, piece: &[u8]) {
        let Self { chunks, tree } = self;
        chunks.push(piece, |chunk| tree.push(chunk));
    }

    pub fn finish(self) -> (Root, BlobLayout) {
        let Self { chunks, mut tree } = self;
        chunks.finish(|chunk| tree.push(chunk));
        let (root, last) = tree.builder.finish();
        // With metadata the only leaf is a block of its own, not a window of the file.
        if tree.has_metadata && tree.leaves.len() == 1 {
            tree.leaves.clear();
        }
        tree.nodes.extend(last);
        (root, BlobLayout { root: root.cid, leaves: tree.leaves, nodes: tree.nodes })
    }
}

impl LeafTree {
    fn push(&mut self, chunk: &[u8]) {
        let (cid, finished) = self.builder.push_leaf(chunk);
        self.leaves.push(Leaf { cid, offset: self.offset, length: chunk.len() as u64 });
        self.nodes.extend(finished);
        self.offset += chunk.len() as u64;
    }
}

/// Computes the root of a file of which nothing is stored.
pub struct HashOnly {
    chunks: Chunks,
    builder: Builder,
}

impl HashOnly {
    pub fn new(options: FileOptions) -> Self {
        Self { chunks: Chunks::new(options.chunker), builder: Builder::new(options.dag) }
    }

    pub fn write(&mut self, piece: &[u8]) {
        let Self { chunks, builder } = self;
        chunks.push(piece, |chunk| drop(builder.push_leaf(chunk)));
    }

    pub fn close(self) -> Root {
        let Self { chunks, mut builder } = self;
        chunks.finish(|chunk| drop(builder.push_leaf(chunk)));
        builder.finish().0
    }
}
