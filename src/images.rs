//! What is made of blobs: layers as bytes, layer manifests, and the images synthesised from them.

pub mod layer;
pub mod pack;
