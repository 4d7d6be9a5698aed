//! What the behaviour is made with.

use std::sync::Arc;

use libp2p::Multiaddr;
use tokio::sync::watch;

use crate::{
    Blocks, Limits, Reachability, circuits::Circuits, handshakes::Handshakes, http_providers::HttpProviders,
    members::Members, relay_service::Addresses,
};

/// The settings that depend on the network.
pub(crate) struct BehaviourSettings {
    pub announce: Vec<Multiaddr>,
    pub trust_listen_addresses: bool,
    /// Records failed handshakes in a private swarm.
    pub handshakes: Option<Handshakes>,
    /// The members of a private swarm.
    pub members: Option<Members>,
    /// Whether this is the public network, whose peers are not trusted.
    pub public: bool,
    pub limits: Limits,
    pub circuits: Circuits,
    /// Where the reachability of this node is published.
    pub reachability: watch::Sender<Reachability>,
    /// The streams of the relay service, if there is one.
    pub relay: Option<libp2p_stream::Behaviour>,
    /// The addresses that the relay service tells.
    pub addresses: Addresses,
    /// Asked for blocks if provider records name them; `None` in a private swarm, which nothing leaves.
    pub http: Option<HttpProviders>,
    /// The store, for peers that know the hash of a file alone.
    pub blocks: Arc<dyn Blocks>,
}

#[cfg(test)]
impl BehaviourSettings {
    /// Returns the settings of a node without configured addresses that relays for no peer.
    pub(crate) fn of_tests(public: bool) -> Self {
        Self {
            announce: Vec::new(),
            trust_listen_addresses: false,
            handshakes: None,
            members: None,
            public,
            limits: Limits::default(),
            circuits: Circuits::default(),
            reachability: watch::Sender::new(Reachability::default()),
            relay: None,
            addresses: Addresses::default(),
            http: None,
            blocks: Arc::new(crate::no_blocks::NoBlocks),
        }
    }
}
