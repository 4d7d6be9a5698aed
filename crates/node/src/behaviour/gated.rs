//! Protocols that run over some connections only: not over circuits that a relay limits, or not over circuits at all.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    ops::{Deref, DerefMut},
    task::{Context, Poll},
};

use either::Either;
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler,
        THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, behaviour::ConnectionEstablished, dummy,
    },
};

use crate::circuits::{Circuits, Route};

/// A behaviour that sees only connections of allowed routes: for it, the others do not exist.
pub(crate) struct Gated<B> {
    inner: B,
    circuits: Circuits,
    allows: fn(Route) -> bool,
    hidden: HashSet<ConnectionId>,
    /// The connections that it sees, the newest last.
    seen: HashMap<PeerId, Vec<ConnectionId>>,
}

impl<B> Gated<B> {
    pub(super) fn new(inner: B, circuits: Circuits, allows: fn(Route) -> bool) -> Self {
        Self { inner, circuits, allows, hidden: HashSet::new(), seen: HashMap::new() }
    }

    /// Records a new connection. Returns whether the inner behaviour sees it.
    fn admits(&mut self, id: ConnectionId, route: Route) -> bool {
        let admitted = (self.allows)(route);
        if !admitted {
            self.hidden.insert(id);
        }
        admitted
    }

    fn established<'a>(&mut self, event: ConnectionEstablished<'a>) -> Option<FromSwarm<'a>> {
        if self.hidden.contains(&event.connection_id) {
            return None;
        }
        let seen = self.seen.entry(event.peer_id).or_default();
        let other_established = seen.len();
        seen.push(event.connection_id);
        Some(FromSwarm::ConnectionEstablished(ConnectionEstablished { other_established, ..event }))
    }

    fn closed<'a>(&mut self, event: ConnectionClosed<'a>) -> Option<FromSwarm<'a>> {
        if self.hidden.remove(&event.connection_id) {
            return None;
        }
        let seen = self.seen.get_mut(&event.peer_id)?;
        seen.retain(|id| *id != event.connection_id);
        let remaining_established = seen.len();
        if seen.is_empty() {
            self.seen.remove(&event.peer_id);
        }
        Some(FromSwarm::ConnectionClosed(ConnectionClosed { remaining_established, ..event }))
    }

    /// Returns the handlers that an event is for, or `None` if the peer has no connection any more.
    fn handler(&self, peer: &PeerId, handler: NotifyHandler) -> Option<NotifyHandler> {
        match handler {
            // Any of them might be a hidden one.
            NotifyHandler::Any if !self.hidden.is_empty() => {
                self.seen.get(peer)?.last().copied().map(NotifyHandler::One)
            }
            handler => Some(handler),
        }
    }
}

impl<B> Deref for Gated<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.inner
    }
}

impl<B> DerefMut for Gated<B> {
    fn deref_mut(&mut self) -> &mut B {
        &mut self.inner
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Gated<B> {
    type ConnectionHandler = Either<THandler<B>, dummy::ConnectionHandler>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if !self.admits(id, self.circuits.inbound(&peer, local)) {
            return Ok(Either::Right(dummy::ConnectionHandler));
        }
        self.inner.handle_established_inbound_connection(id, peer, local, remote).map(Either::Left)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if !self.admits(id, self.circuits.outbound(address)) {
            return Ok(Either::Right(dummy::ConnectionHandler));
        }
        self.inner.handle_established_outbound_connection(id, peer, address, role, port).map(Either::Left)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        let event = match event {
            FromSwarm::ConnectionEstablished(event) => self.established(event),
            FromSwarm::ConnectionClosed(event) => self.closed(event),
            FromSwarm::AddressChange(event) if self.hidden.contains(&event.connection_id) => None,
            FromSwarm::DialFailure(failed) => {
                self.hidden.remove(&failed.connection_id);
                Some(event)
            }
            FromSwarm::ListenFailure(failed) => {
                self.hidden.remove(&failed.connection_id);
                Some(event)
            }
            event => Some(event),
        };
        if let Some(event) = event {
            self.inner.on_swarm_event(event);
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {
            Either::Left(event) => self.inner.on_connection_handler_event(peer, id, event),
            Either::Right(never) => match never {},
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            let Poll::Ready(event) = self.inner.poll(cx) else { return Poll::Pending };
            let event = event.map_in(Either::<_, Infallible>::Left);
            let ToSwarm::NotifyHandler { peer_id, handler, event } = event else { return Poll::Ready(event) };
            if let Some(handler) = self.handler(&peer_id, handler) {
                return Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event });
            }
        }
    }
}
