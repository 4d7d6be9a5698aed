//! Real IPFS peers of other projects, each a process on loopback or a task of the test.

pub mod helia;
pub mod router;
