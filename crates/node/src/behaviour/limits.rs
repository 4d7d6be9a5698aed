//! How many connections there are, and which one gives way to another.
//!
//! A connection is refused only where none gives way. Peers that this node wants, because they are configured or because
//! it dialled them itself, are neither refused nor closed.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    swarm::{ConnectionDenied, ConnectionId},
};

use crate::{Limits, address};

/// Handshakes that one network has under way.
const MAX_PENDING_OF_A_NETWORK: usize = 16;

/// Why a connection is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("connection limit reached: {0} connections are open and none of them is idle")]
    Full(usize),
    #[error("connection limit reached: {0} connections come from the same network")]
    Network(usize),
}

impl From<Refused> for ConnectionDenied {
    fn from(refused: Refused) -> Self {
        Self::new(refused)
    }
}

/// An open connection.
struct Open {
    peer: PeerId,
    /// The address or the /64 it came from, where that is counted.
    network: Option<IpAddr>,
    inbound: bool,
    since: Instant,
}

/// What is to be known of a connection that asks for a place.
pub(super) struct Newcomer<'a> {
    pub address: &'a Multiaddr,
    pub inbound: bool,
    /// Whether this node wants it in any case.
    pub wanted: bool,
}

/// All connections, and those whose handshake is under way.
pub(super) struct Connections {
    limits: Limits,
    open: HashMap<ConnectionId, Open>,
    pending: HashMap<ConnectionId, IpAddr>,
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, open: HashMap::new(), pending: HashMap::new() }
    }

    /// Takes note of a handshake that begins, unless its network has too many under way.
    pub(super) fn begin(&mut self, id: ConnectionId, address: &Multiaddr) -> Result<(), Refused> {
        let Some(network) = self.network(address) else { return Ok(()) };
        if self.pending.values().filter(|other| **other == network).count() >= MAX_PENDING_OF_A_NETWORK {
            return Err(Refused::Network(MAX_PENDING_OF_A_NETWORK));
        }
        self.pending.insert(id, network);
        Ok(())
    }

    /// Takes note that a handshake has ended.
    pub(super) fn end(&mut self, id: &ConnectionId) {
        self.pending.remove(id);
    }

    pub(super) fn opened(&mut self, id: ConnectionId, peer: PeerId, address: &Multiaddr, inbound: bool) {
        let open = Open { peer, network: self.network(address), inbound, since: Instant::now() };
        self.open.insert(id, open);
    }

    pub(super) fn closed(&mut self, id: &ConnectionId) {
        self.open.remove(id);
    }

    /// Admits a connection, and says which one is to be closed for it. `heard` says when bytes last moved on one.
    pub(super) fn admit(
        &mut self,
        new: &Newcomer,
        is_wanted: impl Fn(&PeerId) -> bool,
        heard: impl Fn(&ConnectionId) -> Option<Instant>,
    ) -> Result<Option<(PeerId, ConnectionId)>, Refused> {
        self.check_network(new)?;
        if self.has_room(new.inbound) {
            return Ok(None);
        }
        match self.least_needed(new.inbound, is_wanted, heard) {
            Some((peer, id)) => {
                self.open.remove(&id);
                Ok(Some((peer, id)))
            }
            None if new.wanted => Ok(None),
            None => Err(Refused::Full(self.open.len())),
        }
    }

    fn check_network(&self, new: &Newcomer) -> Result<(), Refused> {
        let network = self.network(new.address).filter(|_| new.inbound && !new.wanted);
        let same = |open: &&Open| open.inbound && open.network == network;
        match network.is_some() && self.open.values().filter(same).count() >= self.limits.of_a_network {
            true => Err(Refused::Network(self.limits.of_a_network)),
            false => Ok(()),
        }
    }

    /// The connection that gives way: first a further one of a peer that has several, then an idle one of the network with
    /// the most, then the one that was idle for longest. Neither direction takes a place of the other.
    fn least_needed(
        &self,
        inbound: bool,
        is_wanted: impl Fn(&PeerId) -> bool,
        heard: impl Fn(&ConnectionId) -> Option<Instant>,
    ) -> Option<(PeerId, ConnectionId)> {
        // One moment for all: else the one that is looked at last seems idle for longer than it was.
        let now = Instant::now();
        let (mut of_peers, mut of_networks) = (HashMap::<_, usize>::new(), HashMap::<_, usize>::new());
        for open in self.open.values() {
            *of_peers.entry(open.peer).or_default() += 1;
            *of_networks.entry(open.network).or_default() += 1;
        }
        let candidates =
            self.open.iter().filter(|(_, open)| open.inbound == inbound && !is_wanted(&open.peer));
        let ranked = candidates.filter_map(|(id, open)| {
            let further = of_peers[&open.peer] - 1;
            let quiet = self.quiet(open, heard(id), now);
            let crowd = open.network.map_or(0, |_| of_networks[&open.network]);
            (further > 0 || quiet.is_some()).then_some(((further, crowd, quiet), open.peer, *id))
        });
        ranked.max_by_key(|(rank, _, _)| *rank).map(|(_, peer, id)| (peer, id))
    }

    /// For how long a connection that may give way was idle.
    fn quiet(&self, open: &Open, heard: Option<Instant>, now: Instant) -> Option<Duration> {
        let since = |moment: Instant| now.saturating_duration_since(moment);
        let quiet = since(heard.unwrap_or(open.since));
        (quiet >= self.limits.idle && since(open.since) >= self.limits.settled).then_some(quiet)
    }

    /// Outbound connections have places that inbound ones never take.
    fn has_room(&self, inbound: bool) -> bool {
        let all = self.open.len();
        let from_others = self.open.values().filter(|open| open.inbound).count();
        let room = all < self.limits.connections;
        match inbound {
            true => room && from_others < self.limits.inbound,
            false => room || all - from_others < self.limits.connections - self.limits.inbound,
        }
    }

    fn network(&self, address: &Multiaddr) -> Option<IpAddr> {
        let ip = address::ip(address)?;
        if address::is_private(ip) && !self.limits.count_private {
            return None;
        }
        Some(match ip {
            IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) >> 64 << 64).into(),
            ip => ip,
        })
    }
}

#[cfg(test)]
mod tests;
