use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use crate::{AdminError, BlockMemory, Cid, HttpEndpoint, Rates, StartError, SwarmKey, address::is_dns};

const PUBLIC_PEERS: &str = include_str!("../../../bootstrap/public-peers.txt");

/// The peers that a node dials first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// The public IPFS network.
    Public,
    /// None: the node knows only peers that dial it, and its static peers.
    None,
    /// These peers.
    Peers(Vec<Multiaddr>),
}

impl Bootstrap {
    /// Returns the addresses to dial.
    pub fn addresses(&self) -> Vec<Multiaddr> {
        match self {
            Self::Public => public_peers().collect(),
            Self::None => Vec::new(),
            Self::Peers(peers) => peers.clone(),
        }
    }
}

/// The DNS servers for DNSLink lookups and for names in addresses of peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Dns {
    /// The servers configured in the system; none in a private swarm.
    #[default]
    System,
    /// These servers.
    Servers(Vec<SocketAddr>),
}

fn public_peers() -> impl Iterator<Item = Multiaddr> {
    let lines = PUBLIC_PEERS.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Multiaddr::from_str(line).ok())
}

/// The connection limits of a node.
///
/// Above `inbound` and `connections` an idle connection is closed for a new one, or one in a temporary slot if none is idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of connections.
    pub connections: usize,
    /// Maximum number of inbound connections.
    pub inbound: usize,
    /// Maximum number of inbound connections from one IPv4 address or one IPv6 /64.
    pub per_network: usize,
    /// Whether this also applies to loopback and private addresses.
    pub count_private: bool,
    /// A connection without Bitswap traffic for this long is idle.
    pub idle: Duration,
    /// A younger connection is not closed, unless it is in a temporary slot.
    pub settled: Duration,
    /// How long a temporary slot lasts: on a full node the newest connections without a request for a block are closed
    /// after it.
    pub temporary: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            inbound: 384,
            per_network: 32,
            count_private: false,
            idle: Duration::from_secs(10),
            settled: Duration::from_secs(20),
            temporary: Duration::from_secs(3),
        }
    }
}

/// A provider, and the addresses that a router knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutedProvider {
    /// Its peer ID.
    pub peer: PeerId,
    /// Where it can be dialled; may be empty.
    pub addresses: Vec<Multiaddr>,
}

/// Searches the providers of a CID with servers that the user named.
#[derive(Clone)]
pub struct Router(Arc<dyn Fn(Cid) -> BoxFuture<'static, Vec<RoutedProvider>> + Send + Sync>);

impl Router {
    /// Creates a router of a function that returns what its servers know, within its own deadline.
    pub fn new(
        find: impl Fn(Cid) -> BoxFuture<'static, Vec<RoutedProvider>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(find))
    }

    pub(crate) fn find(&self, cid: Cid) -> BoxFuture<'static, Vec<RoutedProvider>> {
        (self.0)(cid)
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Router")
    }
}

/// The options of a node, as plain values; flags and files are read by `cli`.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node directory; it must exist.
    pub data_dir: PathBuf,
    /// Listen addresses for peers.
    pub listen: Vec<Multiaddr>,
    /// Addresses announced to peers instead of the listen addresses.
    pub announce: Vec<Multiaddr>,
    /// The peers to dial first.
    pub bootstrap: Bootstrap,
    /// Further peers of the network, dialled like those of earlier runs: whenever the node has no connection.
    pub listed_peers: Vec<Multiaddr>,
    /// Peers to stay connected to; they are redialled until the node stops.
    pub peers: Vec<Multiaddr>,
    /// HTTP servers to ask for blocks, beside those that provider records name.
    pub http_providers: Vec<HttpEndpoint>,
    /// The key of a private swarm.
    pub swarm_key: Option<SwarmKey>,
    /// The admin whose admission list and keys the node accepts in a private swarm: the peer ID of the admin key.
    pub swarm_admin: Option<PeerId>,
    /// Whether the node announces itself on the local network, and connects to peers that do.
    pub mdns: bool,
    /// Whether the names of first and configured peers are resolved in a private swarm, too.
    pub allow_dns: bool,
    /// The DNS servers for DNSLink lookups and for names in addresses of peers.
    pub dns: Dns,
    /// The key name under which pushes are published if they are shared. They are not: its record is published only if
    /// peers may have its root.
    pub unshared_key: Option<String>,
    /// Whether the node relays between peers that cannot dial each other: a little for strangers, without limits for members of
    /// a private swarm.
    pub relay_service: bool,
    /// Peers that it relays for without limits.
    pub relay_for: Vec<PeerId>,
    /// Searches providers in addition to the routing system.
    pub router: Option<Router>,
    /// How often announcements are repeated. Provider records live 48 hours at most.
    pub announce_every: Duration,
    /// The connection limits.
    pub limits: Limits,
    /// The memory limits for blocks.
    pub memory: BlockMemory,
    /// The maximum rates of blocks, over all peers.
    pub rates: Rates,
    /// Maximum bytes that the streams of all TCP connections of the process hold unread.
    pub unread: u64,
}

impl Options {
    /// Returns default options for a node in `data_dir`, without peers.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: Vec::new(),
            announce: Vec::new(),
            bootstrap: Bootstrap::None,
            listed_peers: Vec::new(),
            peers: Vec::new(),
            http_providers: Vec::new(),
            swarm_key: None,
            swarm_admin: None,
            mdns: false,
            allow_dns: false,
            dns: Dns::System,
            unshared_key: None,
            relay_service: false,
            relay_for: Vec::new(),
            router: None,
            announce_every: Duration::from_secs(12 * 60 * 60),
            limits: Limits::default(),
            memory: BlockMemory::default(),
            rates: Rates::default(),
            unread: 12 << 20,
        }
    }

    /// Rejects options that reach out of a private swarm: QUIC and DNS do not use the pre-shared key. With `allow_dns` the
    /// addresses of peers may have names.
    pub fn check(&self) -> Result<(), StartError> {
        if self.swarm_key.is_none() {
            return match self.swarm_admin {
                Some(_) => Err(AdminError::NotPrivate.into()),
                None => Ok(()),
            };
        }
        if self.bootstrap == Bootstrap::Public {
            let what = "public bootstrap".into();
            return Err(StartError::HalfPrivate { what, why: "those peers are on the public network" });
        }
        if let Dns::Servers(servers) = &self.dns {
            let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
            let what = format!("DNS resolver {}", servers.join(", "));
            return Err(StartError::HalfPrivate { what, why: NO_DNS });
        }
        if self.router.is_some() {
            let what = "--router".into();
            return Err(StartError::HalfPrivate { what, why: "its requests leave the private network" });
        }
        if let Some(provider) = self.http_providers.first() {
            let what = format!("HTTP provider {provider}");
            return Err(StartError::HalfPrivate { what, why: "HTTP does not use the swarm key" });
        }
        let bootstrap = self.bootstrap.addresses();
        let own = self.listen.iter().chain(&self.announce).map(|address| (address, NO_DNS));
        let peers = bootstrap.iter().chain(&self.peers).chain(&self.listed_peers);
        let peers = peers.map(|address| (address, NO_PEER_DNS));
        for (address, no_dns) in own.chain(peers) {
            let is_allowed = self.allow_dns && no_dns == NO_PEER_DNS;
            let dns = (!is_allowed && is_dns(address)).then_some(no_dns);
            if let Some(why) = quic(address).or(dns) {
                return Err(StartError::HalfPrivate { what: address.to_string(), why });
            }
        }
        Ok(())
    }

    /// Returns whether the node dials the peers of earlier runs. Without bootstrap peers it dials none by itself, unless all
    /// of them are members of its private swarm.
    pub(crate) fn remembers_peers(&self) -> bool {
        self.bootstrap != Bootstrap::None || self.swarm_key.is_some() || !self.listed_peers.is_empty()
    }

    /// Returns whether the names of peers are resolved: not in a private swarm, unless that is allowed.
    pub(crate) fn resolves_peers(&self) -> bool {
        self.swarm_key.is_none() || self.allow_dns
    }

    /// Returns whether IPNS records are used after their validity has ended, while no newer one is known: members of a private
    /// swarm are trusted, and often no time server is reachable there.
    pub(crate) fn uses_expired(&self) -> bool {
        self.swarm_key.is_some()
    }

    /// Returns whether the listen addresses can be dialled as they are on the node's network.
    pub(crate) fn trusts_listen_addresses(&self) -> bool {
        self.announce.is_empty() && self.bootstrap != Bootstrap::Public
    }
}

const NO_DNS: &str = "DNS lookups leave the private network; use IP addresses and IPNS keys";

const NO_PEER_DNS: &str = "DNS lookups leave the private network; use IP addresses, or allow the lookups for peers with --allow-dns";

fn quic(address: &Multiaddr) -> Option<&'static str> {
    let mut parts = address.iter();
    let is_quic = parts.any(|part| matches!(part, Protocol::Udp(_) | Protocol::Quic | Protocol::QuicV1));
    is_quic.then_some("QUIC has no pre-shared key; use a /tcp/ address")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn private() -> Options {
        Options { swarm_key: Some(SwarmKey::generate()), ..Options::new("unused") }
    }

    #[test]
    fn every_line_of_the_public_bootstrap_list_is_a_peer() {
        let lines = PUBLIC_PEERS.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(lines.count(), public_peers().count());
        assert!(public_peers().all(|peer| matches!(peer.iter().last(), Some(Protocol::P2p(_)))));
    }

    #[test]
    fn a_private_swarm_accepts_tcp_addresses_only() {
        let tcp: Multiaddr = "/ip4/127.0.0.1/tcp/4001".parse().unwrap();
        assert!(Options { listen: vec![tcp], ..private() }.check().is_ok());
        for text in ["/ip4/127.0.0.1/udp/4001/quic-v1", "/dns4/example.org/tcp/4001", "/dnsaddr/example.org"]
        {
            let address: Multiaddr = text.parse().unwrap();
            for options in [
                Options { listen: vec![address.clone()], ..private() },
                Options { announce: vec![address.clone()], ..private() },
                Options { peers: vec![address.clone()], ..private() },
                Options { bootstrap: Bootstrap::Peers(vec![address.clone()]), ..private() },
            ] {
                assert!(matches!(options.check(), Err(StartError::HalfPrivate { .. })), "{text}");
            }
        }
    }

    #[test]
    fn the_addresses_of_peers_may_have_names_in_a_private_swarm_if_that_is_allowed() {
        for text in ["/dns4/one/tcp/4001", "/dns6/one/tcp/4001", "/dns/one/tcp/4001", "/dnsaddr/example.org"]
        {
            let address: Multiaddr = text.parse().unwrap();
            let peers = Options { peers: vec![address.clone()], ..private() };
            assert!(peers.check().unwrap_err().to_string().contains("--allow-dns"), "{text}");
            for options in
                [peers, Options { bootstrap: Bootstrap::Peers(vec![address.clone()]), ..private() }]
            {
                assert!(Options { allow_dns: true, ..options }.check().is_ok(), "{text}");
            }
            let announced = Options { announce: vec![address], allow_dns: true, ..private() };
            assert!(announced.check().is_err(), "{text}: other members do not look it up");
        }
        let quic = vec!["/dns4/one/udp/4001/quic-v1".parse().unwrap()];
        assert!(Options { peers: quic, allow_dns: true, ..private() }.check().is_err());
        let servers = Dns::Servers(vec!["127.0.0.1:53".parse().unwrap()]);
        assert!(Options { dns: servers, allow_dns: true, ..private() }.check().is_err());
    }

    #[test]
    fn a_private_swarm_has_no_dns_resolver() {
        let options = Options { dns: Dns::Servers(vec!["127.0.0.1:53".parse().unwrap()]), ..private() };
        assert!(options.check().unwrap_err().to_string().contains("DNS resolver 127.0.0.1:53"));
        assert!(private().check().is_ok());
    }

    #[test]
    fn a_private_swarm_has_no_http_provider() {
        let options = Options { http_providers: vec!["http://127.0.0.1:8080".parse().unwrap()], ..private() };
        assert!(options.check().unwrap_err().to_string().contains("HTTP provider http://127.0.0.1:8080"));
    }

    #[test]
    fn a_private_swarm_has_no_public_bootstrap() {
        let options = Options { bootstrap: Bootstrap::Public, ..private() };
        assert!(options.check().unwrap_err().to_string().contains("public bootstrap"));
    }
}
