//! Following: which names a node follows, what of them is complete here, and how it is fetched.
//!
//! ```text
//! adopt (a push takes over followed content) ─► followed (its rows, and reads of it) ◄─ prefetch (fetches roots)
//! ```

mod adopt;
mod catalog;
pub mod followed;
mod policy;
pub mod prefetch;

pub use policy::Prefetch;
