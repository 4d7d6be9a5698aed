//! The options that settings stand for: those of the instance, its content and its swarm.

use std::net::{Ipv4Addr, SocketAddr};

use ocipfs_node::{Bootstrap, Dns, Multiaddr, Router, SwarmKey};

use super::{Settings, peer_list, usage, values::DnsServer};
use crate::{
    cli::Exit,
    content::{self, SharePolicy},
    control::{Naming, Options},
    http::tls::Tls,
    http_client::routers,
    images::repository::RetentionPolicy,
    memory::Memory,
};

const LISTEN: &str = "127.0.0.1:5050";
const SWARM_TCP: [&str; 2] = ["/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001"];
const SWARM_QUIC: [&str; 2] = ["/ip4/0.0.0.0/udp/4001/quic-v1", "/ip6/::/udp/4001/quic-v1"];

impl Settings {
    pub(super) fn content(&self) -> content::Settings {
        let default = content::Settings::default();
        content::Settings {
            profile: self.profile.unwrap_or(default.profile),
            find_timeout: self.find_timeout.map_or(default.find_timeout, |time| time.0),
            stall_timeout: self.stall_timeout.map_or(default.stall_timeout, |time| time.0),
            digest_timeout: self.digest_timeout.map_or(default.digest_timeout, |time| time.0),
            cache_size: self.cache_size.map(|size| size.0),
            max_size: self.max_size.map(|size| size.0),
            memory: self.memory(),
            ..default
        }
    }

    fn memory(&self) -> Memory {
        self.max_memory.unwrap_or_default()
    }

    pub(super) fn policy(&self) -> RetentionPolicy {
        let default = RetentionPolicy::default();
        RetentionPolicy {
            upload_grace: self.upload_grace.map_or(default.upload_grace, |age| age.0),
            keep_untagged: self.keep_untagged.map_or(default.keep_untagged, |age| age.0),
            retention: self.retention.clone().unwrap_or_default(),
        }
    }

    /// Whether manifests without some of their blobs are accepted.
    pub fn sparse_images(&self) -> bool {
        self.sparse_images.unwrap_or_default()
    }

    /// What a command in the process works with.
    pub fn offline(&self) -> Options {
        let listen = self.listen.map_or_else(|| LISTEN.into(), |listen| listen.0.to_string());
        Options {
            swarm: None,
            change_network: false,
            data_dir: self.data_dir(),
            content: self.content(),
            policy: self.policy(),
            registry: self.shown_registry().unwrap_or_else(|| listen.clone()),
            listen,
            tls: self.tls.is_on(),
            access_rules: None,
            policies: None,
            shares_restricted: false,
            naming: self.naming(SharePolicy::All),
        }
    }

    /// The registry's address in references where it speaks TLS, if this process can read the certificates.
    fn shown_registry(&self) -> Option<String> {
        let tls = Tls::open(self.tls().ok().flatten()?).ok()?;
        Some(tls.shown_at(loopback(self.listen())))
    }

    pub(super) fn naming(&self, share: SharePolicy) -> Naming {
        Naming {
            share: self.share.unwrap_or(share),
            follow: self.follow.iter().flatten().map(|name| name.0).collect(),
            prefetch: self.prefetch.unwrap_or_default(),
            publish_key: self.publish_key.clone().unwrap_or_else(|| "self".into()),
        }
    }

    /// The servers to ask for providers.
    fn router(&self) -> Result<Option<Router>, Exit> {
        let Some(urls) = self.router.as_deref().filter(|urls| !urls.is_empty()) else { return Ok(None) };
        let router = routers::router(urls).map_err(|e| usage(e, "check the system's certificates"))?;
        Ok(Some(router))
    }

    /// What `serve` works with; the address of the registry is added once it is bound.
    pub fn online(&self) -> Result<Options, Exit> {
        let swarm_key = match &self.swarm_key {
            Some(path) => {
                let key = SwarmKey::read(path);
                Some(key.map_err(|e| usage(e, "`ocipfs swarm key > swarm.key` makes a new one"))?)
            }
            None if forced_private() => {
                let message = "LIBP2P_FORCE_PNET=1 is set, and there is no swarm key";
                return Err(usage(message, "name its file with --swarm-key, or unset the variable"));
            }
            None => None,
        };
        let private = swarm_key.is_some();
        let swarm = ocipfs_node::Options {
            listen: self.swarm_listen.clone().unwrap_or_else(|| default_swarm_listen(private)),
            announce: self.swarm_announce.clone().unwrap_or_default(),
            bootstrap: bootstrap(self.bootstrap.as_deref(), private)?,
            listed_peers: peer_list::read(self.bootstrap_from(), private)?,
            peers: self.peer.clone().unwrap_or_default(),
            http_providers: self.http_provider.clone().unwrap_or_default(),
            swarm_key,
            swarm_admin: self.swarm_admin.map(|admin| admin.0),
            mdns: self.mdns.unwrap_or(private),
            allow_dns: self.allow_dns.unwrap_or_default(),
            dns: dns(self.dns_resolver.as_deref()),
            relay_service: self.relay_service.unwrap_or_default(),
            relay_for: self.relay_for.iter().flatten().map(|peer| peer.0).collect(),
            router: self.router()?,
            memory: self.memory().shares().blocks,
            rates: self.rates(),
            unread: self.memory().shares().unread,
            ..ocipfs_node::Options::new(self.data_dir())
        };
        if swarm.swarm_admin.is_some() && !private {
            let message = "--swarm-admin is for private swarms, and there is no swarm key";
            return Err(usage(message, "name the key file with --swarm-key"));
        }
        swarm.check().map_err(|e| {
            usage(e, "a private swarm is reached over TCP at IP addresses; --allow-dns allows names of peers")
        })?;
        let share = if swarm.bootstrap == Bootstrap::Public { SharePolicy::Added } else { SharePolicy::All };
        Ok(Options {
            swarm: Some(swarm),
            change_network: false,
            data_dir: self.data_dir(),
            content: self.content(),
            policy: self.policy(),
            registry: String::new(),
            listen: String::new(),
            tls: self.tls.is_on(),
            access_rules: None,
            policies: None,
            shares_restricted: private && self.access.shares_restricted(),
            naming: self.naming(share),
        })
    }
}

/// No client pulls from 0.0.0.0; from this machine, loopback is right.
pub fn loopback(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    address
}

fn forced_private() -> bool {
    std::env::var_os("LIBP2P_FORCE_PNET").is_some_and(|value| value == "1")
}

fn default_swarm_listen(private: bool) -> Vec<Multiaddr> {
    let quic: &[&str] = if private { &[] } else { &SWARM_QUIC };
    SWARM_TCP.iter().chain(quic).filter_map(|text| text.parse().ok()).collect()
}

pub(super) fn bootstrap(given: Option<&[String]>, private: bool) -> Result<Bootstrap, Exit> {
    match given {
        None | Some([]) if private => Ok(Bootstrap::None),
        None | Some([]) => Ok(Bootstrap::Public),
        Some([one]) if one == "public" => Ok(Bootstrap::Public),
        Some([one]) if one == "none" => Ok(Bootstrap::None),
        Some(peers) => {
            let hint = "it is `public`, `none`, or multiaddrs that end in /p2p/<peer id>";
            let parse =
                |text: &String| text.parse().map_err(|e| usage(format!("--bootstrap {text}: {e}"), hint));
            Ok(Bootstrap::Peers(peers.iter().map(parse).collect::<Result<_, _>>()?))
        }
    }
}

pub(super) fn dns(servers: Option<&[DnsServer]>) -> Dns {
    match servers {
        None | Some([]) => Dns::System,
        Some(servers) => Dns::Servers(servers.iter().map(|server| server.0).collect()),
    }
}
