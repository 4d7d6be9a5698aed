//! What is made of blobs: layers as bytes, layer manifests and the images synthesised from them, images in archives.

pub mod archive;
pub mod export;
pub mod import;
pub mod layer;
pub mod pack;
