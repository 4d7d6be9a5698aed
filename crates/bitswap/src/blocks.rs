//! The block store that this node serves from.

use std::io;

use bytes::Bytes;

use crate::Cid;

/// A block store. Calls may read the disk; the node makes them on blocking threads.
pub trait Blocks: Send + Sync + 'static {
    /// Returns the length of a stored block.
    fn size(&self, cid: &Cid) -> io::Result<Option<u64>>;

    /// Returns the bytes of a stored block.
    fn get(&self, cid: &Cid) -> io::Result<Option<Bytes>>;

    /// Returns the root of a stored file whose bytes would be `raw` if they were one block: for peers that know only the hash of
    /// the bytes.
    fn file_of(&self, _raw: &Cid) -> io::Result<Option<Cid>> {
        Ok(None)
    }

    /// Returns the block that a peer will request after this one, if known: it may be sent along unsolicited.
    fn next(&self, _cid: &Cid, _block: &Bytes) -> Option<Cid> {
        None
    }
}
