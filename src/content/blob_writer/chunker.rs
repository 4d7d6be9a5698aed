use multihash_codetable::Code;
use ocipfs_node::{Block, Cid};
use ocipfs_oci::{Digest, PartHasher};
use ocipfs_unixfs::{Builder, Chunker, Chunks, DagOptions, Root};

use crate::content::{
    Profile,
    store::{BlobLayout, Leaf, whole_cid},
};

/// How the DAG of a file is made of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileOptions {
    /// Where the chunks end.
    pub chunker: Chunker,
    /// How the nodes are written.
    pub dag: DagOptions,
}

impl From<Profile> for FileOptions {
    fn from(profile: Profile) -> Self {
        Self { chunker: Chunker::Size(profile.chunk()), dag: profile.options() }
    }
}

impl FileOptions {
    /// Whether one pass over the bytes hashes the leaves and the whole: leaves are their bytes alone, and end where blocks of
    /// sha256 do.
    pub fn hashes_whole(&self) -> bool {
        let DagOptions { raw_leaves, hash, inline, .. } = self.dag;
        let is_plain = raw_leaves && hash == Code::Sha2_256 && inline.is_none();
        is_plain && matches!(self.chunker, Chunker::Size(bytes) if PartHasher::is_fast(bytes))
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
    /// Hashes the leaves and the whole; absent where the builder hashes the leaves.
    whole: Option<PartHasher>,
}

impl DagChunker {
    pub fn new(options: FileOptions) -> Self {
        let (builder, has_metadata) = (Builder::new(options.dag), !options.dag.metadata.is_empty());
        let tree = LeafTree { builder, leaves: vec![], nodes: vec![], offset: 0, has_metadata, whole: None };
        Self { chunks: Chunks::new(options.chunker), tree }
    }

    /// Hashes the whole, too, where the options allow it in one pass.
    pub fn with_whole(options: FileOptions) -> Self {
        let mut chunker = Self::new(options);
        chunker.tree.whole = options.hashes_whole().then(PartHasher::default);
        chunker
    }

    pub fn push(&mut self, piece: &[u8]) {
        let Self { chunks, tree } = self;
        chunks.push(piece, |chunk| tree.push(chunk));
    }

    /// Returns the root, the blocks, and the digest of the whole where it was hashed.
    pub fn finish(self) -> (Root, BlobLayout, Option<Digest>) {
        let Self { chunks, mut tree } = self;
        chunks.finish(|chunk| tree.push(chunk));
        let (root, last) = tree.builder.finish();
        // With metadata the only leaf is a block of its own, not a window of the file.
        if tree.has_metadata && tree.leaves.len() == 1 {
            tree.leaves.clear();
        }
        tree.nodes.extend(last);
        let layout = BlobLayout { root: root.cid, leaves: tree.leaves, nodes: tree.nodes };
        (root, layout, tree.whole.map(PartHasher::finish))
    }
}

impl LeafTree {
    fn push(&mut self, chunk: &[u8]) {
        let (cid, finished) = self.hashed(chunk);
        self.leaves.push(Leaf { cid, offset: self.offset, length: chunk.len() as u64 });
        self.nodes.extend(finished);
        self.offset += chunk.len() as u64;
    }

    /// Hashes a leaf and adds it to the tree. Returns its CID, and the inner nodes that are finished.
    fn hashed(&mut self, chunk: &[u8]) -> (Cid, Vec<Block>) {
        let digest = self.whole.as_mut().map(|whole| whole.part(chunk));
        let Some(cid) = digest.and_then(|digest| whole_cid(&digest)) else {
            return self.builder.push_leaf(chunk);
        };
        let size = chunk.len() as u64;
        (cid, self.builder.push_root(Root { cid, size, dag_size: size }))
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
