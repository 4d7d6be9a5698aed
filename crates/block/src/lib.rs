//! A block and its CID: what the swarm, the UnixFS codec and the store exchange.
//!
//! ```
//! use ocipfs_block::{Block, Cid, is_block};
//!
//! let cid: Cid = "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq".parse().expect("a CID");
//! assert!(is_block(&cid, b"hello"));
//! let block = Block { cid, data: "hello".into() };
//! assert_eq!(block.data.len(), 5);
//! ```

#![warn(missing_docs)]

mod base;
pub mod car;
mod hash;
mod inline;
pub mod varint;

pub use base::{CidBase, UnknownBase};
use bytes::Bytes;
pub use cid::Cid;
pub use hash::{is_block, is_trusted, is_trusted_cid};
pub use inline::{
    InlineTooLong, MAX_INLINE_BYTES, inline_bytes, inline_cid, inline_text, long_inline, long_inline_text,
};

/// A block and its CID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The CID.
    pub cid: Cid,
    /// The bytes.
    pub data: Bytes,
}

/// Returns the CID in version 1: one key for a block that was named by a CIDv0 or a CIDv1.
pub fn as_v1(cid: &Cid) -> Cid {
    Cid::new_v1(cid.codec(), *cid.hash())
}
