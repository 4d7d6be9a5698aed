//! Which links of a block a CAR follows.

use std::ops::Range;

use bytes::Bytes;
use ocipfs_node::{Block, Cid, inline_bytes};
use ocipfs_unixfs::{DagNode, inlined, links};

use crate::content::Error;

/// The part of a DAG that is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CarScope {
    /// The block at the end of the path.
    Block,
    /// The file or the listing of the directory at the end of the path; of a file only these bytes.
    Entity(ByteSpan),
    /// The whole DAG below.
    All,
}

/// The bytes of a file as `entity-bytes` states them: from and to a position, both inclusive. Negative positions count from
/// the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSpan {
    /// The first byte.
    pub from: i64,
    /// The last byte; none means the end.
    pub to: Option<i64>,
}

impl ByteSpan {
    /// All bytes of a file.
    pub const WHOLE: Self = Self { from: 0, to: None };

    /// Returns the bytes of this span in a file of `size` bytes, which may be none.
    ///
    /// # Errors
    /// Fails if the span begins behind the end of the file, or ends before its start.
    pub fn resolve(self, size: u64) -> Result<Range<u64>, OutsideOfFile> {
        let from_end = |back: i64| size.checked_sub(back.unsigned_abs());
        let start = if self.from < 0 { from_end(self.from).unwrap_or(0) } else { self.from as u64 };
        let end = match self.to {
            None => size,
            Some(last) if last < 0 => from_end(last).map(|last| last + 1).ok_or(OutsideOfFile { size })?,
            Some(last) => size.min(last as u64 + 1),
        };
        // An empty file has no byte that a span could miss.
        if start >= size && start > 0 {
            return Err(OutsideOfFile { size });
        }
        Ok(start..end.max(start))
    }
}

/// A span has no byte of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("outside of the file, which has {size} bytes")]
pub struct OutsideOfFile {
    size: u64,
}

/// A block that a CAR is to contain, and what it is to contain below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub cid: Cid,
    pub below: Below,
}

/// What a CAR is to contain below a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Below {
    /// Nothing.
    Nothing,
    /// The whole DAG.
    All,
    /// The rest of a directory's listing.
    Listing,
    /// These bytes of a file, counted from the start of the block's part of it.
    Bytes(Range<u64>),
}

impl Below {
    /// Returns what a scope means for the block at the end of a path.
    pub fn of(scope: CarScope, cid: &Cid, block: &Bytes) -> Result<Self, OutsideOfFile> {
        let span = match scope {
            CarScope::Block => return Ok(Self::Nothing),
            CarScope::All => return Ok(Self::All),
            CarScope::Entity(span) => span,
        };
        Ok(match DagNode::decode(cid, block.clone()) {
            Ok(DagNode::File { .. }) if span == ByteSpan::WHOLE => Self::All,
            Ok(file @ DagNode::File { .. }) => Self::Bytes(span.resolve(file.size())?),
            Ok(DagNode::Shard { .. }) => Self::Listing,
            Ok(DagNode::Directory(_) | DagNode::Symlink) | Err(_) => Self::Nothing,
        })
    }

    /// Returns the blocks to follow a block, in their order. In place of a block that a CID carries come those below it: a
    /// CAR contains none that its reader has.
    pub fn follow(&self, cid: &Cid, block: &Bytes) -> Result<Vec<Wanted>, Error> {
        let linked = self.linked(cid, block)?;
        let carried = if linked.is_empty() { Vec::new() } else { inlined(cid, block) };
        let mut all = Vec::with_capacity(linked.len());
        for wanted in linked {
            match carried_block(&wanted.cid, &carried) {
                None => all.push(wanted),
                Some(data) => all.extend(wanted.below.follow(&wanted.cid, &data)?),
            }
        }
        Ok(all)
    }

    fn linked(&self, cid: &Cid, block: &Bytes) -> Result<Vec<Wanted>, Error> {
        let node = || DagNode::decode(cid, block.clone());
        Ok(match self {
            Self::Nothing => Vec::new(),
            Self::All => {
                let links = links(cid, block.clone())?;
                links.into_iter().map(|cid| Wanted { cid, below: Self::All }).collect()
            }
            Self::Listing => match node()? {
                DagNode::Shard { width, links, .. } => {
                    let deeper = links.into_iter().filter(|(name, _)| name.len() == width);
                    deeper.map(|(_, cid)| Wanted { cid, below: Self::Listing }).collect()
                }
                _ => Vec::new(),
            },
            Self::Bytes(range) => match node()? {
                DagNode::File { data, children } => {
                    let mut start = data.len() as u64;
                    let mut wanted = Vec::new();
                    for child in children {
                        let end = start.saturating_add(child.size);
                        if start < range.end && range.start < end {
                            let below =
                                range.start.saturating_sub(start)..range.end.min(end).saturating_sub(start);
                            wanted.push(Wanted { cid: child.cid, below: Self::Bytes(below) });
                        }
                        start = end;
                    }
                    wanted
                }
                _ => Vec::new(),
            },
        })
    }
}

fn carried_block(cid: &Cid, carried: &[Block]) -> Option<Bytes> {
    if let Some(bytes) = inline_bytes(cid) {
        return Some(Bytes::copy_from_slice(bytes));
    }
    carried.iter().find(|block| block.cid == *cid).map(|block| block.data.clone())
}
