//! What `serve` can be told, by the same names as flags, in the environment and in the file.

mod access;
mod environment;
mod events;
mod file;
mod options;
mod page;
pub mod peer_list;
mod secure;
mod transfers;
mod values;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, CommandFactory, FromArgMatches, Parser};
use ocipfs_node::{HttpEndpoint, Multiaddr};
use serde::Deserialize;

use access::AccessSettings;
pub use environment::{check as check_environment, without_empty};
use events::EventSettings;
pub use options::loopback;
use page::PageSettings;
use peer_list::PeerList;
use secure::TlsSettings;
use transfers::TransferSettings;
pub use values::Size;
use values::{Age, DnsServer, IpnsNameArgument, Listen, PeerName, Time, list};

use super::{Exit, Global};
use crate::{
    content::{Profile, SharePolicy},
    control::Failure,
    http::{PolicyFile, acme, tls},
    http_client::routers::RouterUrl,
    images::repository::RetentionRule,
    memory::Memory,
    names::Prefetch,
    registry::Access,
};

/// Longer than a probe each second takes to fail.
pub const DRAIN_DELAY: Duration = Duration::from_secs(2);

/// Settings as they were given; what is absent has its default.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    #[arg(skip)]
    data_dir: Option<PathBuf>,
    /// Address of the registry: IP:PORT, localhost:PORT, or :PORT for all interfaces; port 0 picks a free port [default: 127.0.0.1:5050]
    #[arg(long, value_name = "ADDRESS", env = "OCIPFS_LISTEN")]
    listen: Option<Listen>,
    /// Addresses to listen on for peers [default: TCP and QUIC on port 4001 of all interfaces, over IPv4 and IPv6; TCP only with a swarm key]
    #[arg(long, value_name = "MULTIADDR", env = "OCIPFS_SWARM_LISTEN", value_delimiter = ',', num_args = 1..)]
    #[serde(default, deserialize_with = "list::deserialize")]
    swarm_listen: Option<Vec<Multiaddr>>,
    /// Addresses to announce to peers instead of those listened on, for nodes behind NAT, in Docker or in Kubernetes
    #[arg(long, value_name = "MULTIADDR", env = "OCIPFS_SWARM_ANNOUNCE", value_delimiter = ',', num_args = 1..)]
    #[serde(default, deserialize_with = "list::deserialize")]
    swarm_announce: Option<Vec<Multiaddr>>,
    /// Peers to dial at the start: `public` (the public IPFS network), `none`, or multiaddrs [default: public; none with a swarm key]
    #[arg(long, value_name = "public|none|MULTIADDR", env = "OCIPFS_BOOTSTRAP", value_delimiter = ',', num_args = 1..)]
    #[serde(default, deserialize_with = "list::deserialize")]
    bootstrap: Option<Vec<String>>,
    /// Lists of further peers to find the network by, as `ocipfs swarm export-peers` writes them: a file or a URL with one multiaddr on each line, or Kubo's AutoConf document
    #[arg(long, value_name = "FILE|URL", env = "OCIPFS_BOOTSTRAP_FROM", value_delimiter = ',', num_args = 1..)]
    #[serde(default, deserialize_with = "list::deserialize")]
    bootstrap_from: Option<Vec<PeerList>>,
    /// Servers of /routing/v1 to ask for providers beside the routing system, such as https://router.example [default: none]
    #[arg(long, value_name = "URL", env = "OCIPFS_ROUTER", value_delimiter = ',', num_args = 1..)]
    #[serde(default, deserialize_with = "list::deserialize")]
    router: Option<Vec<RouterUrl>>,
    /// Relay between peers that cannot dial each other: 128 KiB in two minutes for strangers, which is enough to open a direct connection; without limits for members of a private swarm [default: false]
    #[arg(long, env = "OCIPFS_RELAY_SERVICE", num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    relay_service: Option<bool>,
    /// Peers to relay for without limits, also to and from others; alone, the node relays for no other peer [default: none]
    #[arg(long, value_name = "PEER", env = "OCIPFS_RELAY_FOR", value_delimiter = ',', num_args = 1..)]
    #[serde(default, deserialize_with = "list::deserialize")]
    relay_for: Option<Vec<PeerName>>,
    /// Peers to stay connected to
    #[arg(long, value_name = "MULTIADDR", env = "OCIPFS_PEER", value_delimiter = ',', num_args = 1..)]
    #[serde(default, deserialize_with = "list::deserialize")]
    peer: Option<Vec<Multiaddr>>,
    /// HTTP servers to ask for blocks, beside those that provider records name: trustless gateways, by their URLs. Each block is verified. Refused with a swarm key
    #[arg(long, value_name = "URL", env = "OCIPFS_HTTP_PROVIDER", value_delimiter = ',', num_args = 1..)]
    #[serde(default, deserialize_with = "list::deserialize")]
    http_provider: Option<Vec<HttpEndpoint>>,
    /// Key file of a private swarm, as `ocipfs swarm key` writes it: TCP only, no public peers, no DNS but with --allow-dns
    #[arg(long, value_name = "FILE", env = "OCIPFS_SWARM_KEY")]
    swarm_key: Option<PathBuf>,
    /// Admin of the private swarm, as `ocipfs swarm admin init` prints it: only peers in the list that this admin signs are members [default: none; every holder of the swarm key is a member]
    #[arg(long, value_name = "PEER", env = "OCIPFS_SWARM_ADMIN")]
    swarm_admin: Option<PeerName>,
    /// Find peers on the local network by multicast DNS, on the interfaces of --swarm-listen; with a swarm key only members can read the announcements [default: true with a swarm key, else false]
    #[arg(long, env = "OCIPFS_MDNS", num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    mdns: Option<bool>,
    /// Resolve the names in --peer and --bootstrap (`/dns4/`, `/dns6/`, `/dnsaddr/`) also with a swarm key, with the system's resolver [default: false; without a swarm key they are always resolved]
    #[arg(long, env = "OCIPFS_ALLOW_DNS", num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    allow_dns: Option<bool>,
    /// How long to search for providers of a CID before it counts as not found [default: 10s]
    #[arg(long, value_name = "TIME", env = "OCIPFS_FIND_TIMEOUT")]
    find_timeout: Option<Time>,
    /// How long a digest under a name that is not a repository here is searched among peers before it counts as not found; 0s does not search [default: 50ms]
    #[arg(long, value_name = "TIME", env = "OCIPFS_DIGEST_TIMEOUT")]
    digest_timeout: Option<Age>,
    /// How long a transfer may make no progress before it fails [default: 30s]
    #[arg(long, value_name = "TIME", env = "OCIPFS_STALL_TIMEOUT")]
    stall_timeout: Option<Time>,
    /// DNS servers for names by domain (`ipns/example.org`) and for names in addresses of peers, as IP or IP:PORT [default: the system's; none with a swarm key]
    #[arg(long, value_name = "ADDRESS", env = "OCIPFS_DNS_RESOLVER", value_delimiter = ',', num_args = 1..)]
    #[serde(default, deserialize_with = "list::deserialize")]
    dns_resolver: Option<Vec<DnsServer>>,
    /// Profile of the UnixFS DAGs that are written: `unixfs-v1-2025`, `legacy` or `kubo-cid-v1`; it determines the CIDs [default: unixfs-v1-2025]
    #[arg(long, value_name = "PROFILE", env = "OCIPFS_PROFILE")]
    profile: Option<Profile>,
    /// Maximum size of the pull cache; the least recently used content is evicted [default: no limit]
    #[arg(long, value_name = "SIZE", env = "OCIPFS_CACHE_SIZE")]
    cache_size: Option<Size>,
    /// Maximum size of the store; adds and pushes beyond it are refused, pulls stream through uncached [default: no limit]
    #[arg(long, value_name = "SIZE", env = "OCIPFS_MAX_SIZE")]
    max_size: Option<Size>,
    /// Memory for requests of peers and clients, beyond what an idle node uses; at least 48MiB [default: 150MiB]
    #[arg(long, value_name = "SIZE", env = "OCIPFS_MAX_MEMORY")]
    max_memory: Option<Memory>,
    #[command(flatten)]
    #[serde(flatten)]
    transfers: TransferSettings,
    /// How long to keep a pushed blob that no manifest references yet [default: 1h]
    #[arg(long, value_name = "TIME", env = "OCIPFS_UPLOAD_GRACE")]
    upload_grace: Option<Age>,
    /// How long to keep a manifest after its last tag was moved or deleted; until then it can be pulled by digest [default: 7d]
    #[arg(long, value_name = "TIME", env = "OCIPFS_KEEP_UNTAGGED")]
    keep_untagged: Option<Age>,
    /// Keep the newest TAGS tags of matching repositories and the tags younger than TIME; either may be left out. Applied at the start, every hour and by `repo gc`. The first matching rule applies; rules are separated by `;` [default: keep all tags]
    #[arg(long, value_name = "PATTERN=TAGS[,TIME]", env = "OCIPFS_RETENTION", value_delimiter = ';', num_args = 1..)]
    #[serde(default, deserialize_with = "list::deserialize")]
    retention: Option<Vec<RetentionRule>>,
    /// Accept image manifests although their configuration or some of their layers are not in the repository; a pull of what is missing fails [default: false]
    #[arg(long, env = "OCIPFS_SPARSE_IMAGES", num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    sparse_images: Option<bool>,
    #[command(flatten)]
    #[serde(flatten)]
    access: AccessSettings,
    #[command(flatten)]
    #[serde(flatten)]
    tls: TlsSettings,
    /// Serve stored content that peers may get as blocks and CARs on the registry's address, below /ipfs/ (trustless gateway) [default: false]
    #[arg(long, env = "OCIPFS_GATEWAY", num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    gateway: Option<bool>,
    #[command(flatten)]
    #[serde(flatten)]
    page: PageSettings,
    /// Content to share with peers: `added` (added and pulled content, not pushed content) or `all` [default: added on the public network, all elsewhere]
    #[arg(long, value_name = "added|all", env = "OCIPFS_SHARE")]
    share: Option<SharePolicy>,
    /// IPNS names to follow; their repositories are served under their original names, in this order, before those of `ocipfs name follow`
    #[arg(long, value_name = "NAME", env = "OCIPFS_FOLLOW", value_delimiter = ',', num_args = 1..)]
    #[serde(default, deserialize_with = "list::deserialize")]
    follow: Option<Vec<IpnsNameArgument>>,
    /// Content of followed names to fetch in advance: `none`, `manifests`, or `all` (including layers, so that pulls succeed when the publisher is offline) [default: manifests]
    #[arg(long, value_name = "POLICY", env = "OCIPFS_PREFETCH")]
    prefetch: Option<Prefetch>,
    /// Key under whose IPNS name pushed repositories are published [default: self]
    #[arg(long, value_name = "KEY", env = "OCIPFS_PUBLISH_KEY")]
    publish_key: Option<String>,
    /// Address of the RPC API of Kubo, for nerdctl, stargz-snapshotter and other programs that speak to an IPFS daemon, such as 127.0.0.1:5001 [default: off]
    #[arg(long, value_name = "ADDRESS", env = "OCIPFS_RPC_LISTEN")]
    rpc_listen: Option<Listen>,
    /// File of the users of the RPC, as of --htpasswd; without one it listens on loopback only, and every program on this machine may use it [default: none]
    #[arg(long, value_name = "FILE", env = "OCIPFS_RPC_HTPASSWD")]
    rpc_htpasswd: Option<PathBuf>,
    /// File with Kubo's `API.Authorizations` as JSON: bearer tokens or passwords of clients of the RPC, and the paths that each may use [default: none]
    #[arg(long, value_name = "FILE", env = "OCIPFS_RPC_AUTHORIZATIONS")]
    rpc_authorizations: Option<PathBuf>,
    /// Directory in which clients look for the file `api` with the address of the RPC, such as ~/.ipfs; it is removed at the end [default: the node directory only]
    #[arg(long, value_name = "DIR", env = "OCIPFS_IPFS_PATH")]
    ipfs_path: Option<PathBuf>,
    /// Address of probes (/livez, /readyz, /startupz) and metrics (/metrics), without a login, such as 127.0.0.1:5060 [default: off]
    #[arg(long, value_name = "ADDRESS", env = "OCIPFS_ADMIN_LISTEN")]
    admin_listen: Option<Listen>,
    /// How long to serve new requests after SIGTERM, while /readyz says that the node stops: longer than a load balancer takes to notice [default: 2s with --admin-listen, 0s without]
    #[arg(long, value_name = "TIME", env = "OCIPFS_DRAIN_DELAY")]
    drain_delay: Option<Age>,
    #[command(flatten)]
    #[serde(flatten)]
    events: EventSettings,
    /// Log each HTTP request: client, user, method, path, status, bytes, duration [default: false]
    #[arg(long, env = "OCIPFS_ACCESS_LOG", num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    access_log: Option<bool>,
    /// Format of the log: `text` or `json`, one object per line [default: text]
    #[arg(long, value_name = "text|json", env = "OCIPFS_LOG_FORMAT")]
    log_format: Option<LogFormat>,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Reads the environment alone, for commands that have none of the flags.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Environment {
    #[command(flatten)]
    settings: Settings,
}

pub fn usage(message: impl ToString, hint: &str) -> Exit {
    Exit::Usage(Failure::new(message).hint(hint))
}

/// Returns the name that a misspelt one probably means.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let similar =
        known.map(|known| (strsim::jaro_winkler(name, known), known)).filter(|(like, _)| *like > 0.8);
    similar.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, known)| known)
}

impl Settings {
    pub fn from_environment() -> Result<Self, Exit> {
        let command = without_empty(Environment::command());
        let environment = command.try_get_matches_from(std::iter::empty::<String>());
        Ok(environment.and_then(|matches| Settings::from_arg_matches(&matches))?)
    }

    /// Takes from the file what neither flags nor environment said.
    pub fn or_file(self, global: &Global) -> Result<Self, Exit> {
        let data_dir = global.data_dir.clone().or_else(default_data_dir);
        let file = file::read(global, data_dir.as_ref())?;
        let data_dir = global.data_dir.clone().or(file.data_dir).or(data_dir);
        if data_dir.is_none() {
            return Err(usage(
                "there is no home directory for the node directory",
                "name one with --data-dir",
            ));
        }
        Ok(Self {
            data_dir,
            listen: self.listen.or(file.listen),
            swarm_listen: self.swarm_listen.or(file.swarm_listen),
            swarm_announce: self.swarm_announce.or(file.swarm_announce),
            bootstrap: self.bootstrap.or(file.bootstrap),
            bootstrap_from: self.bootstrap_from.or(file.bootstrap_from),
            router: self.router.or(file.router),
            relay_service: self.relay_service.or(file.relay_service),
            relay_for: self.relay_for.or(file.relay_for),
            peer: self.peer.or(file.peer),
            http_provider: self.http_provider.or(file.http_provider),
            swarm_key: self.swarm_key.or(file.swarm_key),
            swarm_admin: self.swarm_admin.or(file.swarm_admin),
            mdns: self.mdns.or(file.mdns),
            allow_dns: self.allow_dns.or(file.allow_dns),
            find_timeout: self.find_timeout.or(file.find_timeout),
            digest_timeout: self.digest_timeout.or(file.digest_timeout),
            stall_timeout: self.stall_timeout.or(file.stall_timeout),
            dns_resolver: self.dns_resolver.or(file.dns_resolver),
            profile: self.profile.or(file.profile),
            cache_size: self.cache_size.or(file.cache_size),
            max_size: self.max_size.or(file.max_size),
            max_memory: self.max_memory.or(file.max_memory),
            transfers: self.transfers.or(file.transfers),
            upload_grace: self.upload_grace.or(file.upload_grace),
            keep_untagged: self.keep_untagged.or(file.keep_untagged),
            retention: self.retention.or(file.retention),
            sparse_images: self.sparse_images.or(file.sparse_images),
            access: self.access.or(file.access),
            tls: self.tls.or(file.tls),
            gateway: self.gateway.or(file.gateway),
            page: self.page.or(file.page),
            share: self.share.or(file.share),
            follow: self.follow.or(file.follow),
            prefetch: self.prefetch.or(file.prefetch),
            publish_key: self.publish_key.or(file.publish_key),
            rpc_listen: self.rpc_listen.or(file.rpc_listen),
            rpc_htpasswd: self.rpc_htpasswd.or(file.rpc_htpasswd),
            rpc_authorizations: self.rpc_authorizations.or(file.rpc_authorizations),
            ipfs_path: self.ipfs_path.or(file.ipfs_path),
            admin_listen: self.admin_listen.or(file.admin_listen),
            drain_delay: self.drain_delay.or(file.drain_delay),
            events: self.events.or(file.events),
            access_log: self.access_log.or(file.access_log),
            log_format: self.log_format.or(file.log_format),
        })
    }

    /// Whether requests are logged.
    pub fn access_log(&self) -> bool {
        self.access_log.unwrap_or_default()
    }

    /// Whether the trustless gateway is served.
    pub fn gateway(&self) -> bool {
        self.gateway.unwrap_or_default()
    }

    /// The format of the log.
    pub fn log_format(&self) -> LogFormat {
        self.log_format.unwrap_or_default()
    }

    /// Lists of peers to find the network by.
    pub fn bootstrap_from(&self) -> &[PeerList] {
        self.bootstrap_from.as_deref().unwrap_or_default()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_default()
    }

    /// Whether the node directory is that of the user who has not chosen one.
    pub fn is_default_dir(&self) -> bool {
        self.data_dir == default_data_dir()
    }

    pub fn listen(&self) -> SocketAddr {
        self.listen.map_or_else(|| SocketAddr::from(([127, 0, 0, 1], 5050)), |listen| listen.0)
    }

    /// The address of the RPC, if it is served.
    pub fn rpc_listen(&self) -> Option<SocketAddr> {
        self.rpc_listen.map(|listen| listen.0)
    }

    /// The file of the users of the RPC.
    pub fn rpc_htpasswd(&self) -> Option<&std::path::Path> {
        self.rpc_htpasswd.as_deref()
    }

    /// The file of the authorizations of the RPC.
    pub fn rpc_authorizations(&self) -> Option<&std::path::Path> {
        self.rpc_authorizations.as_deref()
    }

    /// The directory in which clients look for the RPC.
    pub fn ipfs_path(&self) -> Option<&std::path::Path> {
        self.ipfs_path.as_deref()
    }

    /// The address of probes and metrics, if they are served.
    pub fn admin_listen(&self) -> Option<SocketAddr> {
        self.admin_listen.map(|listen| listen.0)
    }

    /// How long new requests are served after SIGTERM.
    pub fn drain_delay(&self) -> Duration {
        let default = if self.admin_listen.is_some() { DRAIN_DELAY } else { Duration::ZERO };
        self.drain_delay.map_or(default, |delay| delay.0)
    }

    /// Who may push and pull.
    pub fn access(&self) -> Result<Access, Exit> {
        self.access.access(self.tls.has_client_ca())
    }

    /// The signature policies, if there are some.
    pub fn policies(&self) -> Result<Option<PolicyFile>, Exit> {
        self.access.policies()
    }

    /// The files of TLS, if the registry speaks HTTPS.
    pub fn tls(&self) -> Result<Option<tls::Options>, Exit> {
        self.tls.options(self.access.has_users())
    }

    /// The ACME server, if certificates come from one.
    pub fn acme(&self) -> Option<acme::Options> {
        self.tls.acme(self.data_dir())
    }

    /// Files of private keys and secrets.
    pub fn keys(&self) -> impl Iterator<Item = &PathBuf> {
        self.swarm_key.iter().chain(self.tls.keys()).chain(self.events.secret())
    }

    /// The audit log and webhooks.
    pub fn events(&self) -> &EventSettings {
        &self.events
    }
}

fn default_data_dir() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| !home.as_os_str().is_empty()).map(|home| home.join(".ocipfs"))
}

#[cfg(test)]
mod tests;
