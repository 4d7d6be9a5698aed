//! Paths by the blocks that are here and shared; no peer is asked.

use bytes::Bytes;
use ocipfs_node::{Cid, inline_bytes};
use ocipfs_unixfs::{
    DagNode,
    hamt::{self, Bits, Slot},
    inlined,
};

use super::{
    Scope,
    below::{Below, OutsideOfFile, Wanted},
};
use crate::content::{CidPath, Content, Error};

/// Deeper than 64 bits of hash can lead.
const MAX_SHARD_DEPTH: usize = 32;

/// What following a path found.
pub enum Resolved {
    /// Its end.
    Found(SharedPath),
    /// A block of it is not here, or not shared.
    Absent,
    /// A file that has none of the requested bytes.
    Outside(OutsideOfFile),
}

/// A path that was followed.
pub struct SharedPath {
    /// The blocks before the end, but for those that a CID carries.
    pub via: Vec<Cid>,
    /// What the root and each name lead to, the end included.
    pub roots: Vec<Cid>,
    /// What the path leads to.
    pub end: End,
}

/// The end of a path.
pub struct End {
    /// The CID of its block.
    pub cid: Cid,
    /// The blocks of it that are wanted.
    pub(super) wanted: Vec<Wanted>,
}

struct Follower<'a> {
    content: &'a Content,
    via: Vec<Cid>,
    cid: Cid,
    block: Bytes,
    /// Whether a CID carries the block.
    is_carried: bool,
}

impl Content {
    /// Follows a path, and finds which blocks of its end are in a scope.
    ///
    /// # Errors
    /// Fails if a directory has no such entry.
    pub async fn resolve_shared(&self, at: &CidPath, scope: Scope) -> Result<Resolved, Error> {
        let Some(mut follower) = Follower::start(self, at).await? else { return Ok(Resolved::Absent) };
        let mut roots = vec![follower.cid];
        for name in at.names() {
            if !follower.enter(at, name).await? {
                return Ok(Resolved::Absent);
            }
            roots.push(follower.cid);
        }
        match Below::of(scope, &follower.cid, &follower.block) {
            Ok(below) => Ok(Resolved::Found(follower.end(below, roots)?)),
            Err(outside) => Ok(Resolved::Outside(outside)),
        }
    }
}

impl<'a> Follower<'a> {
    async fn start(content: &'a Content, at: &CidPath) -> Result<Option<Self>, Error> {
        let (cid, carried) = (*at.root(), at.inline_root().map(|block| block.data));
        let carried = carried.or_else(|| inline_bytes(&cid).map(Bytes::copy_from_slice));
        let is_carried = carried.is_some();
        let block = match carried {
            Some(block) => Some(block),
            None => content.shared_block(&cid).await?,
        };
        Ok(block.map(|block| Self { content, via: Vec::new(), cid, block, is_carried }))
    }

    /// Goes to an entry of the current directory; false if a block is missing.
    async fn enter(&mut self, at: &CidPath, name: &str) -> Result<bool, Error> {
        let no_entry = || Error::NoEntry { at: at.clone(), entry: name.into() };
        let mut bits = Bits::of(name);
        for _ in 0..MAX_SHARD_DEPTH {
            // What is not UnixFS has no entries.
            match DagNode::decode(&self.cid, self.block.clone()).map_err(|_| no_entry())? {
                DagNode::Directory(links) => {
                    let entry = links.into_iter().find(|(link, _)| link == name);
                    return self.go(entry.ok_or_else(no_entry)?.1).await;
                }
                DagNode::Shard { fanout_bits, width, links } => {
                    match hamt::find(&mut bits, name, width, fanout_bits, &links) {
                        Slot::Entry(cid) => return self.go(*cid).await,
                        Slot::Deeper(cid) if !self.go(*cid).await? => return Ok(false),
                        Slot::Deeper(_) => {}
                        Slot::Empty => return Err(no_entry()),
                    }
                }
                DagNode::File { .. } | DagNode::Symlink => return Err(no_entry()),
            }
        }
        Err(no_entry())
    }

    /// Goes to a block that the current one links to; false if it is missing.
    async fn go(&mut self, cid: Cid) -> Result<bool, Error> {
        let carried = inlined(&self.cid, &self.block).into_iter().find(|block| block.cid == cid);
        let carried = carried.map(|block| block.data);
        let carried = carried.or_else(|| inline_bytes(&cid).map(Bytes::copy_from_slice));
        if !self.is_carried {
            self.via.push(self.cid);
        }
        self.is_carried = carried.is_some();
        let block = match carried {
            Some(block) => Some(block),
            None => self.content.shared_block(&cid).await?,
        };
        let Some(block) = block else { return Ok(false) };
        (self.cid, self.block) = (cid, block);
        Ok(true)
    }

    fn end(self, below: Below, roots: Vec<Cid>) -> Result<SharedPath, Error> {
        let Self { via, cid, block, is_carried, .. } = self;
        let wanted = match is_carried {
            true => below.follow(&cid, &block)?,
            false => vec![Wanted { cid, below }],
        };
        Ok(SharedPath { via, roots, end: End { cid, wanted } })
    }
}
