//! Following: which names a node follows, what of them is complete here, and how it is fetched.
//!
//! ```text
//! node: records ─► prefetch (fetches roots) ─► followed (complete versions, retained) ─► followed/search (a client's read)
//!                                                 ▲ adopt (a push takes over followed content)
//! ```

mod adopt;
mod catalog;
pub mod followed;
mod policy;
pub mod prefetch;

pub use policy::Prefetch;
