//! Building the swarm with rust-ipfs: transports, limits and listeners.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use connexa::{behaviour::BehaviourEvent, prelude::transport::quic};
use futures::{FutureExt, future::LocalBoxFuture};
use libp2p::{Multiaddr, identity::Keypair, multiaddr::Protocol, swarm::SwarmEvent};
use libp2p_pnet::KeyRing;
use rust_ipfs::{FDLimit, Ipfs, builder::IpfsBuilder};
use socket2::{Domain, Socket, Type};

use crate::{Bootstrap, Options, StartError, behaviour::Behaviour, circuits::Circuits};

/// Connections of a small swarm may be idle for long: reopening them would cost each pull a round trip.
const IDLE_SECONDS: u64 = 60 * 60;
/// On the public network peers come and go by the thousand.
const IDLE_SECONDS_PUBLIC: u64 = 60;
/// The total is limited by the node's own behaviour, which also chooses the connection to close.
const MAX_CONNECTIONS_PER_PEER: u32 = 8;
const MAX_PENDING: u32 = 128;
/// A dial to a peer that is gone is given up after ten seconds, and a node that looks for its network begins many meanwhile
/// (`peers/seeds.rs`).
const MAX_PENDING_DIALS: u32 = 384;
/// Bytes that one QUIC connection may hold unread: 40 MB/s at a round trip of 100 ms.
const QUIC_WINDOW: u32 = 4 << 20;
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(3);
const QUIC_IDLE_MILLISECONDS: u32 = 10_000;

/// Builds the swarm. Boxed, so that its code is generated in this crate only.
pub(crate) fn start<'a>(
    options: &'a Options,
    key: &'a Keypair,
    behaviour: Behaviour,
    (circuits, ring): (Circuits, Option<&'a KeyRing>),
) -> LocalBoxFuture<'a, Result<Ipfs, StartError>> {
    build(options, key, behaviour, (circuits, ring)).boxed_local()
}

async fn build(
    options: &Options,
    key: &Keypair,
    behaviour: Behaviour,
    (circuits, ring): (Circuits, Option<&KeyRing>),
) -> Result<Ipfs, StartError> {
    let public = options.bootstrap == Bootstrap::Public;
    libp2p_yamux::process().set_limit(options.unread as usize);
    let mut builder = IpfsBuilder::<Behaviour>::with_keypair(key)
        .map_err(|e| StartError::Swarm(e.into()))?
        .with_custom_behaviour(move |_| Ok(behaviour))
        .with_ping(Default::default())
        .set_connection_limits(|limits| {
            limits
                .with_max_established_per_peer(Some(MAX_CONNECTIONS_PER_PEER))
                .with_max_pending_incoming(Some(MAX_PENDING))
                .with_max_pending_outgoing(Some(MAX_PENDING_DIALS))
        })
        .fd_limit(FDLimit::Max)
        .set_idle_connection_timeout(if public { IDLE_SECONDS_PUBLIC } else { IDLE_SECONDS })
        .enable_tcp()
        .enable_websocket()
        // The node's own behaviour makes the reservations and punches the holes.
        .with_relay(false)
        .swarm_events(move |_, event| {
            if let SwarmEvent::Behaviour(BehaviourEvent::RelayClient(event)) = event {
                circuits.on_event(event);
            }
        });
    builder = match ring {
        // Without QUIC, which does not use the pre-shared key. The node resolves names itself (`peers/resolve.rs`).
        Some(ring) => builder.enable_pnet(ring.handle()),
        None => builder.enable_quic_with_config(quic),
    };
    if public {
        builder = builder.with_upnp();
    }
    builder.start().await.map_err(|e| StartError::Swarm(e.into()))
}

/// Configures QUIC connections with bounded windows, which survive a second without network.
fn quic(mut config: quic::Config) -> quic::Config {
    config.keep_alive_interval = QUIC_KEEP_ALIVE;
    config.max_idle_timeout = QUIC_IDLE_MILLISECONDS;
    config.max_stream_data = QUIC_WINDOW;
    config.max_connection_data = QUIC_WINDOW;
    config
}

/// Listens on every address; fails if one is in use.
pub(crate) async fn listen(ipfs: &Ipfs, addresses: &[Multiaddr]) -> Result<(), StartError> {
    for address in addresses {
        probe(address)?;
        let added = ipfs.add_listening_address(address.clone()).await;
        added.map_err(|e| StartError::Listen { address: address.clone(), why: e.into() })?;
    }
    Ok(())
}

/// Returns the addresses that this machine can listen on: all interfaces of a family that it lacks are left out, with a
/// warning, unless nothing would be left.
pub(crate) fn available(addresses: &[Multiaddr]) -> Vec<Multiaddr> {
    let (here, missing) = by_family(addresses, has_family);
    if here.is_empty() || missing.is_empty() {
        return addresses.to_vec();
    }
    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    tracing::warn!(addresses = missing.join(", "), "not listening: the machine lacks this version of IP");
    here
}

/// Parts the addresses into those that can be listened on and those of all interfaces in a missing family.
fn by_family(addresses: &[Multiaddr], has: impl Fn(IpAddr) -> bool) -> (Vec<Multiaddr>, Vec<Multiaddr>) {
    let is_here = |address: &Multiaddr| !ip(address).is_some_and(|ip| ip.is_unspecified() && !has(ip));
    addresses.iter().cloned().partition(is_here)
}

/// Returns whether the machine has a loopback address in the family of `ip`. Without one, listening on all interfaces of the
/// family would wait for an address without end.
fn has_family(ip: IpAddr) -> bool {
    let loopback: IpAddr = if ip.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    UdpSocket::bind((loopback, 0)).is_ok()
}

/// Tries a plain bind: libp2p sets SO_REUSEPORT, with which binding a port in use succeeds silently.
pub(crate) fn probe(address: &Multiaddr) -> Result<(), StartError> {
    bind(address).map(drop).map_err(|e| StartError::Listen { address: address.clone(), why: e.into() })
}

/// Binds the port of an address, if it has one.
fn bind(address: &Multiaddr) -> io::Result<Option<Socket>> {
    let Some(ip) = ip(address) else { return Ok(None) };
    let (kind, port) = match address.iter().nth(1) {
        Some(Protocol::Tcp(port)) if port != 0 => (Type::STREAM, port),
        Some(Protocol::Udp(port)) if port != 0 => (Type::DGRAM, port),
        _ => return Ok(None),
    };
    let at = SocketAddr::new(ip, port);
    let socket = Socket::new(Domain::for_address(at), kind, None)?;
    if at.is_ipv6() {
        // As libp2p does: the same port is free for IPv4.
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        // As std does: connections that were closed a moment ago do not keep the port.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&at.into())?;
    if kind == Type::STREAM {
        socket.listen(1)?;
    }
    Ok(Some(socket))
}

/// Returns the IP address that a multiaddress begins with, as it is written.
fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn all_interfaces_of_a_missing_ip_version_are_left_out() {
        let texts = [
            "/ip4/0.0.0.0/tcp/4001",
            "/ip6/::/tcp/4001",
            "/ip6/::/udp/4001/quic-v1",
            "/ip6/::1/tcp/4001",
            "/dns4/example.org/tcp/4001",
        ];
        let all = parsed(&texts);
        let (here, missing) = by_family(&all, |ip| ip.is_ipv4());
        assert_eq!(here, parsed(&[texts[0], texts[3], texts[4]]), "a given address must be there");
        assert_eq!(missing, parsed(&texts[1..3]));
        assert_eq!(by_family(&all, |_| true), (all.clone(), Vec::new()));
        assert_eq!(available(&all[..1]), all[..1]);
    }

    /// Binds a port for both IP versions, on all interfaces for a moment, without a packet that is sent. Returns nothing where
    /// another program has the port.
    fn bound(rest: &str) -> Option<([Multiaddr; 2], [Socket; 2])> {
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let rest = rest.replace("PORT", &port.to_string());
        let addresses =
            ["/ip4/0.0.0.0", "/ip6/::"].map(|ip| format!("{ip}/{rest}").parse::<Multiaddr>().unwrap());
        let sockets = [bind(&addresses[0]).ok()??, bind(&addresses[1]).ok()??];
        Some((addresses, sockets))
    }

    #[test]
    fn one_port_can_be_bound_for_both_ip_versions_and_not_twice_for_one() {
        if !has_family(Ipv6Addr::LOCALHOST.into()) {
            return;
        }
        for rest in ["tcp/PORT", "udp/PORT/quic-v1"] {
            let (addresses, _sockets) = (0..10).find_map(|_| bound(rest)).expect("a free port");
            assert!(addresses.iter().all(|address| probe(address).is_err()), "{addresses:?}");
        }
    }
}
