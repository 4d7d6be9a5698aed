//! The connection limits, and which connection is closed for a new one.
//!
//! A connection is refused only if no other one can be closed. Connections of wanted peers, which are configured or
//! were dialled by this node, are neither refused nor closed. Some inbound connections of a full node have temporary
//! slots: long enough for a new peer that knows only this node to find the rest of the swarm.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    core::ConnectedPoint,
    swarm::{ConnectionDenied, ConnectionId},
};

use crate::{Limits, Route, address};

/// Handshakes in progress from one network.
const MAX_PENDING_PER_NETWORK: usize = 16;
/// One out of this many inbound connections of a full node, the newest ones, has a temporary slot: a crowd of new peers is
/// introduced soon, and a flood of them leaves the older connections alone.
const TEMPORARY_DIVISOR: usize = 2;

/// Why a connection is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum LimitError {
    #[error("connection limit reached: {0} connections are open and none of them is idle")]
    Full(usize),
    #[error("connection limit reached: {0} connections come from the same network")]
    Network(usize),
}

impl From<LimitError> for ConnectionDenied {
    fn from(refused: LimitError) -> Self {
        Self::new(refused)
    }
}

/// An open connection.
struct OpenConnection {
    peer: PeerId,
    /// The IPv4 address or the IPv6 /64 it came from, if that is limited.
    network: Option<IpAddr>,
    inbound: bool,
    route: Route,
    /// The address that this node dialled.
    dialled: Option<Multiaddr>,
    since: Instant,
}

/// A connection to be admitted.
pub(super) struct NewConnection<'a> {
    pub address: &'a Multiaddr,
    pub inbound: bool,
    /// Whether it is admitted beyond the limits.
    pub wanted: bool,
}

/// Open connections, and those with a handshake in progress.
pub(super) struct Connections {
    limits: Limits,
    open: HashMap<ConnectionId, OpenConnection>,
    pending: HashMap<ConnectionId, IpAddr>,
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, open: HashMap::new(), pending: HashMap::new() }
    }

    /// Records the start of a handshake, unless its network has too many in progress.
    pub(super) fn begin(&mut self, id: ConnectionId, address: &Multiaddr) -> Result<(), LimitError> {
        let Some(network) = self.network(address) else { return Ok(()) };
        if self.pending.values().filter(|other| **other == network).count() >= MAX_PENDING_PER_NETWORK {
            return Err(LimitError::Network(MAX_PENDING_PER_NETWORK));
        }
        self.pending.insert(id, network);
        Ok(())
    }

    /// Records the end of a handshake.
    pub(super) fn end(&mut self, id: &ConnectionId) {
        self.pending.remove(id);
    }

    pub(super) fn opened(&mut self, id: ConnectionId, peer: PeerId, endpoint: &ConnectedPoint, route: Route) {
        let (address, inbound) = (endpoint.get_remote_address(), endpoint.is_listener());
        let (network, dialled) = (self.network(address), (!inbound).then(|| address.clone()));
        self.open
            .insert(id, OpenConnection { peer, network, inbound, route, dialled, since: Instant::now() });
    }

    /// Returns the route of an open connection.
    pub(super) fn route(&self, id: &ConnectionId) -> Option<Route> {
        Some(self.open.get(id)?.route)
    }

    /// Returns the address that this node dialled for a connection.
    pub(super) fn dialled(&self, id: &ConnectionId) -> Option<&Multiaddr> {
        self.open.get(id)?.dialled.as_ref()
    }

    pub(super) fn closed(&mut self, id: &ConnectionId) {
        self.open.remove(id);
    }

    /// Returns the network that a peer's connections come from, if that is limited.
    pub(super) fn network_of(&self, peer: &PeerId) -> Option<IpAddr> {
        self.open.values().find(|open| open.peer == *peer)?.network
    }

    /// Admits a connection. Returns the one to close for it. `last_activity` tells when a connection last sent or
    /// received bytes.
    pub(super) fn admit(
        &mut self,
        new: &NewConnection,
        is_wanted: impl Fn(&PeerId) -> bool,
        last_activity: impl Fn(&ConnectionId) -> Option<Instant>,
    ) -> Result<Option<(PeerId, ConnectionId)>, LimitError> {
        self.check_network(new)?;
        if self.has_slot(new.inbound, new.wanted) {
            return Ok(None);
        }
        match self.connection_to_close(new.inbound, is_wanted, last_activity) {
            Some((peer, id)) => {
                self.open.remove(&id);
                Ok(Some((peer, id)))
            }
            None if new.wanted => Ok(None),
            None => Err(LimitError::Full(self.open.len())),
        }
    }

    /// Returns whether a dial of an unwanted peer would be admitted.
    pub(super) fn check_dial(
        &self,
        is_wanted: impl Fn(&PeerId) -> bool,
        last_activity: impl Fn(&ConnectionId) -> Option<Instant>,
    ) -> Result<(), LimitError> {
        match self.has_slot(false, false)
            || self.connection_to_close(false, is_wanted, last_activity).is_some()
        {
            true => Ok(()),
            false => Err(LimitError::Full(self.open.len())),
        }
    }

    fn check_network(&self, new: &NewConnection) -> Result<(), LimitError> {
        let network = self.network(new.address).filter(|_| new.inbound && !new.wanted);
        let same = |open: &&OpenConnection| open.inbound && open.network == network;
        match network.is_some() && self.open.values().filter(same).count() >= self.limits.per_network {
            true => Err(LimitError::Network(self.limits.per_network)),
            false => Ok(()),
        }
    }

    /// Returns the connection to close: first one of a peer that has several, then an idle one of the network with the
    /// most connections, then the one that was idle for longest, finally one in a temporary slot.
    fn connection_to_close(
        &self,
        inbound: bool,
        is_wanted: impl Fn(&PeerId) -> bool,
        last_activity: impl Fn(&ConnectionId) -> Option<Instant>,
    ) -> Option<(PeerId, ConnectionId)> {
        // The same time for all: otherwise the last one would seem to be idle for longer.
        let now = Instant::now();
        let (mut of_peers, mut of_networks) = (HashMap::<_, usize>::new(), HashMap::<_, usize>::new());
        for open in self.open.values() {
            *of_peers.entry(open.peer).or_default() += 1;
            *of_networks.entry(open.network).or_default() += 1;
        }
        let from_outbound = inbound && self.inbound() < self.limits.inbound;
        let mut candidates: Vec<_> = self
            .open
            .iter()
            .filter(|(_, open)| (open.inbound == inbound || from_outbound) && !is_wanted(&open.peer))
            .collect();
        candidates.sort_by_key(|(_, open)| Reverse(open.since));
        let temporary_slots = (self.limits.inbound / TEMPORARY_DIVISOR).max(1);
        let ranked = candidates.into_iter().enumerate().filter_map(|(place, (id, open))| {
            let further = of_peers[&open.peer] - 1;
            let quiet = self.idle_time(open, last_activity(id), now);
            let is_temporary =
                inbound && place < temporary_slots && self.is_temporary_over(open, last_activity(id), now);
            let crowd = open.network.map_or(0, |_| of_networks[&open.network]);
            (further > 0 || quiet.is_some() || is_temporary).then_some((
                (further, quiet.is_some(), crowd, quiet, Reverse(open.since)),
                open.peer,
                *id,
            ))
        });
        ranked.max_by_key(|(rank, _, _)| *rank).map(|(_, peer, id)| (peer, id))
    }

    /// Returns how long a connection has been idle, if it may be closed.
    fn idle_time(
        &self,
        open: &OpenConnection,
        last_activity: Option<Instant>,
        now: Instant,
    ) -> Option<Duration> {
        let since = |moment: Instant| now.saturating_duration_since(moment);
        let quiet = since(last_activity.unwrap_or(open.since));
        (quiet >= self.limits.idle && since(open.since) >= self.limits.settled).then_some(quiet)
    }

    /// Returns whether a connection had its time in a temporary slot, without a request for a block.
    fn is_temporary_over(&self, open: &OpenConnection, last_activity: Option<Instant>, now: Instant) -> bool {
        let since = |moment: Instant| now.saturating_duration_since(moment);
        let is_idle = |last_activity| last_activity <= open.since || since(last_activity) >= self.limits.idle;
        last_activity.is_none_or(is_idle) && since(open.since) >= self.limits.temporary
    }

    fn inbound(&self) -> usize {
        self.open.values().filter(|open| open.inbound).count()
    }

    /// Returns whether there is a free slot. Some slots are reserved for outbound connections. Beyond those, unwanted
    /// peers are dialled only until half of all slots are used: a swarm whose nodes dial all others has no slots for
    /// new peers.
    fn has_slot(&self, inbound: bool, wanted: bool) -> bool {
        let (all, from_others) = (self.open.len(), self.inbound());
        let Limits { connections, inbound: max_inbound, .. } = self.limits;
        match inbound {
            true => all < connections && from_others < max_inbound,
            false => {
                let max = if wanted { connections } else { connections / 2 };
                all < max || all - from_others < connections - max_inbound
            }
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
