//! The size from which a directory is sharded, as Kubo computes it.

use std::collections::BTreeMap;

use ocipfs_block::varint;

use crate::{
    data,
    profile::{Profile, Root},
};

/// Beyond this size a directory is sharded.
const MAX_DIRECTORY_BYTES: usize = 256 << 10;

/// The entries of a directory, by name.
pub type Entries = BTreeMap<String, Root>;

impl Profile {
    /// Returns what an entry adds to the size that decides whether a directory is sharded.
    pub(super) fn weight(self, name: &str, root: &Root) -> usize {
        let cid = root.cid.encoded_len();
        match self {
            // An estimate by names and links.
            Self::Legacy => name.len() + cid,
            // The bytes of the block: hash, name and size, each behind a tag, in a message of its own.
            Self::UnixfsV1 => {
                let chunk = |length: usize| 1 + varint::len(length as u64) + length;
                chunk(chunk(cid) + chunk(name.len()) + 1 + varint::len(root.dag_size))
            }
        }
    }

    /// Returns whether a directory of these entries fits into one block.
    pub(super) fn is_plain(self, entries: &Entries) -> bool {
        let frame = match self {
            Self::Legacy => 0,
            Self::UnixfsV1 => 2 + data::directory_data().len(),
        };
        frame + entries.iter().map(|(name, root)| self.weight(name, root)).sum::<usize>()
            <= MAX_DIRECTORY_BYTES
    }
}
