//! Bytes as a UnixFS DAG and back. Blocks are known here and in the node, nowhere else.

mod build;
mod changes;
mod chunked;
mod difference;
mod directory;
mod document;
mod fetch;
mod hamt;
mod new_chunks;
mod nodes;
mod read;
mod resolve;
mod shard;
mod unixfs;

#[cfg(test)]
mod tests;

pub use build::{Builder, Profile, Root};
pub use changes::Changes;
pub use chunked::{Edit, Edited, EntryFormat, EntryKey};
pub use difference::{Difference, differences};
pub use directory::{Changed, find, names_in};
pub use document::Document;
pub use fetch::DagFetcher;
pub use new_chunks::new_chunks;
pub use nodes::Nodes;
pub use read::{FileParts, WINDOW};
pub use resolve::{resolve, walk};
pub use unixfs::{Child, DAG_PB, DagNode, RAW, leaf_frame};
