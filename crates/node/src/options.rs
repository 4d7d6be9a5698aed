use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use libp2p::{Multiaddr, multiaddr::Protocol};

use crate::{BlockMemory, Error, SwarmKey};

const PUBLIC_PEERS: &str = include_str!("../../../bootstrap/public-peers.txt");

/// Whom a node dials first to find the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// The public IPFS network.
    Public,
    /// Nobody: the node knows those who dial it, and its static peers.
    None,
    /// These peers.
    Peers(Vec<Multiaddr>),
}

impl Bootstrap {
    /// The addresses to dial.
    pub fn addresses(&self) -> Vec<Multiaddr> {
        match self {
            Self::Public => public_peers().collect(),
            Self::None => Vec::new(),
            Self::Peers(peers) => peers.clone(),
        }
    }
}

/// Who is asked what a domain means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Dns {
    /// The servers of the system's configuration; nobody where there is a swarm key.
    #[default]
    System,
    /// These servers.
    Servers(Vec<SocketAddr>),
}

fn public_peers() -> impl Iterator<Item = Multiaddr> {
    let lines = PUBLIC_PEERS.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Multiaddr::from_str(line).ok())
}

/// How many connections a node has.
///
/// Above `inbound` and `connections` an idle connection gives way to a new one, or a visit where none is idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All connections.
    pub connections: usize,
    /// Those of them that peers opened.
    pub inbound: usize,
    /// Those of them that come from one IPv4 address or one IPv6 /64.
    pub of_a_network: usize,
    /// Whether loopback and private addresses are bounded so, too.
    pub count_private: bool,
    /// A connection without a byte of Bitswap for so long is idle.
    pub idle: Duration,
    /// A younger connection does not give way, unless it is a visit.
    pub settled: Duration,
    /// Of a full node, the newest connections on which nothing was asked for give way after so long: time to learn of
    /// other peers.
    pub visit: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            inbound: 384,
            of_a_network: 32,
            count_private: false,
            idle: Duration::from_secs(10),
            settled: Duration::from_secs(20),
            visit: Duration::from_secs(3),
        }
    }
}

/// How a node is started. Plain values: who reads flags and files is `cli`.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node directory; it must exist.
    pub data_dir: PathBuf,
    /// Where peers are listened for.
    pub listen: Vec<Multiaddr>,
    /// What peers are told instead of the listen addresses.
    pub announce: Vec<Multiaddr>,
    /// Whom to dial first.
    pub bootstrap: Bootstrap,
    /// Peers kept connected, redialled for ever.
    pub peers: Vec<Multiaddr>,
    /// The key of a private swarm.
    pub swarm_key: Option<SwarmKey>,
    /// Who is asked what a domain means.
    pub dns: Dns,
    /// The word of the key that pushes are published under where they are shared, and are not: its record is told only if
    /// peers may have the root that it leads to.
    pub unshared_key: Option<String>,
    /// How often what is announced is announced again. Provider records live 48 hours at most.
    pub announce_every: Duration,
    /// How many connections it has.
    pub limits: Limits,
    /// How many bytes of blocks it has in memory.
    pub memory: BlockMemory,
    /// How many bytes the streams of all TCP connections of the process hold unread.
    pub unread: u64,
}

impl Options {
    /// Plain options for a node in `data_dir` that nobody is told of.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen: Vec::new(),
            announce: Vec::new(),
            bootstrap: Bootstrap::None,
            peers: Vec::new(),
            swarm_key: None,
            dns: Dns::System,
            unshared_key: None,
            announce_every: Duration::from_secs(12 * 60 * 60),
            limits: Limits::default(),
            memory: BlockMemory::default(),
            unread: 12 << 20,
        }
    }

    /// Refuses what would reach out of a private swarm: QUIC and DNS know no pre-shared key.
    pub fn check(&self) -> Result<(), Error> {
        if self.swarm_key.is_none() {
            return Ok(());
        }
        if self.bootstrap == Bootstrap::Public {
            let what = "public bootstrap".into();
            return Err(Error::HalfPrivate { what, why: "those peers are on the public network" });
        }
        if let Dns::Servers(servers) = &self.dns {
            let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
            let what = format!("the DNS resolver {}", servers.join(", "));
            return Err(Error::HalfPrivate { what, why: NO_DNS });
        }
        let bootstrap = self.bootstrap.addresses();
        let all = self.listen.iter().chain(&self.announce).chain(&bootstrap).chain(&self.peers);
        for address in all {
            if let Some(why) = leak(address) {
                return Err(Error::HalfPrivate { what: address.to_string(), why });
            }
        }
        Ok(())
    }

    /// Whether the node is on a network where its listen addresses can be dialled as they are.
    pub(crate) fn trusts_listen_addresses(&self) -> bool {
        self.announce.is_empty() && self.bootstrap != Bootstrap::Public
    }
}

const NO_DNS: &str = "a DNS look-up leaves the private network; use IP addresses, and names of keys";

fn leak(address: &Multiaddr) -> Option<&'static str> {
    address.iter().find_map(|part| match part {
        Protocol::Udp(_) | Protocol::Quic | Protocol::QuicV1 => {
            Some("QUIC has no pre-shared key; use a /tcp/ address")
        }
        Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_) => Some(NO_DNS),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn private() -> Options {
        Options { swarm_key: Some(SwarmKey::generate()), ..Options::new("unused") }
    }

    #[test]
    fn every_line_of_the_public_list_is_a_peer() {
        let lines = PUBLIC_PEERS.lines().filter(|line| !line.starts_with('#'));
        assert_eq!(lines.count(), public_peers().count());
        assert!(public_peers().all(|peer| matches!(peer.iter().last(), Some(Protocol::P2p(_)))));
    }

    #[test]
    fn a_private_swarm_takes_tcp_only() {
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
                assert!(matches!(options.check(), Err(Error::HalfPrivate { .. })), "{text}");
            }
        }
    }

    #[test]
    fn a_private_swarm_has_no_dns_resolver() {
        let options = Options { dns: Dns::Servers(vec!["127.0.0.1:53".parse().unwrap()]), ..private() };
        assert!(options.check().unwrap_err().to_string().contains("the DNS resolver 127.0.0.1:53"));
        assert!(private().check().is_ok());
    }

    #[test]
    fn a_private_swarm_has_no_public_bootstrap() {
        let options = Options { bootstrap: Bootstrap::Public, ..private() };
        assert!(options.check().unwrap_err().to_string().contains("public bootstrap"));
    }
}
