//! The swarm of ocipfs: one libp2p peer that fetches, serves and announces blocks, and finds their providers.
//!
//! ```text
//! Node ── BlockFetcher ► block_fetcher ──► bitswap (client ◄─ verify ◄─ handler) ──► peers
//!   │                       └───────► routing (Kademlia) ──► providers, dialled, or asked over HTTP (http_providers)
//!   ├── arrived ──────────► bitswap (server ─► Blocks, the block store)
//!   ├── announce ─────────► announcer ──► routing
//!   ├── publish, resolve ─► ipns (records, DNSLink) ──► routing, connected peers, DNS
//!   └── peers, connect ───► peers (table, redial with back-off)
//! ```
//!
//! `routing` holds the records of the routing system that peers sent: bounded, verified, kept over a restart.
//! The crate knows CIDs, blocks and peers; digests and images belong to the layers above.

#![warn(missing_docs)]

mod address;
mod announcer;
mod behaviour;
mod block_fetcher;
mod circuits;
mod command;
mod cryptography;
pub mod database;
mod dns;
mod error;
mod handshakes;
mod http_providers;
mod identity;
mod ipns;
mod mdns;
mod members;
mod messages;
mod mutable_name;
mod network;
#[cfg(test)]
mod no_blocks;
mod node;
mod online;
mod options;
mod peers;
mod reachability;
mod relay_service;
mod routing;
mod swarm;
mod swarm_key;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use announcer::Announcing;
pub use bitswap::{BlockMemory, Blocks, FetchedBlock, Rates, Traffic};
pub use block_fetcher::BlockFetcher;
pub use circuits::Route;
pub use cryptography::install_cryptography;
pub use error::{
    AdminError, ConnectError, DnsFailure, FetchError, KeyError, KeyFileCause, KeyFileError, NoPeerId,
    RecordError, ResolveError, StartError, Stopped,
};
pub use http_providers::{HttpEndpoint, InvalidEndpoint};
pub use identity::write_secret;
pub use ipns::{CarriedRecord, FollowedRecord, Published, Resolved, SignedRecord};
pub use libp2p::{Multiaddr, PeerId, identity::Keypair};
pub use members::{
    AdmissionList, ToldList, expect_list as expect_admission_list, succeeds as swarm_key_succeeds,
};
pub use mutable_name::{Domain, InvalidName, IpnsName, MutableName};
pub use network::leave_network;
pub use node::{Node, Rekeyed};
use ocipfs_bitswap as bitswap;
pub use ocipfs_block::{
    Block, Cid, CidBase, as_v1, car, inline_bytes, inline_text, is_block, is_trusted_cid, long_inline_text,
};
pub use options::{Bootstrap, Dns, Limits, Options, RoutedProvider, Router};
pub use peers::{ClockDifference, Peer, Seeds};
pub use reachability::Reachability;
pub use routing::ipns::Error as InvalidRecord;
pub use swarm_key::{Error as InvalidSwarmKey, SwarmKey};

/// Locks data that stays valid if a thread panics while it holds the lock.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
