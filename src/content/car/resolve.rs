//! Paths by the blocks that are here and shared; no peer is asked.

use bytes::Bytes;
use ocipfs_node::{Cid, inline_bytes};
use ocipfs_unixfs::{
    DagNode,
    hamt::{Bits, Slot},
    inlined,
};

use super::{
    CarRoom, CarScope, SharedBlock,
    below::{Below, OutsideOfFile, Wanted},
};
use crate::content::{CidPath, Content, Error};

/// What following a path found.
pub enum ResolvedPath {
    /// Its end.
    Found(SharedPath),
    /// A block of it is not here, or not shared.
    Absent,
    /// A file that has none of the requested bytes.
    Outside(OutsideOfFile),
    /// The room for its blocks is used up.
    Busy,
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
    room: &'a CarRoom,
    via: Vec<Cid>,
    cid: Cid,
    block: Bytes,
    /// Whether a CID carries the block.
    is_carried: bool,
}

/// Why a path is not followed on.
enum Stop {
    Absent,
    Busy,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Content {
    /// Follows a path, and finds which blocks of its end are in a scope. The current block takes `room`.
    ///
    /// # Errors
    /// Fails if a directory has no such entry.
    pub async fn resolve_shared(
        &self,
        at: &CidPath,
        scope: CarScope,
        room: &CarRoom,
    ) -> Result<ResolvedPath, Error> {
        match Follower::follow(self, room, at, scope).await {
            Ok(resolved) => Ok(resolved),
            Err(Stop::Absent) => Ok(ResolvedPath::Absent),
            Err(Stop::Busy) => Ok(ResolvedPath::Busy),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    async fn read_on_path(&self, cid: &Cid, room: &CarRoom) -> Result<Bytes, Stop> {
        match self.read_shared(&(*cid).into(), room).await? {
            SharedBlock::Here(block) => Ok(block),
            SharedBlock::Absent => Err(Stop::Absent),
            SharedBlock::Busy => Err(Stop::Busy),
        }
    }
}

impl<'a> Follower<'a> {
    async fn follow(
        content: &'a Content,
        room: &'a CarRoom,
        at: &CidPath,
        scope: CarScope,
    ) -> Result<ResolvedPath, Stop> {
        let (cid, carried) = (*at.root(), at.inline_root().map(|block| block.data));
        let carried = carried.or_else(|| carried_by(&cid));
        let is_carried = carried.is_some();
        let block = match carried {
            Some(block) => block,
            None => content.read_on_path(&cid, room).await?,
        };
        let mut follower = Self { content, room, via: Vec::new(), cid, block, is_carried };
        let mut roots = vec![cid];
        for name in at.names() {
            follower.enter(at, name).await?;
            roots.push(follower.cid);
        }
        match Below::of(scope, &follower.cid, &follower.block) {
            Ok(below) => Ok(ResolvedPath::Found(follower.end(below, roots)?)),
            Err(outside) => Ok(ResolvedPath::Outside(outside)),
        }
    }

    /// Goes to an entry of the current directory.
    async fn enter(&mut self, at: &CidPath, name: &str) -> Result<(), Stop> {
        let mut bits = Bits::of(name);
        loop {
            let node = DagNode::decode(&self.cid, self.block.clone());
            match node.map_or(Slot::Empty, |node| node.find(name, &mut bits)) {
                Slot::Entry(cid) => return self.go(cid).await,
                Slot::Deeper(cid) => self.go(cid).await?,
                Slot::Empty => return Err(Error::NoEntry { at: at.clone(), entry: name.into() }.into()),
            }
        }
    }

    /// Goes to a block that the current one links to.
    async fn go(&mut self, cid: Cid) -> Result<(), Stop> {
        let carried = inlined(&self.cid, &self.block).into_iter().find(|block| block.cid == cid);
        let carried = carried.map(|block| block.data).or_else(|| carried_by(&cid));
        if !self.is_carried {
            self.via.push(self.cid);
        }
        // A path holds the room of one block.
        self.block = Bytes::new();
        self.is_carried = carried.is_some();
        self.block = match carried {
            Some(block) => block,
            None => self.content.read_on_path(&cid, self.room).await?,
        };
        self.cid = cid;
        Ok(())
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

/// The bytes that a CID carries, as a block.
fn carried_by(cid: &Cid) -> Option<Bytes> {
    inline_bytes(cid).map(Bytes::copy_from_slice)
}
