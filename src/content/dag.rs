//! Bytes as a UnixFS DAG and back. Blocks are known here and in the node, nowhere else.

mod build;
mod directory;
mod fetch;
mod hamt;
mod resolve;
mod unixfs;

#[cfg(test)]
mod tests;

pub use build::{Builder, Profile, Root};
pub use fetch::Fetcher;
pub use resolve::{resolve, walk};
pub use unixfs::{Child, DAG_PB, RAW, Unit, leaf_frame};
