//! The layer manifest of ocipfs and the image that is synthesised from it: of one layer, of several, or for several
//! platforms. `docs/layer-manifest.md` has the format.
//!
//! The image's bytes must stay as they are for ever: their digest is what people pin.

pub mod add;
mod document;
mod image;
mod index;
pub mod join;
mod manifest;
#[cfg(test)]
mod tests;

pub use document::LayerDocument;
pub use image::Image;
pub use index::Index;
pub use manifest::{Error, Layer, LayerManifest, MAX_BYTES};
