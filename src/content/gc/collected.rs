//! The sums of a collection.

use super::marks::Evictable;

/// The collected content, or in a dry run the content that would be collected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Stored blobs.
    pub blobs: u64,
    /// Files that had come in part.
    pub partial: u64,
    /// Blocks that were no part of a file.
    pub blocks: u64,
    /// The bytes of all of them.
    pub bytes: u64,
}

impl Collected {
    pub(super) fn of_blocks(blocks: u64, bytes: u64) -> Self {
        Self { blocks, bytes, ..Self::default() }
    }

    pub(super) fn of_files<'a>(files: impl Iterator<Item = &'a Evictable>) -> Self {
        files.fold(Self::default(), |sum, file| {
            let (blobs, partial) = (u64::from(file.is_stored), u64::from(!file.is_stored));
            sum + Self { blobs, partial, blocks: 0, bytes: file.bytes }
        })
    }
}

impl std::ops::Add for Collected {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            blobs: self.blobs + other.blobs,
            partial: self.partial + other.partial,
            blocks: self.blocks + other.blocks,
            bytes: self.bytes + other.bytes,
        }
    }
}
