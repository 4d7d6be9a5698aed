//! A file of many entries in the order of their keys, cut where its entries say so: where one entry changes, so do one
//! chunk and the nodes above it, and no others are read or written.
//!
//! ```text
//! EntryFormat ──► leaf (a chunk as its entries, and back)
//!             └─► edit (opens the nodes that change, cuts them again until a cut is where one was, level by level)
//! ```

mod edit;
mod leaf;

#[cfg(test)]
mod tests;

use std::io::Cursor;

use bytes::Bytes;
use ocipfs_block::{Block, Cid};

use super::{
    document::Document,
    profile::{Profile, Root},
    replaced::replaced,
};
use crate::Error;
use edit::ChunkEditor;

/// A shorter chunk goes on, so that a small file is one block.
const MIN_CHUNK_BYTES: usize = 4 << 10;
/// A longer one ends.
const MAX_CHUNK_BYTES: usize = 16 << 10;
/// After one of so many entries, or nodes, there is a cut.
const CUT_EVERY: u32 = 32;
/// Links of a node of which none says that it is cut.
const MAX_LINKS: usize = 128;

/// Where an entry stands: by its rank, then by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryKey {
    /// Sort order before the name: the lowest rank comes first.
    pub rank: u8,
    /// The name, which decides whether there is a cut after the entry.
    pub name: String,
}

/// Reads the entry that some bytes begin with: its key, and its length.
pub type ReadEntry = fn(&[u8]) -> Result<(EntryKey, usize), String>;

/// How entries are written into a file, and read from it.
#[derive(Clone, Debug)]
pub struct EntryFormat {
    /// Text before the first entry.
    pub begin: &'static str,
    /// Text between two entries.
    pub between: &'static str,
    /// Text after the last entry; no entry begins with it.
    pub end: &'static str,
    /// Reads an entry.
    pub read: ReadEntry,
}

/// Change of the entry of a key: its new bytes, or none to remove it.
pub type Edit = (EntryKey, Option<Vec<u8>>);

/// A file that was made of another, and the nodes that make the difference.
#[derive(Clone, Debug)]
pub struct Edited {
    /// The root of the file before.
    pub before: Cid,
    /// The root of the file.
    pub root: Root,
    /// Nodes that the file before did not have.
    pub added: Vec<Block>,
    /// Nodes that only the file before had.
    pub removed: Vec<Cid>,
    /// How many entries there are more than before.
    pub entry_change: isize,
}

impl EntryFormat {
    /// Writes a file of these entries, which are in order.
    ///
    /// # Errors
    /// Never fails.
    pub fn write(
        &self,
        profile: Profile,
        entries: impl IntoIterator<Item = (EntryKey, Vec<u8>)>,
    ) -> Result<Document, Error> {
        let missing = |cid: &Cid| Err(Error::Missing(*cid));
        let mut editor = ChunkEditor::new(self, profile, &missing);
        let root = editor.write(entries)?;
        Ok(Document { root, blocks: editor.added })
    }

    /// Makes what `write` would make of the entries of a file that it wrote, after `edits`, which are in order. Reads and
    /// writes only a few nodes of each level for each edit.
    ///
    /// # Errors
    /// Fails where a node cannot be read, or where the file was not written here.
    pub fn edit<E: From<Error>>(
        &self,
        profile: Profile,
        before: Cid,
        edits: &[Edit],
        read: &dyn Fn(&Cid) -> Result<Bytes, E>,
    ) -> Result<Edited, E> {
        let mut editor = ChunkEditor::new(self, profile, read);
        let root = editor.edit(before, edits)?;
        let (added, removed) = replaced(editor.removed, editor.added);
        Ok(Edited { before, root, added, removed, entry_change: editor.entry_change })
    }
}

fn is_cut(name: &[u8]) -> bool {
    // Reading from memory cannot fail.
    murmur3::murmur3_32(&mut Cursor::new(name), 0).unwrap_or_default().is_multiple_of(CUT_EVERY)
}
