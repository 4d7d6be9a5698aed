//! Layers as bytes: a folder becomes a tar, a tar becomes a gzip, and a stored layer is measured.
//!
//! Each step gives the same bytes for the same input on every machine, so that a digest can be
//! reproduced by anyone who has the folder:
//!
//! ```text
//! folder ──pack──▶ tar ──GzipWriter──▶ tar.gz ──LayerInspector──▶ digest, diff id, size, compression
//! ```
//!
//! Everything here is synchronous: callers in an async context use `spawn_blocking`.

pub mod folder;
pub mod gzip;
pub mod inspect;

#[cfg(test)]
mod tests;
