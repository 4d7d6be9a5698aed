//! Reads the modules of the workspace and their imports, so that a test can hold the structure.

mod imports;
mod tree;

pub use imports::Function;
pub use tree::{Crate, Module};
