//! Layers as bytes: a folder becomes a tar, a tar becomes a gzip, and a stored layer is measured.
//!
//! Each step gives the same bytes for the same input on every machine, so that a digest can be
//! reproduced by anyone who has the folder:
//!
//! ```text
//! folder ──pack──▶ tar ──GzipWriter──▶ tar.gz ──LayerInspector──▶ digest, diff id, size, compression
//!                   └────estargz─────▶ tar.gz that is mounted before all of it is here
//! ```
//!
//! Everything here is synchronous: callers in an async context use `spawn_blocking`.

pub mod estargz;
pub mod folder;
pub mod gzip;
pub mod inspect;

#[cfg(test)]
mod tests;

/// The unit of a tar.
const BLOCK: usize = 512;
const ZEROS: [u8; BLOCK] = [0; BLOCK];
/// Two blocks of zeros end an archive.
const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// The zeros that follow `size` bytes up to the next block.
fn padding(size: u64) -> &'static [u8] {
    let used = (size % BLOCK as u64) as usize;
    &ZEROS[..(BLOCK - used) % BLOCK]
}
