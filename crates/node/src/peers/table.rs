//! The connections of each peer.

use std::collections::HashMap;

use libp2p::{PeerId, swarm::ConnectionId};

use super::Peer;
use crate::Route;

/// The connected peers; one may have several connections, for instance through a relay and directly.
#[derive(Default)]
pub(super) struct Table(HashMap<PeerId, Connected>);

#[derive(Default)]
struct Connected {
    connections: Vec<(ConnectionId, Peer)>,
    /// Whether it has identified itself over a connection that carries content.
    has_joined: bool,
}

impl Table {
    pub fn add(&mut self, connection: ConnectionId, mut peer: Peer) {
        let connections = &mut self.0.entry(peer.id).or_default().connections;
        peer.agent = connections.iter().find_map(|(_, known)| known.agent.clone());
        connections.push((connection, peer));
    }

    /// Removes a connection. Returns whether it was the peer's last one.
    pub fn remove(&mut self, id: &PeerId, connection: ConnectionId) -> bool {
        let Some(Connected { connections, .. }) = self.0.get_mut(id) else { return true };
        connections.retain(|(known, _)| *known != connection);
        let is_last = connections.is_empty();
        if is_last {
            self.0.remove(id);
        }
        is_last
    }

    /// Records a peer's agent version. Returns whether it is the first since the peer can be asked for content.
    pub fn identified(&mut self, id: &PeerId, agent: &str) -> bool {
        let Some(Connected { connections, has_joined }) = self.0.get_mut(id) else { return false };
        connections.iter_mut().for_each(|(_, peer)| peer.agent = Some(agent.into()));
        let carries = connections.iter().any(|(_, peer)| peer.route != Route::LimitedRelay);
        carries && !std::mem::replace(has_joined, true)
    }

    fn peers(&self, id: &PeerId) -> impl Iterator<Item = &Peer> {
        self.0.get(id).into_iter().flat_map(|known| known.connections.iter().map(|(_, peer)| peer))
    }

    /// Returns the best connection of a peer: one without a relay, the oldest of those.
    pub fn best(&self, id: &PeerId) -> Option<&Peer> {
        self.peers(id).min_by_key(|peer| peer.route)
    }

    pub fn route(&self, id: &PeerId) -> Option<Route> {
        self.best(id).map(|peer| peer.route)
    }

    /// Returns whether a peer has such a connection.
    pub fn has(&self, id: &PeerId, is_such: impl Fn(&Peer) -> bool) -> bool {
        self.peers(id).any(is_such)
    }

    /// Returns how many peers have such a connection.
    pub fn count(&self, is_such: impl Fn(&Peer) -> bool) -> usize {
        self.0.keys().filter(|id| self.has(id, &is_such)).count()
    }

    /// Returns the best connection of each peer.
    pub fn list(&self) -> Vec<Peer> {
        self.0.keys().filter_map(|id| self.best(id).cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_direct_connection_of_a_peer_counts_before_one_through_a_relay() {
        let (mut table, id) = (Table::default(), PeerId::random());
        let peer = |route| Peer {
            id,
            address: "/ip4/203.0.113.1/tcp/1".parse().unwrap(),
            dialled: true,
            route,
            agent: None,
            since: Instant::now(),
        };
        let connection = ConnectionId::new_unchecked;
        table.add(connection(1), peer(Route::LimitedRelay));
        assert!(!table.identified(&id, "one"), "it cannot be asked for content");
        assert_eq!(table.route(&id), Some(Route::LimitedRelay));
        table.add(connection(2), peer(Route::Direct));
        assert_eq!((table.route(&id), table.list().len()), (Some(Route::Direct), 1));
        assert!(table.identified(&id, "one") && !table.identified(&id, "one"), "once");
        assert!(!table.remove(&id, connection(2)));
        assert_eq!(table.route(&id), Some(Route::LimitedRelay));
        assert_eq!(table.count(|peer| peer.route == Route::Direct), 0);
        assert!(table.remove(&id, connection(1)));
        assert_eq!(table.route(&id), None);
    }
}
