//! A simulated swarm: real clients, servers, sessions and ledgers on modelled links, under a virtual clock.
//!
//! A run is repeatable: one seed decides the peers' ids, the links, the joins and departures, and each session's order.
//! [`swarm::Swarm::run`] checks on the way that no block is requested again from a peer that still owes it. Changes of
//! the scheduler are tried here first: `OCIPFS_TEST_RUNS` sets the number of random swarms.
//!
//! Not simulated: the tasks of the server and its memory, streams and stripes, and hashing.

mod links;
mod node;
mod swarm;
mod tests;

use std::time::Duration;

/// Bytes of each block.
const BLOCK_BYTES: usize = 1 << 20;
/// How the bytes of concurrent messages alternate on a link.
const CHUNK_BYTES: usize = 128 << 10;
/// Bytes that may be on the way over one connection.
const WINDOW_BYTES: usize = 4 << 20;
const TICK: Duration = Duration::from_millis(100);

/// How a peer behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Honest,
    /// Reads wants and answers nothing.
    Silent,
    /// Claims to have every block and sends none.
    Claims,
    /// Claims to have every block and sends other bytes.
    Forges,
}

/// The link of a node, in both directions.
#[derive(Clone, Copy, Debug)]
struct Link {
    /// Bytes per second.
    rate: u64,
    /// Half of a round trip to a peer is the mean of both peers' delays.
    delay: Duration,
}

impl Link {
    const LAN: Self = Self { rate: 125_000_000, delay: Duration::from_micros(200) };
}
