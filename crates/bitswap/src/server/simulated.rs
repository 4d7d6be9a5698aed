//! The server in steps, for a simulated swarm: what [`Server::serve`] does with streams, memory and threads.

use libp2p::{PeerId, swarm::ConnectionId};
use tokio::sync::mpsc;

use super::{NextMessage, ServeWait, Server};
use crate::{link::Outgoing, locked, slots::SlotTicket};

impl Server {
    /// Adds a peer that is served by [`Server::poll_message`].
    pub fn add_simulated(&self, peer: PeerId) {
        let (sender, _) = mpsc::channel(1);
        self.peer(peer, |streams| streams.senders.push((ConnectionId::new_unchecked(0), sender)));
    }

    /// Returns the next message for a peer, or what to wait for.
    pub fn poll_message(&self, peer: &PeerId, ticket: &mut SlotTicket) -> Result<Outgoing, ServeWait> {
        let peer = locked(&self.peers).get(peer).cloned().ok_or(ServeWait::Event)?;
        if !peer.may_be_sent(self.sharing_peers()) {
            ticket.give_up();
            return Err(ServeWait::Event);
        }
        let NextMessage { message, slot } = self.next(&peer, ticket)?;
        Ok(Outgoing { message, _slot: slot, _in_flight: peer.in_flight.begin(), _memory: None })
    }

    /// Returns the place of a peer among those that wait for a slot.
    pub fn ticket(&self) -> SlotTicket {
        SlotTicket::new(&self.slots)
    }
}
