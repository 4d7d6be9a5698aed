//! Real IPFS peers of other projects, each a process on loopback.

pub mod helia;
