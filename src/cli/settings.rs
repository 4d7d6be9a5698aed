//! What `serve` can be told, by the same names as flags, in the environment and in the file.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use bytesize::ByteSize;
use clap::{Args, Parser};
use ocipfs_node::{Bootstrap, Dns, Multiaddr, SwarmKey};
use serde::Deserialize;

use super::{Exit, Global};
use crate::{
    content::{self, Profile, Share},
    control::{Failure, Naming, Options},
    images::repository::{Policy, Rule},
    memory::Memory,
    names::prefetch::Prefetch,
    registry::{Access, PublicUrl, Pull, Users},
};

const LISTEN: &str = "127.0.0.1:5050";
const SWARM_TCP: &str = "/ip4/0.0.0.0/tcp/4001";
const DNS_PORT: u16 = 53;
const SWARM_QUIC: &str = "/ip4/0.0.0.0/udp/4001/quic-v1";

/// Settings as they were given; what is absent has its default.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    #[arg(skip)]
    data_dir: Option<PathBuf>,
    /// Where the registry answers; port 0 picks a free one [default: 127.0.0.1:5050]
    #[arg(long, value_name = "ADDRESS", env = "OCIPFS_LISTEN")]
    listen: Option<SocketAddr>,
    /// Where peers are listened for [default: TCP and QUIC on port 4001 of every interface]
    #[arg(long, value_name = "MULTIADDR", env = "OCIPFS_SWARM_LISTEN", value_delimiter = ',', num_args = 1..)]
    swarm_listen: Option<Vec<Multiaddr>>,
    /// What peers are told instead: behind NAT, in Docker or Kubernetes
    #[arg(long, value_name = "MULTIADDR", env = "OCIPFS_SWARM_ANNOUNCE", value_delimiter = ',', num_args = 1..)]
    swarm_announce: Option<Vec<Multiaddr>>,
    /// Whom to dial first: `public`, `none`, or peers of one's own [default: public; none with a swarm key]
    #[arg(long, value_name = "public|none|MULTIADDR", env = "OCIPFS_BOOTSTRAP", value_delimiter = ',', num_args = 1..)]
    bootstrap: Option<Vec<String>>,
    /// A peer that is kept connected
    #[arg(long, value_name = "MULTIADDR", env = "OCIPFS_PEER", value_delimiter = ',', num_args = 1..)]
    peer: Option<Vec<Multiaddr>>,
    /// The key of a private swarm (`ocipfs swarm key` makes one): TCP only, no public peers, no DNS
    #[arg(long, value_name = "FILE", env = "OCIPFS_SWARM_KEY")]
    swarm_key: Option<PathBuf>,
    /// How long somebody who has a CID is looked for [default: 10s]
    #[arg(long, value_name = "TIME", env = "OCIPFS_FIND_TIMEOUT")]
    find_timeout: Option<Time>,
    /// How long a transfer may make no progress [default: 30s]
    #[arg(long, value_name = "TIME", env = "OCIPFS_STALL_TIMEOUT")]
    stall_timeout: Option<Time>,
    /// A DNS server, with a port or without, for names by domain (`ipns/example.org`) [default: the system's; none with a swarm key]
    #[arg(long, value_name = "ADDRESS", env = "OCIPFS_DNS_RESOLVER", value_delimiter = ',', num_args = 1..)]
    dns_resolver: Option<Vec<DnsServer>>,
    /// The shape of DAGs that are written: `unixfs-v1-2025` or `legacy` [default: unixfs-v1-2025]
    #[arg(long, value_name = "PROFILE", env = "OCIPFS_PROFILE")]
    profile: Option<Profile>,
    /// The most that is kept of what was only pulled: beyond it, what was used least lately goes [default: no limit]
    #[arg(long, value_name = "SIZE", env = "OCIPFS_CACHE_SIZE")]
    cache_size: Option<ByteSize>,
    /// The most that is stored at all: what is added beyond it is refused, pulls stream through [default: no limit]
    #[arg(long, value_name = "SIZE", env = "OCIPFS_MAX_SIZE")]
    max_size: Option<ByteSize>,
    /// Memory for all that peers and clients do, beyond what an idle node uses; at least 48MiB [default: 150MiB]
    #[arg(long, value_name = "SIZE", env = "OCIPFS_MAX_MEMORY")]
    max_memory: Option<Memory>,
    /// How long a pushed blob waits for a manifest that references it [default: 1h]
    #[arg(long, value_name = "TIME", env = "OCIPFS_UPLOAD_GRACE")]
    upload_grace: Option<Age>,
    /// How long a manifest can still be pulled by digest after its last tag was moved or removed [default: 7d]
    #[arg(long, value_name = "TIME", env = "OCIPFS_KEEP_UNTAGGED")]
    keep_untagged: Option<Age>,
    /// Keep the newest TAGS tags of matching repositories and those younger than TIME, either of which may be left out; applied at the start, each hour and by `repo gc`; the first matching rule applies, rules are separated by `;` [default: keep all tags]
    #[arg(long, value_name = "PATTERN=TAGS[,TIME]", env = "OCIPFS_RETENTION", value_delimiter = ';', num_args = 1..)]
    retention: Option<Vec<Rule>>,
    /// Who may push: users and their bcrypt hashes, as `htpasswd -B` writes them [default: none; clients on this machine push through a loopback address]
    #[arg(long, value_name = "FILE", env = "OCIPFS_HTPASSWD")]
    htpasswd: Option<PathBuf>,
    /// Where clients reach the registry if a proxy stands before it, as in https://registry.example; without --htpasswd pushes are refused then [default: as they ask for it]
    #[arg(long, value_name = "URL", env = "OCIPFS_PUBLIC_URL")]
    public_url: Option<PublicUrl>,
    /// Who may pull: `everybody`, or the `users` of --htpasswd, who log in [default: everybody]
    #[arg(long, value_name = "users|everybody", env = "OCIPFS_PULL")]
    pull: Option<Pull>,
    /// What peers are given: `added`, which leaves out what is pushed here, or `all` [default: added on the public network, else all]
    #[arg(long, value_name = "added|all", env = "OCIPFS_SHARE")]
    share: Option<Share>,
    /// Names whose repositories are known here by their own names, in this order, before those of `ocipfs name follow`
    #[arg(long, value_name = "NAME", env = "OCIPFS_FOLLOW", value_delimiter = ',', num_args = 1..)]
    follow: Option<Vec<IpnsName>>,
    /// What of followed names is fetched before it is asked for: `none`, `manifests`, or `all`, which includes the layers: only then are they here when the publisher is gone [default: manifests]
    #[arg(long, value_name = "POLICY", env = "OCIPFS_PREFETCH")]
    prefetch: Option<Prefetch>,
    /// The key under whose name the pushed repositories are published [default: self]
    #[arg(long, value_name = "KEY", env = "OCIPFS_PUBLISH_KEY")]
    publish_key: Option<String>,
}

/// A name as the file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct IpnsName(ocipfs_node::IpnsName);

impl FromStr for IpnsName {
    type Err = ocipfs_node::InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix("/ipns/").unwrap_or(text).parse().map(Self)
    }
}

impl TryFrom<String> for IpnsName {
    type Error = ocipfs_node::InvalidName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// A duration as people write it: `10s`, `1m 30s`, `500ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Time(Duration);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match humantime::parse_duration(text) {
            Ok(time) if !time.is_zero() => Ok(Self(time)),
            Ok(_) => Err("it must be longer than nothing".into()),
            Err(error) => Err(format!("{error}; times are written as 10s or 1m 30s")),
        }
    }
}

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A duration that may be zero: `7d`, `0s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Age(Duration);

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = humantime::parse_duration(text);
        parsed.map(Self).map_err(|error| format!("{error}; times are written as 7d or 1h 30m"))
    }
}

impl TryFrom<String> for Age {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Where a DNS server answers: `192.0.2.1`, `192.0.2.1:5353` or `[2001:db8::1]:53`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DnsServer(SocketAddr);

impl FromStr for DnsServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT)));
        address.map(Self).map_err(|_| {
            format!(
                "{text:?} is no address of a DNS server: 192.0.2.1, 192.0.2.1:53 or [2001:db8::1]:53 would be"
            )
        })
    }
}

impl TryFrom<String> for DnsServer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
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

impl Settings {
    pub fn from_environment() -> Result<Self, Exit> {
        let environment = Environment::try_parse_from(std::iter::empty::<String>());
        environment
            .map(|e| e.settings)
            .map_err(|e| Exit::Usage(Failure::new(e.to_string().trim_start_matches("error: ").trim_end())))
    }

    /// Takes from the file what neither flags nor environment said.
    pub fn or_file(self, global: &Global) -> Result<Self, Exit> {
        let data_dir = global.data_dir.clone().or_else(default_data_dir);
        let file = match (&global.config, &data_dir) {
            (Some(path), _) => Self::read(path)?,
            (None, Some(dir)) if dir.join("config.toml").is_file() => Self::read(&dir.join("config.toml"))?,
            _ => Self::default(),
        };
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
        })
    }

    fn read(path: &std::path::Path) -> Result<Self, Exit> {
        let hint = "its keys are the long flags of `ocipfs serve`, without the dashes in front";
        let text = std::fs::read_to_string(path).map_err(|e| {
            usage(
                format!("cannot read the settings in {}: {e}", path.display()),
                "name another with --config",
            )
        })?;
        toml::from_str(&text)
            .map_err(|e| usage(format!("{}: {}", path.display(), e.to_string().trim_end()), hint))
    }

    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_default()
    }

    /// The file of the swarm key.
    pub fn swarm_key(&self) -> Option<&std::path::Path> {
        self.swarm_key.as_deref()
    }

    pub fn listen(&self) -> SocketAddr {
        self.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 5050)))
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
        let registry = self.listen.map_or_else(|| LISTEN.into(), |address| address.to_string());
        Options {
            swarm: None,
            change_network: false,
            data_dir: self.data_dir(),
            content: self.content(),
            policy: self.policy(),
            registry,
            naming: self.naming(Share::All),
        }
    }

    fn naming(&self, share: Share) -> Naming {
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
        let share = if swarm.bootstrap == Bootstrap::Public { Share::Added } else { Share::All };
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
    fn the_file_knows_the_flags_names_and_no_others() {
        let settings = file(
            r#"
            listen = "127.0.0.1:6000"
            swarm-listen = ["/ip4/127.0.0.1/tcp/0"]
            bootstrap = ["none"]
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
        assert_eq!(settings.find_timeout, Some(Time(Duration::from_secs(3))));
        assert_eq!(settings.profile, Some(Profile::Legacy));
        let servers = ["127.0.0.1:53", "[::1]:5353"].map(|text| text.parse().unwrap());
        assert_eq!(dns(settings.dns_resolver.as_deref()), Dns::Servers(servers.to_vec()));
        assert!(file("dns-resolver = [\"dns.example\"]").unwrap_err().to_string().contains("no address"));
        assert_eq!(settings.content().cache_size, Some(10 << 30));
        assert_eq!(settings.content().max_size, Some(4096));
        assert_eq!(settings.content().memory.bytes(), 64 << 20);
        assert!(file("max-memory = \"1MiB\"").unwrap_err().to_string().contains("too small"));
        let policy = settings.policy();
        assert_eq!((policy.upload_grace.as_secs(), policy.keep_untagged), (7200, Duration::ZERO));
        assert_eq!(policy.retention, ["team/*=10,30d".parse().unwrap()]);
        assert!(file("cache-size = \"much\"").is_err());
        assert!(settings.pull == Some(Pull::Users) && settings.access().is_err(), "there are no users");
        assert!(file("pull = \"nobody\"").unwrap_err().to_string().contains("everybody"));
        let naming = settings.naming(Share::All);
        assert_eq!((naming.share, naming.follow.len(), naming.prefetch), (Share::Added, 1, Prefetch::All));
        assert!(file("follow = [\"nonsense\"]").is_err());
        assert!(file("liste = 1").unwrap_err().to_string().contains("unknown field"));
        assert!(file("find-timeout = \"soon\"").is_err());
        assert!(file("profile = \"v9\"").is_err());
    }

    #[test]
    fn every_flag_of_serve_is_a_key_of_the_file() {
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
