//! The light peers of the tests.

#[path = "../../../tests/peers/bitswap.rs"]
mod bitswap;
#[path = "../../../tests/peers/light.rs"]
pub mod light;
