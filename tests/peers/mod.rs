//! Real IPFS peers of other projects, each a process on loopback or a task of the test.

pub mod bitswap;
pub mod boxo;
pub mod estargz;
pub mod fetch;
pub mod gossip;
pub mod helia;
pub mod hostile;
pub mod ipfs_car;
pub mod kubo;
pub mod kubo_go;
pub mod kubo_rpc;
pub mod light;
pub mod program;
pub mod router;
pub mod stargz_ipfs;
pub mod throttled;
pub mod unread;
