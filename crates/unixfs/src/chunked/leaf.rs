//! A chunk as the entries in it.

use std::collections::BTreeMap;

use super::{EntryFormat, EntryKey, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES, is_cut};

/// Item of a chunk.
pub enum LeafItem {
    /// Text before the first entry.
    Begin,
    /// An entry.
    Entry(EntryKey, Vec<u8>),
    /// Text after the last entry.
    End,
}

/// The entries of a chunk, by their keys.
#[derive(Default)]
pub struct ChunkLeaf {
    is_first: bool,
    pub entries: BTreeMap<EntryKey, Vec<u8>>,
    is_last: bool,
}

impl ChunkLeaf {
    pub fn into_items(self) -> impl DoubleEndedIterator<Item = LeafItem> {
        let begin = self.is_first.then_some(LeafItem::Begin);
        let end = self.is_last.then_some(LeafItem::End);
        let entries = self.entries.into_iter().map(|(key, bytes)| LeafItem::Entry(key, bytes));
        begin.into_iter().chain(entries).chain(end)
    }
}

impl EntryFormat {
    /// Reads a chunk.
    pub(super) fn leaf(&self, text: &[u8]) -> Result<ChunkLeaf, String> {
        let mut leaf = ChunkLeaf::default();
        let mut rest = text;
        if let Some(after) = rest.strip_prefix(self.begin.as_bytes()) {
            (leaf.is_first, rest) = (true, after);
        }
        while !rest.is_empty() && rest != self.end.as_bytes() {
            let (key, entry, after) = self.entry(rest)?;
            leaf.entries.insert(key, entry.to_vec());
            rest = after;
        }
        leaf.is_last = !rest.is_empty();
        Ok(leaf)
    }

    /// Reads the key that a chunk begins with, which is not the first of the file; none where the file ends before an entry.
    pub(super) fn first_key(&self, text: &[u8]) -> Result<Option<EntryKey>, String> {
        if text == self.end.as_bytes() { Ok(None) } else { self.entry(text).map(|(key, ..)| Some(key)) }
    }

    fn entry<'b>(&self, text: &'b [u8]) -> Result<(EntryKey, &'b [u8], &'b [u8]), String> {
        let text = text.strip_prefix(self.between.as_bytes()).unwrap_or(text);
        let (key, length) = (self.read)(text)?;
        let (entry, after) = text.split_at_checked(length).ok_or("entry extends past its chunk")?;
        Ok((key, entry, after))
    }
}

/// A chunk while it is written.
pub struct Chunk<'a> {
    format: &'a EntryFormat,
    bytes: Vec<u8>,
    /// Whether no entry of the file came yet.
    is_first: bool,
}

impl<'a> Chunk<'a> {
    pub fn new(format: &'a EntryFormat) -> Self {
        Self { format, bytes: Vec::new(), is_first: false }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds an item; says whether there is a cut after it, which an entry's name and what is before it in the chunk decide.
    pub fn add(&mut self, item: LeafItem) -> bool {
        let (key, entry) = match item {
            LeafItem::Begin => {
                self.bytes.extend_from_slice(self.format.begin.as_bytes());
                self.is_first = true;
                return false;
            }
            LeafItem::Entry(key, entry) => (key, entry),
            LeafItem::End => {
                self.bytes.extend_from_slice(self.format.end.as_bytes());
                return false;
            }
        };
        if !std::mem::take(&mut self.is_first) {
            self.bytes.extend_from_slice(self.format.between.as_bytes());
        }
        self.bytes.extend_from_slice(&entry);
        let length = self.bytes.len();
        length >= MAX_CHUNK_BYTES || length >= MIN_CHUNK_BYTES && is_cut(key.name.as_bytes())
    }

    /// Takes the bytes, to go on with the chunk after it.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}
