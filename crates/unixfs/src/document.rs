use bytes::Bytes;
use ocipfs_block::Block;

use super::{
    build::Builder,
    profile::{Profile, Root},
};

/// Small file together with its blocks: a layer manifest or a directory.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its root.
    pub root: Root,
    /// Its blocks.
    pub blocks: Vec<Block>,
}

impl Document {
    /// A file of these bytes.
    pub fn file(bytes: Bytes, profile: Profile) -> Self {
        let mut builder = Builder::new(profile);
        let mut rest = bytes;
        let mut blocks = Vec::new();
        while !rest.is_empty() {
            blocks.extend(builder.push(rest.split_to(rest.len().min(profile.chunk()))));
        }
        let (root, last) = builder.finish();
        blocks.extend(last);
        Self { root, blocks }
    }

    /// A directory of one file, so that its name travels with it.
    pub fn directory(name: &str, file: &Root, profile: Profile) -> Self {
        let (root, block) = profile.directory(name, file);
        Self { root, blocks: vec![block] }
    }
}
