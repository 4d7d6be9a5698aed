//! The distributed hash tables that a node takes part in, as Kubo does.

use libp2p::kad::QueryId;

/// A distributed hash table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Dht {
    /// Of all peers; on the public network, of those with public addresses.
    Main,
    /// Of peers on private addresses, which Kubo's servers leave out of the first.
    Lan,
}

/// A query; the two tables number theirs independently.
pub(super) type Query = (Dht, QueryId);
