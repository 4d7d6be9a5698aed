//! DAGs for clients that verify blocks themselves: single blocks, and CARs. Only what is here and peers may get is read.
//!
//! ```text
//! CarStream ──► walk     the blocks of a DAG, each before those below it
//!                 ├─► below   the links that a scope follows
//!                 └─► room    the memory of all CARs
//! resolve                a path, by the blocks that are here
//! ```

mod below;
mod resolve;
mod room;
#[cfg(test)]
mod tests;
mod walk;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use ocipfs_node::car;

use super::{CidPath, Content, Error, hold};
use walk::CarWalk;

pub use below::{ByteSpan, CarScope, OutsideOfFile};
pub use resolve::{End, ResolvedPath, SharedPath};
pub use room::{Busy, CarRoom};

/// A block for a client.
pub enum SharedBlock {
    /// Its bytes.
    Here(Bytes),
    /// It is not here, or not shared.
    Absent,
    /// Its room is used up.
    Busy,
}

/// What a CAR has of a DAG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CarOptions {
    /// The part of the DAG.
    pub scope: CarScope,
    /// Whether a block is written each time that the DAG links to it.
    pub duplicates: bool,
}

impl Content {
    /// Returns the length of the block of a root, if it is here and shared.
    pub async fn shared_length(&self, root: &CidPath) -> Result<Option<u64>, Error> {
        match root.inline_root() {
            Some(block) => Ok(Some(block.data.len() as u64)),
            None => self.shared_size(root.root()).await,
        }
    }

    /// Reads the block of a root, if it is here and shared; its bytes take `room` until they are dropped.
    pub async fn read_shared(&self, root: &CidPath, room: &CarRoom) -> Result<SharedBlock, Error> {
        if let Some(block) = root.inline_root() {
            return Ok(SharedBlock::Here(block.data));
        }
        let Some(length) = self.shared_size(root.root()).await? else { return Ok(SharedBlock::Absent) };
        let Ok(taken) = room.try_take(length) else { return Ok(SharedBlock::Busy) };
        let block = self.shared_block(root.root()).await?;
        Ok(block.map_or(SharedBlock::Absent, |block| SharedBlock::Here(hold(block, taken))))
    }

    /// Begins a CAR of what a path leads to, behind the blocks of the path.
    ///
    /// # Errors
    /// Fails if there is no room.
    pub fn car(&self, path: SharedPath, options: CarOptions, room: &CarRoom) -> Result<CarStream, Busy> {
        let header = car::header(&[path.end.cid]).into();
        Ok(CarStream { header, walk: CarWalk::new(self.clone(), path, options, room)? })
    }
}

/// The bytes of a CAR.
pub struct CarStream {
    header: Bytes,
    walk: CarWalk,
}

impl CarStream {
    /// Returns the bytes as a stream, whose error is logged here: where a block is missing, the one who sends it can only break
    /// off.
    pub fn into_stream_logged(self) -> impl Stream<Item = Result<Bytes, Error>> {
        let sections = stream::unfold(Some((self.walk, None)), |state| async move {
            let (mut walk, pending): (CarWalk, Option<Bytes>) = state?;
            if let Some(block) = pending {
                return Some((Ok(block), Some((walk, None))));
            }
            match walk.next().await.transpose()? {
                Ok((cid, block)) => {
                    let head = Bytes::from(car::section(&cid, block.len()));
                    Some((Ok(head), Some((walk, Some(block)))))
                }
                Err(error) => {
                    tracing::info!("CAR broken off: {error}");
                    Some((Err(error), None))
                }
            }
        });
        stream::iter([Ok(self.header)]).chain(sections)
    }
}
