//! The layer manifest of ocipfs and the one-layer image that is synthesised from it.
//!
//! The image's bytes must stay as they are for ever: their digest is what people pin.

pub mod add;
mod image;
mod manifest;

pub use image::Image;
pub use manifest::{Error, LayerManifest, MAX_BYTES};
