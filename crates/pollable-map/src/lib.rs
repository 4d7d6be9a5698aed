//! Stands in for the `pollable-map` of the registry, as far as rust-ipfs and connexa use it.
//!
//! In version 0.1.7 of that crate a key that was removed from a `StreamMap` could not be inserted again.
//! rust-ipfs keeps its Bitswap sessions in one, by peer: a peer that went and came back got no session,
//! and neither side could fetch a block from the other until the process was started again.
//!
//! It goes when Bitswap is ours, or with a release of rust-ipfs that has the fix. Every poll looks at every
//! entry, which is right for maps with an entry a peer.

#![warn(missing_docs)]

mod entries;
pub mod futures;
pub mod optional;
pub mod stream;
