//! The UnixFS codec: bytes and directories become the blocks of a DAG, and blocks become files and directories again.
//!
//! ```text
//!   directory      Changes, Changed     a tree of directories, changed along the way to what changes
//!     ├─ editor ◄─► shard               (a directory that is split by hash)
//!   chunked        EntryFormat, Edited  a file of sorted entries, cut between them
//!      │
//!   path           CidPath              a CID and the names below it
//!   document       Document             a small file with its blocks
//!   build          Builder              a file from its chunks
//!   chunker        Chunker, Chunks      where chunks end
//!      │
//!   profile        Profile, Root        the parameters that settings choose from
//!   dag_options    DagOptions           the parameters of nodes, and the blocks that follow from them
//!   dag_node       DagNode              a decoded block
//!   inline                              links to blocks that their CIDs carry
//!   metadata                            modes and times, which roots have
//!   data, hamt                          the `Data` message; the slots of names in a sharded directory
//!   links, dag_cbor                     what any block links to, also one that is not of UnixFS
//! ```
//!
//! Everything is pure: blocks go in and come out as values, and code that needs a block of an existing DAG takes a
//! function that reads it. Blocks and CIDs equal those that Kubo writes for the same bytes and options.

#![warn(missing_docs)]

mod build;
mod chunked;
mod chunker;
mod dag_cbor;
mod dag_node;
mod dag_options;
mod data;
mod directory;
mod document;
mod error;
pub mod hamt;
mod inline;
mod links;
mod metadata;
mod path;
mod profile;
mod replaced;
mod root;

#[cfg(test)]
mod tests;

pub use build::Builder;
pub use chunked::{Edit, Edited, EntryFormat, EntryKey, ReadEntry};
pub use chunker::{Chunker, Chunks, MAX_CHUNK_BYTES, RabinSizes};
pub use dag_cbor::{CborTarget, DAG_CBOR, cbor_resolve, dag_json};
pub use dag_node::{Child, DAG_PB, DagNode, RAW};
pub use dag_options::{DagOptions, DirectorySize, hash_function};
pub use data::leaf_frame;
pub use directory::{Changed, Changes, Entries, entry_names, lookup};
pub use document::Document;
pub use error::Error;
pub use inline::inlined;
pub use links::{Fields, Link, links, metadata, symlink_target};
pub use metadata::Metadata;
pub use multihash_codetable::Code as HashFunction;
pub use ocipfs_block::{Block, Cid};
pub use path::{CidPath, PathError};
pub use profile::{Profile, Root};
