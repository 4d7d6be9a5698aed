//! Bytes as a UnixFS DAG and back. Blocks are known here and in the node, nowhere else.

mod build;
mod chunked;
mod dag_node;
mod data;
mod difference;
mod directory;
mod document;
mod fetch;
mod hamt;
mod new_chunks;
mod nodes;
mod profile;
mod read;
mod replaced;
mod resolve;

#[cfg(test)]
mod tests;

pub use build::Builder;
pub use chunked::{Edit, Edited, EntryFormat, EntryKey};
pub use dag_node::{Child, DAG_PB, DagNode, RAW};
pub use data::leaf_frame;
pub use difference::{Difference, differences};
pub use directory::{Changed, Changes, entry_names, lookup};
pub use document::Document;
pub use fetch::DagFetcher;
pub use new_chunks::new_chunks;
pub use nodes::Nodes;
pub use profile::{Profile, Root};
pub use read::{FileParts, WINDOW};
pub use resolve::{resolve, walk};
