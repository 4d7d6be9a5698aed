use ocipfs_node::Block;
use ocipfs_unixfs::{Builder, Root};

use crate::content::{
    Profile,
    store::{BlobLayout, Leaf},
};

/// Cuts pieces into leaves, and builds the tree above them.
pub struct Chunker {
    profile: Profile,
    builder: Builder,
    leaves: Vec<Leaf>,
    nodes: Vec<Block>,
    offset: u64,
}

impl Chunker {
    pub fn new(profile: Profile) -> Self {
        Self { profile, builder: Builder::new(profile), leaves: vec![], nodes: vec![], offset: 0 }
    }

    pub fn push(&mut self, piece: &[u8]) {
        for chunk in piece.chunks(self.profile.chunk()) {
            let (cid, finished) = self.builder.push_leaf(chunk);
            self.leaves.push(Leaf { cid, offset: self.offset, length: chunk.len() as u64 });
            self.nodes.extend(finished);
            self.offset += chunk.len() as u64;
        }
    }

    pub fn finish(mut self) -> (Root, BlobLayout) {
        let (root, last) = self.builder.finish();
        self.nodes.extend(last);
        (root, BlobLayout { root: root.cid, leaves: self.leaves, nodes: self.nodes })
    }
}
