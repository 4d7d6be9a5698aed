//! A file of many entries, cut where its entries say so: where one entry changes, so do one chunk and the nodes above it.

use std::io::Cursor;

use bytes::Bytes;
use ocipfs_node::Block;

use super::{
    build::{Profile, Root},
    document::Document,
};

/// A shorter chunk goes on, so that a small file is one block.
const SHORTEST: usize = 4 << 10;
/// A longer one ends.
const LONGEST: usize = 16 << 10;
/// After one of so many entries, or nodes, there is a cut.
const CUT_EVERY: u32 = 32;
/// Links of a node of which none says that it is cut.
const MOST_LINKS: usize = 128;

/// A file as its entries are written.
pub struct Chunked {
    profile: Profile,
    chunk: Vec<u8>,
    leaves: Vec<Root>,
    blocks: Vec<Block>,
}

fn is_cut(name: &[u8]) -> bool {
    // Reading from memory cannot fail.
    murmur3::murmur3_32(&mut Cursor::new(name), 0).unwrap_or_default().is_multiple_of(CUT_EVERY)
}

impl Chunked {
    /// An empty file.
    pub fn new(profile: Profile) -> Self {
        let (chunk, leaves, blocks) = Default::default();
        Self { profile, chunk, leaves, blocks }
    }

    /// Adds bytes that belong to the entry after them.
    pub fn write(&mut self, bytes: &[u8]) {
        self.chunk.extend_from_slice(bytes);
    }

    /// Adds an entry; whether there is a cut after it depends on `name` alone.
    pub fn entry(&mut self, name: &str, bytes: &[u8]) {
        self.write(bytes);
        let length = self.chunk.len();
        if length >= LONGEST || length >= SHORTEST && is_cut(name.as_bytes()) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let chunk = Bytes::from(std::mem::take(&mut self.chunk));
        let (root, block) = self.profile.leaf_block(chunk);
        self.leaves.push(root);
        self.blocks.push(block);
    }

    /// The file, with all of its blocks.
    pub fn finish(mut self) -> Document {
        if !self.chunk.is_empty() || self.leaves.is_empty() {
            self.cut();
        }
        let mut level = std::mem::take(&mut self.leaves);
        while level.len() > 1 {
            level = self.level_above(&level);
        }
        Document { root: level[0], blocks: self.blocks }
    }

    /// Nodes above these, each of two or more, but the last.
    fn level_above(&mut self, below: &[Root]) -> Vec<Root> {
        let (mut above, mut children) = (Vec::new(), Vec::new());
        for (n, child) in below.iter().enumerate() {
            children.push(*child);
            let is_cut =
                children.len() >= MOST_LINKS || children.len() > 1 && is_cut(&child.cid.hash().to_bytes());
            if is_cut || n + 1 == below.len() {
                let (root, block) = self.profile.file_node(&children);
                children.clear();
                self.blocks.push(block);
                above.push(root);
            }
        }
        above
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::content::dag::Unit;

    fn entry(n: usize, value: usize) -> (String, String) {
        (format!("v{n:06}"), format!("{value:0250}"))
    }

    fn file(profile: Profile, count: usize, changed: usize) -> (Document, Vec<u8>) {
        let (mut chunked, mut bytes) = (Chunked::new(profile), Vec::new());
        for n in 0..count {
            let (name, text) = entry(n, if n == changed { 1 } else { 0 });
            chunked.entry(&name, text.as_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        (chunked.finish(), bytes)
    }

    fn read(document: &Document) -> Vec<u8> {
        let (mut waiting, mut bytes) = (vec![document.root.cid], Vec::new());
        while let Some(cid) = waiting.pop() {
            let block = document.blocks.iter().find(|block| block.cid == cid).unwrap();
            let Unit::File { data, children } = Unit::decode(&cid, block.data.clone()).unwrap() else {
                panic!()
            };
            bytes.extend_from_slice(&data);
            waiting.extend(children.iter().rev().map(|child| child.cid));
        }
        bytes
    }

    /// Bytes of blocks that the one has and the other has not.
    fn difference(one: &Document, other: &Document) -> usize {
        let there: HashSet<_> = other.blocks.iter().map(|block| block.cid).collect();
        one.blocks.iter().filter(|block| !there.contains(&block.cid)).map(|block| block.data.len()).sum()
    }

    #[test]
    fn a_chunked_file_reads_as_its_entries_and_a_small_one_is_one_block() {
        for profile in [Profile::UnixfsV1, Profile::Legacy] {
            for count in [0, 1, 15, 1000] {
                let (document, bytes) = file(profile, count, usize::MAX);
                assert_eq!(read(&document), bytes);
                assert_eq!(document.root.size, bytes.len() as u64);
                if count < 16 {
                    assert_eq!(document.root.cid, Document::file(bytes.into(), profile).root.cid);
                }
            }
        }
    }

    #[test]
    fn one_changed_or_added_entry_of_many_changes_few_bytes_however_many_there_are() {
        let changed = |count: usize| {
            let (before, _) = file(Profile::UnixfsV1, count, usize::MAX);
            let worst = [0, count / 3, count / 2, count - 1].map(|n| {
                let (after, _) = file(Profile::UnixfsV1, count, n);
                difference(&after, &before)
            });
            let (longer, _) = file(Profile::UnixfsV1, count + 1, usize::MAX);
            worst.into_iter().max().unwrap().max(difference(&longer, &before))
        };
        let (few, many) = (changed(2500), changed(10_000));
        assert!(few < 32 << 10 && many < 40 << 10, "{few} of 2,500 and {many} of 10,000");
    }
}
