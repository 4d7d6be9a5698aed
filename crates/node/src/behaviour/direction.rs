//! Where other peers may direct this node's dials.

use libp2p::{Multiaddr, PeerId, swarm::ConnectionDenied};

use super::{Behaviour, dht::Dht};
use crate::{
    address::{self, is_local},
    http_providers::is_http,
};

/// A dial was directed into a private network.
#[derive(Debug, thiserror::Error)]
#[error("a peer of the public network named a private address")]
struct Misled;

impl Behaviour {
    /// Returns whether an address received from a peer may be dialled. In a small swarm only this node's settings may
    /// cause DNS lookups, and peers of the public network must not direct dials into private networks.
    pub(super) fn is_dialled(&self, address: &Multiaddr) -> bool {
        match self.public {
            _ if is_http(address) => false,
            true => !is_local(address),
            false => !address::is_dns(address),
        }
    }

    /// Returns whether an address that a table knows may be dialled: the peers of the second table are in a private network.
    pub(super) fn is_dialled_from(&self, dht: Dht, address: &Multiaddr) -> bool {
        let is_near = dht == Dht::Lan && self.public && is_local(address) && !is_http(address);
        is_near || self.is_dialled(address)
    }

    /// Refuses a dial to private addresses that a peer of the public network directs, to test an address (AutoNAT) or to punch a
    /// hole.
    pub(super) fn check_direction(
        &self,
        peer: &PeerId,
        addresses: &[Multiaddr],
    ) -> Result<(), ConnectionDenied> {
        let all_local = !addresses.is_empty() && addresses.iter().all(is_local);
        match self.public && all_local && !self.peers.is_named(peer) {
            true => Err(ConnectionDenied::new(Misled)),
            false => Ok(()),
        }
    }
}
