//! A behaviour that is created when it is first needed.

use std::task::{Context, Poll};

use libp2p::{
    Multiaddr, PeerId,
    core::{
        Endpoint,
        transport::{ListenerId, PortUse},
    },
    swarm::{
        ConnectionDenied, ConnectionId, ExternalAddresses, FromSwarm, ListenAddresses, NetworkBehaviour,
        NewListenAddr, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        behaviour::ExternalAddrConfirmed,
    },
};

/// A behaviour that takes no memory until the first connection, or until it is used. It is told of the swarm's addresses
/// then: there is nothing else that it could have learned.
pub(crate) struct OnDemand<B> {
    created: Option<B>,
    create: Box<dyn Fn() -> B + Send + Sync>,
    listening: ListenAddresses,
    external: ExternalAddresses,
}

impl<B: NetworkBehaviour> OnDemand<B> {
    pub(super) fn new(create: impl Fn() -> B + Send + Sync + 'static) -> Self {
        let (listening, external) = Default::default();
        Self { created: None, create: Box::new(create), listening, external }
    }

    /// Returns it, if it was created.
    pub(super) fn created(&mut self) -> Option<&mut B> {
        self.created.as_mut()
    }

    /// Returns it, and creates it if necessary.
    pub(super) fn get(&mut self) -> &mut B {
        let Self { created, create, listening, external } = self;
        created.get_or_insert_with(|| {
            let mut behaviour = create();
            for addr in listening.iter() {
                let event = NewListenAddr { listener_id: ListenerId::next(), addr };
                behaviour.on_swarm_event(FromSwarm::NewListenAddr(event));
            }
            // The newest comes first.
            for addr in external.as_slice().iter().rev() {
                behaviour.on_swarm_event(FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed { addr }));
            }
            behaviour
        })
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for OnDemand<B> {
    type ConnectionHandler = THandler<B>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.created().map_or(Ok(()), |inner| inner.handle_pending_inbound_connection(id, local, remote))
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.get().handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let none = Ok(Vec::new());
        self.created()
            .map_or(none, |inner| inner.handle_pending_outbound_connection(id, peer, addresses, role))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.get().handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match &mut self.created {
            Some(inner) => inner.on_swarm_event(event),
            None => {
                self.listening.on_swarm_event(&event);
                self.external.on_swarm_event(&event);
            }
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.get().on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<B::ToSwarm, THandlerInEvent<Self>>> {
        self.created().map_or(Poll::Pending, |inner| inner.poll(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use libp2p::swarm::{ExpiredListenAddr, behaviour::ExternalAddrExpired, dummy};

    use super::*;

    /// Counts what it is told.
    struct Told {
        inner: dummy::Behaviour,
        addresses: Vec<Multiaddr>,
    }

    impl NetworkBehaviour for Told {
        type ConnectionHandler = THandler<dummy::Behaviour>;
        type ToSwarm = std::convert::Infallible;

        fn handle_established_inbound_connection(
            &mut self,
            id: ConnectionId,
            peer: PeerId,
            local: &Multiaddr,
            remote: &Multiaddr,
        ) -> Result<THandler<Self>, ConnectionDenied> {
            self.inner.handle_established_inbound_connection(id, peer, local, remote)
        }

        fn handle_established_outbound_connection(
            &mut self,
            id: ConnectionId,
            peer: PeerId,
            address: &Multiaddr,
            role: Endpoint,
            port: PortUse,
        ) -> Result<THandler<Self>, ConnectionDenied> {
            self.inner.handle_established_outbound_connection(id, peer, address, role, port)
        }

        fn on_swarm_event(&mut self, event: FromSwarm) {
            match event {
                FromSwarm::NewListenAddr(event) => self.addresses.push(event.addr.clone()),
                FromSwarm::ExternalAddrConfirmed(event) => self.addresses.push(event.addr.clone()),
                _ => {}
            }
        }

        fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
            match event {}
        }

        fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
            Poll::Pending
        }
    }

    #[test]
    fn it_is_created_at_the_first_connection_and_knows_the_current_addresses() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let mut behaviour = OnDemand::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Told { inner: dummy::Behaviour, addresses: Vec::new() }
        });
        let addresses: Vec<Multiaddr> =
            (1..=5).map(|port| format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()).collect();
        let [kept, gone, first, second, withdrawn] = &addresses[..] else { unreachable!() };
        let listener_id = ListenerId::next();
        for addr in [kept, gone] {
            behaviour.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr }));
        }
        let expired = ExpiredListenAddr { listener_id, addr: gone };
        behaviour.on_swarm_event(FromSwarm::ExpiredListenAddr(expired));
        for addr in [first, second, withdrawn] {
            behaviour.on_swarm_event(FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed { addr }));
        }
        let expired = ExternalAddrExpired { addr: withdrawn };
        behaviour.on_swarm_event(FromSwarm::ExternalAddrExpired(expired));
        let (id, peer) = (ConnectionId::new_unchecked(1), PeerId::random());
        let dialled = behaviour.handle_pending_outbound_connection(id, Some(peer), &[], Endpoint::Dialer);
        assert!(dialled.unwrap().is_empty());
        assert_eq!((count.load(Ordering::Relaxed), behaviour.created().is_none()), (0, true));
        behaviour.handle_established_inbound_connection(id, peer, kept, gone).unwrap();
        assert_eq!(behaviour.get().addresses, [kept, first, second].map(Clone::clone));
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
