//! The layer manifest of ocipfs and the image that is synthesised from it: of one layer, of several, or for several
//! platforms. `docs/layer-manifest.md` has the format.
//!
//! The image's bytes must never change: people pin their digest.

pub mod add;
mod document;
pub mod file;
mod image;
mod index;
pub mod join;
mod manifest;
#[cfg(test)]
mod tests;

pub use document::LayerDocument;
pub use file::LayerFile;
pub use image::Image;
pub use index::ImageIndex;
pub use manifest::{Error, Layer, LayerManifest, MAX_BYTES};
