//! The size from which a directory is sharded, as Kubo computes it.

use std::collections::BTreeMap;

use ocipfs_block::varint;

use crate::{
    dag_options::{DagOptions, DirectorySize},
    data,
    profile::Root,
};

/// Beyond this size a directory is sharded.
const MAX_DIRECTORY_BYTES: usize = 256 << 10;

/// The entries of a directory, by name.
pub type Entries = BTreeMap<String, Root>;

impl DagOptions {
    /// Returns what an entry adds to the size that decides whether a directory is sharded.
    pub(super) fn weight(&self, name: &str, root: &Root) -> usize {
        let cid = root.cid.encoded_len();
        match self.directory_size {
            // An estimate by names and links.
            DirectorySize::Links => name.len() + cid,
            // The bytes of the block: hash, name and size, each behind a tag, in a message of its own.
            DirectorySize::Block => {
                let chunk = |length: usize| 1 + varint::len(length as u64) + length;
                chunk(chunk(cid) + chunk(name.len()) + 1 + varint::len(root.dag_size))
            }
        }
    }

    /// Returns whether a directory of these entries fits into one block.
    pub(super) fn is_plain(&self, entries: &Entries) -> bool {
        let frame = match self.directory_size {
            DirectorySize::Links => 0,
            DirectorySize::Block => 2 + data::directory_data().len(),
        };
        frame + entries.iter().map(|(name, root)| self.weight(name, root)).sum::<usize>()
            <= MAX_DIRECTORY_BYTES
    }
}
