//! Providers whose records name an HTTP server.

use std::collections::HashSet;

use libp2p::{
    Multiaddr, PeerId,
    core::Endpoint,
    kad::{QueryId, store::RecordStore},
    swarm::{ConnectionId, NetworkBehaviour},
};

use super::Behaviour;

impl Behaviour {
    /// Lets providers be asked over HTTP whose records say so, beside Bitswap.
    pub(super) fn ask_over_http(&mut self, id: QueryId, providers: &HashSet<PeerId>) {
        let (Some(http), Some(search)) = (self.http.clone(), self.provider_queries.get(&id)) else { return };
        // The query knows the addresses that peers sent, the store those of the records that it keeps.
        let stored = self.behaviours.kad.store_mut().providers(&search.key);
        let me = self.me;
        for peer in providers.iter().filter(|peer| **peer != me) {
            let sent = self.query_addresses(*peer);
            let stored = stored.iter().filter(|record| record.provider == *peer);
            http.found(sent.iter().chain(stored.flat_map(|record| &record.addresses)));
        }
    }

    /// Returns the addresses of a peer that Kademlia would dial.
    fn query_addresses(&mut self, peer: PeerId) -> Vec<Multiaddr> {
        let (none, dialer) = (ConnectionId::new_unchecked(usize::MAX), Endpoint::Dialer);
        let known = self.behaviours.kad.handle_pending_outbound_connection(none, Some(peer), &[], dialer);
        known.unwrap_or_default()
    }
}
