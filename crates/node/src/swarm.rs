//! Building the swarm with rust-ipfs: transports, limits and listeners.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    time::Duration,
};

use connexa::prelude::transport::{dns::DnsResolver, pnet::PreSharedKey, quic};
use futures::{FutureExt, future::LocalBoxFuture};
use libp2p::{Multiaddr, identity::Keypair, multiaddr::Protocol};
use rust_ipfs::{FDLimit, Ipfs, builder::IpfsBuilder};

use crate::{Bootstrap, Options, StartError, behaviour::Behaviour};

/// Connections of a small swarm may be idle for long: reopening them would cost each pull a round trip.
const IDLE_SECONDS: u64 = 60 * 60;
/// On the public network peers come and go by the thousand.
const IDLE_SECONDS_PUBLIC: u64 = 60;
/// The total is limited by the node's own behaviour, which also chooses the connection to close.
const MAX_CONNECTIONS_PER_PEER: u32 = 8;
const MAX_PENDING: u32 = 128;
/// Bytes that one QUIC connection may hold unread: 40 MB/s at a round trip of 100 ms.
const QUIC_WINDOW: u32 = 4 << 20;
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(3);
const QUIC_IDLE_MILLISECONDS: u32 = 10_000;

/// Builds the swarm. Boxed, so that its code is generated in this crate only.
pub(crate) fn start<'a>(
    options: &'a Options,
    key: &'a Keypair,
    behaviour: Behaviour,
) -> LocalBoxFuture<'a, Result<Ipfs, StartError>> {
    build(options, key, behaviour).boxed_local()
}

async fn build(options: &Options, key: &Keypair, behaviour: Behaviour) -> Result<Ipfs, StartError> {
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
                .with_max_pending_outgoing(Some(MAX_PENDING))
        })
        .fd_limit(FDLimit::Max)
        .set_idle_connection_timeout(if public { IDLE_SECONDS_PUBLIC } else { IDLE_SECONDS })
        .enable_tcp();
    builder = match &options.swarm_key {
        // Without QUIC and DNS: neither uses the pre-shared key.
        Some(psk) => builder.enable_pnet(PreSharedKey::new(psk.bytes())),
        None => builder.enable_quic_with_config(quic).enable_dns_with_resolver(DnsResolver::Local),
    };
    if public {
        builder = builder.with_autonat().with_upnp();
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

/// Tries a plain bind: libp2p sets SO_REUSEPORT, with which binding a port in use succeeds silently.
pub(crate) fn probe(address: &Multiaddr) -> Result<(), StartError> {
    bind(address).map_err(|e| StartError::Listen { address: address.clone(), why: e.into() })
}

fn bind(address: &Multiaddr) -> std::io::Result<()> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => TcpListener::bind(SocketAddr::new(ip, port)).map(drop),
        Some(Protocol::Udp(port)) if port != 0 => UdpSocket::bind(SocketAddr::new(ip, port)).map(drop),
        _ => Ok(()),
    }
}
