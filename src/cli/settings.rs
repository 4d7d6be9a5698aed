//! What `serve` can be told, by the same names as flags, in the environment and in the file.

mod environment;
mod file;
mod values;

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, CommandFactory, FromArgMatches, Parser};
use ocipfs_node::{Bootstrap, Dns, Multiaddr, SwarmKey};
use serde::Deserialize;

pub use environment::{check as check_environment, without_empty};
use values::{Age, DnsServer, IpnsName, Listen, Size, Time, list};

use super::{Exit, Global};
use crate::{
    content::{self, Profile, SharePolicy},
    control::{Failure, Naming, Options},
    images::repository::{Policy, Rule},
    memory::Memory,
    names::prefetch::Prefetch,
    registry::{Access, PublicUrl, Pull, Users},
};

const LISTEN: &str = "127.0.0.1:5050";
const SWARM_TCP: &str = "/ip4/0.0.0.0/tcp/4001";
const SWARM_QUIC: &str = "/ip4/0.0.0.0/udp/4001/quic-v1";

/// Settings as they were given; what is absent has its default.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    #[arg(skip)]
    data_dir: Option<PathBuf>,
    /// Address of the registry: IP:PORT, localhost:PORT, or :PORT for all interfaces; port 0 picks a free port [default: 127.0.0.1:5050]
    #[arg(long, value_name = "ADDRESS", env = "OCIPFS_LISTEN")]
    listen: Option<Listen>,
    /// Addresses to listen on for peers [default: TCP and QUIC on port 4001 of all interfaces]
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
    /// Peers to stay connected to
    #[arg(long, value_name = "MULTIADDR", env = "OCIPFS_PEER", value_delimiter = ',', num_args = 1..)]
    #[serde(default, deserialize_with = "list::deserialize")]
    peer: Option<Vec<Multiaddr>>,
    /// Key file of a private swarm, as `ocipfs swarm key` writes it: TCP only, no public peers, no DNS
    #[arg(long, value_name = "FILE", env = "OCIPFS_SWARM_KEY")]
    swarm_key: Option<PathBuf>,
    /// How long to search for providers of a CID before it counts as not found [default: 10s]
    #[arg(long, value_name = "TIME", env = "OCIPFS_FIND_TIMEOUT")]
    find_timeout: Option<Time>,
    /// How long a transfer may make no progress before it fails [default: 30s]
    #[arg(long, value_name = "TIME", env = "OCIPFS_STALL_TIMEOUT")]
    stall_timeout: Option<Time>,
    /// DNS servers for names by domain (`ipns/example.org`), as IP or IP:PORT [default: the system's; none with a swarm key]
    #[arg(long, value_name = "ADDRESS", env = "OCIPFS_DNS_RESOLVER", value_delimiter = ',', num_args = 1..)]
    #[serde(default, deserialize_with = "list::deserialize")]
    dns_resolver: Option<Vec<DnsServer>>,
    /// Profile of the UnixFS DAGs that are written: `unixfs-v1-2025` or `legacy`; it determines the CIDs [default: unixfs-v1-2025]
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
    /// How long to keep a pushed blob that no manifest references yet [default: 1h]
    #[arg(long, value_name = "TIME", env = "OCIPFS_UPLOAD_GRACE")]
    upload_grace: Option<Age>,
    /// How long to keep a manifest after its last tag was moved or deleted; until then it can be pulled by digest [default: 7d]
    #[arg(long, value_name = "TIME", env = "OCIPFS_KEEP_UNTAGGED")]
    keep_untagged: Option<Age>,
    /// Keep the newest TAGS tags of matching repositories and the tags younger than TIME; either may be left out. Applied at the start, every hour and by `repo gc`. The first matching rule applies; rules are separated by `;` [default: keep all tags]
    #[arg(long, value_name = "PATTERN=TAGS[,TIME]", env = "OCIPFS_RETENTION", value_delimiter = ';', num_args = 1..)]
    #[serde(default, deserialize_with = "list::deserialize")]
    retention: Option<Vec<Rule>>,
    /// File of the users who may push, with bcrypt hashes as `htpasswd -B` writes them; reloaded on SIGHUP and on change [default: none; only clients on this machine may push, through a loopback address]
    #[arg(long, value_name = "FILE", env = "OCIPFS_HTPASSWD")]
    htpasswd: Option<PathBuf>,
    /// URL at which clients reach the registry through a proxy, such as https://registry.example; pushes then require --htpasswd [default: as the Host header says]
    #[arg(long, value_name = "URL", env = "OCIPFS_PUBLIC_URL")]
    public_url: Option<PublicUrl>,
    /// Who may pull: `everybody`, or only the `users` of --htpasswd [default: everybody]
    #[arg(long, value_name = "users|everybody", env = "OCIPFS_PULL")]
    pull: Option<Pull>,
    /// Content to share with peers: `added` (added and pulled content, not pushed content) or `all` [default: added on the public network, all elsewhere]
    #[arg(long, value_name = "added|all", env = "OCIPFS_SHARE")]
    share: Option<SharePolicy>,
    /// IPNS names to follow; their repositories are served under their original names, in this order, before those of `ocipfs name follow`
    #[arg(long, value_name = "NAME", env = "OCIPFS_FOLLOW", value_delimiter = ',', num_args = 1..)]
    #[serde(default, deserialize_with = "list::deserialize")]
    follow: Option<Vec<IpnsName>>,
    /// Content of followed names to fetch in advance: `none`, `manifests`, or `all` (including layers, so that pulls succeed when the publisher is offline) [default: manifests]
    #[arg(long, value_name = "POLICY", env = "OCIPFS_PREFETCH")]
    prefetch: Option<Prefetch>,
    /// Key under whose IPNS name pushed repositories are published [default: self]
    #[arg(long, value_name = "KEY", env = "OCIPFS_PUBLISH_KEY")]
    publish_key: Option<String>,
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

fn usage(message: impl ToString, hint: &str) -> Exit {
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
            peer: self.peer.or(file.peer),
            swarm_key: self.swarm_key.or(file.swarm_key),
            find_timeout: self.find_timeout.or(file.find_timeout),
            stall_timeout: self.stall_timeout.or(file.stall_timeout),
            dns_resolver: self.dns_resolver.or(file.dns_resolver),
            profile: self.profile.or(file.profile),
            cache_size: self.cache_size.or(file.cache_size),
            max_size: self.max_size.or(file.max_size),
            max_memory: self.max_memory.or(file.max_memory),
            upload_grace: self.upload_grace.or(file.upload_grace),
            keep_untagged: self.keep_untagged.or(file.keep_untagged),
            retention: self.retention.or(file.retention),
            htpasswd: self.htpasswd.or(file.htpasswd),
            public_url: self.public_url.or(file.public_url),
            pull: self.pull.or(file.pull),
            share: self.share.or(file.share),
            follow: self.follow.or(file.follow),
            prefetch: self.prefetch.or(file.prefetch),
            publish_key: self.publish_key.or(file.publish_key),
            access_log: self.access_log.or(file.access_log),
            log_format: self.log_format.or(file.log_format),
        })
    }

    /// Whether requests are logged.
    pub fn access_log(&self) -> bool {
        self.access_log.unwrap_or_default()
    }

    /// The format of the log.
    pub fn log_format(&self) -> LogFormat {
        self.log_format.unwrap_or_default()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_default()
    }

    /// The file of the swarm key.
    pub fn swarm_key(&self) -> Option<&std::path::Path> {
        self.swarm_key.as_deref()
    }

    pub fn listen(&self) -> SocketAddr {
        self.listen.map_or_else(|| SocketAddr::from(([127, 0, 0, 1], 5050)), |listen| listen.0)
    }

    /// Who may push and pull.
    pub fn access(&self) -> Result<Access, Exit> {
        let hint = "`htpasswd -B -c FILE NAME` makes such a file";
        let read = |path: &PathBuf| Users::read(path).map_err(|e| usage(e, hint));
        let (users, pull) = (self.htpasswd.as_ref().map(read).transpose()?, self.pull.unwrap_or_default());
        if pull == Pull::Users && users.is_none() {
            return Err(usage("--pull users needs a file of users", "name it with --htpasswd FILE"));
        }
        Ok(Access::new(users, pull, self.public_url.clone()))
    }

    fn content(&self) -> content::Settings {
        let default = content::Settings::default();
        content::Settings {
            profile: self.profile.unwrap_or(default.profile),
            find_timeout: self.find_timeout.map_or(default.find_timeout, |time| time.0),
            stall_timeout: self.stall_timeout.map_or(default.stall_timeout, |time| time.0),
            cache_size: self.cache_size.map(|size| size.0),
            max_size: self.max_size.map(|size| size.0),
            memory: self.memory(),
            ..default
        }
    }

    fn memory(&self) -> Memory {
        self.max_memory.unwrap_or_default()
    }

    fn policy(&self) -> Policy {
        let default = Policy::default();
        Policy {
            upload_grace: self.upload_grace.map_or(default.upload_grace, |age| age.0),
            keep_untagged: self.keep_untagged.map_or(default.keep_untagged, |age| age.0),
            retention: self.retention.clone().unwrap_or_default(),
        }
    }

    /// What a command in the process works with.
    pub fn offline(&self) -> Options {
        let registry = self.listen.map_or_else(|| LISTEN.into(), |listen| listen.0.to_string());
        Options {
            swarm: None,
            change_network: false,
            data_dir: self.data_dir(),
            content: self.content(),
            policy: self.policy(),
            registry,
            naming: self.naming(SharePolicy::All),
        }
    }

    fn naming(&self, share: SharePolicy) -> Naming {
        Naming {
            share: self.share.unwrap_or(share),
            follow: self.follow.iter().flatten().map(|name| name.0).collect(),
            prefetch: self.prefetch.unwrap_or_default(),
            publish_key: self.publish_key.clone().unwrap_or_else(|| "self".into()),
        }
    }

    /// What `serve` works with; `registry` is the address that was bound.
    pub fn online(&self, registry: String) -> Result<Options, Exit> {
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
            peers: self.peer.clone().unwrap_or_default(),
            swarm_key,
            dns: dns(self.dns_resolver.as_deref()),
            memory: self.memory().shares().blocks,
            unread: self.memory().shares().unread,
            ..ocipfs_node::Options::new(self.data_dir())
        };
        swarm
            .check()
            .map_err(|e| usage(e, "a private swarm is reached over TCP at IP addresses, and only there"))?;
        let share = if swarm.bootstrap == Bootstrap::Public { SharePolicy::Added } else { SharePolicy::All };
        Ok(Options {
            swarm: Some(swarm),
            change_network: false,
            data_dir: self.data_dir(),
            content: self.content(),
            policy: self.policy(),
            registry,
            naming: self.naming(share),
        })
    }
}

fn default_data_dir() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| !home.as_os_str().is_empty()).map(|home| home.join(".ocipfs"))
}

fn forced_private() -> bool {
    std::env::var_os("LIBP2P_FORCE_PNET").is_some_and(|value| value == "1")
}

fn default_swarm_listen(private: bool) -> Vec<Multiaddr> {
    let addresses: &[&str] = if private { &[SWARM_TCP] } else { &[SWARM_TCP, SWARM_QUIC] };
    addresses.iter().filter_map(|text| text.parse().ok()).collect()
}

fn bootstrap(given: Option<&[String]>, private: bool) -> Result<Bootstrap, Exit> {
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

fn dns(servers: Option<&[DnsServer]>) -> Dns {
    match servers {
        None | Some([]) => Dns::System,
        Some(servers) => Dns::Servers(servers.iter().map(|server| server.0).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Settings, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn the_config_file_has_the_names_of_the_flags_and_rejects_others() {
        let settings = file(
            r#"
            listen = "127.0.0.1:6000"
            swarm-listen = ["/ip4/127.0.0.1/tcp/0"]
            bootstrap = "none"
            peer = "/ip4/127.0.0.1/tcp/1"
            log-format = "json"
            access-log = true
            find-timeout = "3s"
            profile = "legacy"
            dns-resolver = ["127.0.0.1", "[::1]:5353"]
            cache-size = "10GiB"
            max-size = 4096
            max-memory = "64MiB"
            share = "added"
            pull = "users"
            prefetch = "all"
            follow = ["k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8"]
            upload-grace = "2h"
            keep-untagged = "0s"
            retention = [{ repositories = "team/*", keep-tags = 10, keep-days = 30 }]
            "#,
        )
        .unwrap();
        assert_eq!(settings.listen().port(), 6000);
        assert_eq!(settings.find_timeout, Some("3s".parse().unwrap()));
        assert_eq!(settings.profile, Some(Profile::Legacy));
        let servers = ["127.0.0.1:53", "[::1]:5353"].map(|text| text.parse().unwrap());
        assert_eq!(dns(settings.dns_resolver.as_deref()), Dns::Servers(servers.to_vec()));
        assert!(
            file("dns-resolver = [\"dns.example\"]").unwrap_err().to_string().contains("invalid DNS server")
        );
        assert_eq!(settings.content().cache_size, Some(10 << 30));
        assert_eq!(settings.content().max_size, Some(4096));
        assert_eq!(settings.content().memory.bytes(), 64 << 20);
        assert!(file("max-memory = \"1MiB\"").unwrap_err().to_string().contains("too small"));
        let policy = settings.policy();
        assert_eq!((policy.upload_grace.as_secs(), policy.keep_untagged), (7200, std::time::Duration::ZERO));
        assert_eq!(policy.retention, ["team/*=10,30d".parse().unwrap()]);
        assert!(file("cache-size = \"much\"").is_err());
        assert!(settings.pull == Some(Pull::Users) && settings.access().is_err(), "there are no users");
        assert!(file("pull = \"nobody\"").unwrap_err().to_string().contains("everybody"));
        let naming = settings.naming(SharePolicy::All);
        assert_eq!(
            (naming.share, naming.follow.len(), naming.prefetch),
            (SharePolicy::Added, 1, Prefetch::All)
        );
        assert!(file("follow = [\"nonsense\"]").is_err());
        assert!(file("liste = 1").unwrap_err().to_string().contains("unknown field"));
        assert_eq!(bootstrap(settings.bootstrap.as_deref(), false).unwrap(), Bootstrap::None);
        assert_eq!((settings.peer.as_ref().unwrap().len(), settings.log_format()), (1, LogFormat::Json));
        assert!(settings.access_log());
        assert!(file("find-timeout = \"soon\"").is_err());
        assert!(file("profile = \"v9\"").is_err());
    }

    #[test]
    fn every_serve_flag_is_a_config_file_key_and_an_environment_variable() {
        use clap::CommandFactory;
        for argument in Environment::command().get_arguments().filter(|a| a.get_env().is_some()) {
            let name = argument.get_long().unwrap();
            let env = argument.get_env().unwrap().to_str().unwrap();
            assert_eq!(env, format!("OCIPFS_{}", name.to_uppercase().replace('-', "_")));
            let error = file(&format!("{name} = 1.5")).unwrap_err().to_string();
            assert!(!error.contains("unknown field"), "{name}: {error}");
        }
    }

    #[test]
    fn bootstrap_is_public_none_or_peers() {
        let given = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(bootstrap(None, false).unwrap(), Bootstrap::Public);
        assert_eq!(bootstrap(None, true).unwrap(), Bootstrap::None);
        assert_eq!(bootstrap(Some(&given(&["none"])), false).unwrap(), Bootstrap::None);
        assert_eq!(bootstrap(Some(&given(&["public"])), true).unwrap(), Bootstrap::Public);
        let two = bootstrap(Some(&given(&["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2"])), false).unwrap();
        assert!(matches!(two, Bootstrap::Peers(peers) if peers.len() == 2));
        assert!(matches!(bootstrap(Some(&given(&["somewhere"])), false), Err(Exit::Usage(_))));
    }
}
