//! The connections over which peers are served.

use std::sync::{Arc, atomic::Ordering};

use libp2p::{PeerId, swarm::ConnectionId};
use tokio::sync::mpsc;

use super::{
    Server,
    peer::{PeerStreams, ServedPeer},
};
use crate::{link::Outgoing, locked};

impl Server {
    /// Adds a connection to a peer; serving starts with the first one.
    pub(crate) fn opened(
        self: &Arc<Self>,
        peer: PeerId,
        connection: ConnectionId,
        sender: mpsc::Sender<Outgoing>,
    ) {
        let mut is_first = false;
        let peer = self.peer(peer, |streams| {
            streams.senders.push((connection, sender));
            is_first = streams.senders.len() == 1;
        });
        if is_first {
            let (server, stop) = (self.clone(), self.stop.clone());
            self.tasks.spawn(async move { stop.run_until_cancelled(server.serve(peer)).await });
        }
    }

    /// Records that a peer supports striping.
    pub(crate) fn mark_striping(&self, peer: PeerId) {
        if let Some(peer) = locked(&self.peers).get(&peer) {
            peer.supports_striping.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the peer after changing its streams under the lock, so that it cannot be removed in between.
    pub(super) fn peer(&self, peer: PeerId, change: impl FnOnce(&mut PeerStreams)) -> Arc<ServedPeer> {
        let mut peers = locked(&self.peers);
        let peer = peers.entry(peer).or_insert_with(|| Arc::new(ServedPeer::new(peer, self.wanting.clone())));
        change(&mut locked(&peer.streams));
        peer.clone()
    }

    /// Removes a connection of a peer; with the last one, its wants.
    pub(crate) fn closed(&self, peer: &PeerId, connection: ConnectionId) {
        let mut peers = locked(&self.peers);
        let Some(served) = peers.get(peer).cloned() else { return };
        let mut streams = locked(&served.streams);
        streams.senders.retain(|(id, _)| *id != connection);
        streams.wanting.remove(&connection);
        if !streams.senders.is_empty() {
            return;
        }
        served.more.notify_one();
        if streams.wanting.is_empty() {
            peers.remove(peer);
        }
        drop((streams, peers));
        // No other peer waits any longer for what this one was sent.
        locked(&self.recent).receiver_left(peer);
    }
}
