//! The swarm of ocipfs: one libp2p peer that fetches blocks, serves them, announces what it has
//! and finds who else has it.
//!
//! ```text
//! Node ── Session ──► exchange ──► bitswap (engine ◄─ verify ◄─ handler) ──► peers
//!   │                    └──────► routing (Kademlia)  ──► providers, dialled
//!   ├── arrived ─────► bitswap (server ─► Blocks, a store it does not know)
//!   ├── announce ────► announcer ──► routing
//!   ├── publish, resolve ─► names (IPNS, DNSLink) ──► routing, connected peers, DNS
//!   └── peers, connect ─► peers (table, redial with back-off)
//! ```
//!
//! `routing` holds what peers told this node of the routing system: bounded, verified, kept over a restart.
//! It knows CIDs, blocks and peers; digests and images are the business of the layers above.

#![warn(missing_docs)]

mod address;
mod announcer;
mod behaviour;
pub mod bitswap;
mod blocks;
pub mod database;
mod error;
mod exchange;
mod handshakes;
mod hash;
mod identity;
mod names;
mod network;
mod node;
mod options;
mod peers;
mod routing;
mod swarm;
mod swarm_key;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use announcer::Announcing;
pub use bitswap::{BlockMemory, Fetched, Traffic};
pub use blocks::{Block, Blocks};
pub use cid::Cid;
pub use error::Error;
pub use exchange::Session;
pub use hash::{is_block, is_trusted_cid};
pub use identity::write_secret;
pub use libp2p::{Multiaddr, PeerId, identity::Keypair};
pub use names::{Domain, Head, Name, NotAName, Pointer, Published, Resolved};
pub use network::leave_network;
pub use node::Node;
pub use options::{Bootstrap, Dns, Limits, Options};
pub use peers::Peer;
pub use swarm_key::SwarmKey;

/// Locks what stays right where a thread panicked while it held it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
