//! Reading DAGs whose blocks are in the store or come from peers.
//!
//! ```text
//! resolve                   ──► DagFetcher ──► store, else one block after the other from peers
//! FileParts, differences,   ──► Nodes      ──► store, else many blocks at once
//! new_chunks
//! ```

mod dag_fetcher;
mod difference;
mod file_parts;
mod new_chunks;
mod nodes;
mod path_walk;
#[cfg(test)]
mod tests;

pub use dag_fetcher::DagFetcher;
pub use difference::{Difference, differences};
pub use file_parts::{FileParts, WINDOW};
pub use new_chunks::new_chunks;
pub use nodes::Nodes;
pub use path_walk::{PathWalk, StoredWalk, WalkEnd};
