//! The store that this node serves from, as little as it needs to know of it.

use std::io;

use bytes::Bytes;

use crate::Cid;

/// A block and its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The address.
    pub cid: Cid,
    /// The bytes that hash to it.
    pub data: Bytes,
}

/// Where blocks are kept. Calls may read the disk; the node makes them off its own threads.
pub trait Blocks: Send + Sync + 'static {
    /// The length of a block that is here.
    fn size(&self, cid: &Cid) -> io::Result<Option<u64>>;

    /// The bytes of a block that is here.
    fn get(&self, cid: &Cid) -> io::Result<Option<Bytes>>;

    /// The one block that whoever asks for this one will ask for next, if that is known: it may be sent along.
    fn next(&self, _cid: &Cid, _block: &Bytes) -> Option<Cid> {
        None
    }
}

/// The one name of a block whose CIDv0 and CIDv1 both lead to it.
pub(crate) fn key(cid: &Cid) -> Cid {
    Cid::new_v1(cid.codec(), *cid.hash())
}

/// A store without blocks.
#[cfg(test)]
pub(crate) struct Nothing;

#[cfg(test)]
impl Blocks for Nothing {
    fn size(&self, _: &Cid) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn get(&self, _: &Cid) -> io::Result<Option<Bytes>> {
        Ok(None)
    }
}
