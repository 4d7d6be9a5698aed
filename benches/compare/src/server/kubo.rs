//! Kubo, whose daemon ocipfs can replace: on loopback, without other peers, telemetry and DNS.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use super::{Process, finish, free_port, multiaddr};
use crate::{
    Failure,
    proxy::{Link, Proxy, UdpProxy},
    rpc::Rpc,
    scenarios::Room,
};

const MODULE: &str = "github.com/ipfs/kubo";
const VERSION: &str = "v0.43.0";

/// A running daemon.
pub struct Kubo {
    process: Process,
    dir: PathBuf,
    api: SocketAddr,
    swarm: SocketAddr,
    quic: SocketAddr,
    /// How long it took until its RPC answered.
    pub until_answered: Duration,
}

/// How a daemon is started.
#[derive(Default)]
pub struct Settings {
    /// The only addresses that it tells others.
    pub announce: Vec<String>,
    /// The URL of the only router that it asks for providers.
    pub router: Option<String>,
}

/// A daemon that is reached over a link alone.
pub struct Distant {
    pub node: Kubo,
    /// Where it is reached over TCP and over QUIC.
    pub tcp: String,
    pub quic: String,
    _proxies: (Proxy, UdpProxy),
}

impl Kubo {
    /// Starts one with an empty repository, which announces one address if that is given.
    pub fn start(room: &Room, announce: Option<SocketAddr>) -> Result<Self, Failure> {
        let announce = announce.map(multiaddr).into_iter().collect();
        Self::start_with(room, &Settings { announce, router: None })
    }

    /// Starts one with an empty repository.
    pub fn start_with(room: &Room, settings: &Settings) -> Result<Self, Failure> {
        let dir = room.new_dir("kubo")?;
        let (api, swarm, quic) = (free_port()?, free_port()?, free_udp_port()?);
        command(room, &dir, &["init", "--profile", "test"])?;
        let Settings { announce, router } = settings;
        let kind = if router.is_some() { "delegated" } else { "none" };
        for (key, value) in [
            ("Bootstrap", "[]".to_owned()),
            ("AutoConf.Enabled", "false".into()),
            ("AutoTLS.Enabled", "false".into()),
            ("Swarm.RelayClient.Enabled", "false".into()),
            ("Swarm.DisableNatPortMap", "true".into()),
            ("DNS.Resolvers", "{}".into()),
            ("Discovery.MDNS.Enabled", "false".into()),
            ("Routing.Type", format!("{kind:?}")),
            ("Routing.DelegatedRouters", serde_json::to_string(router.as_slice())?),
            // A node that only asks a router announces nothing.
            ("Provide.Enabled", "false".into()),
            ("Ipns.DelegatedPublishers", "[]".into()),
            ("Addresses.API", format!("{:?}", multiaddr(api))),
            ("Addresses.Gateway", "[]".into()),
            ("Addresses.Swarm", format!("[{:?},{:?}]", multiaddr(swarm), quic_multiaddr(quic))),
            ("Addresses.Announce", serde_json::to_string(announce)?),
        ] {
            command(room, &dir, &["config", "--json", key, &value])?;
        }
        let start = Instant::now();
        let process = room.children.start(program(room, &dir)?.arg("daemon"), &dir)?;
        let until_answered = Rpc(api).until_answered(start)?;
        Ok(Self { process, dir, api, swarm, quic, until_answered })
    }

    /// Starts one that is reached over a link alone, over TCP and over QUIC.
    pub fn distant(room: &Room, link: &Link) -> Result<Distant, Failure> {
        let (mut proxy, udp) = (Proxy::bind()?, UdpProxy::bind()?);
        let (tcp, quic) = (multiaddr(proxy.address()), quic_multiaddr(udp.address()));
        let announce = vec![tcp.clone(), quic.clone()];
        let node = Self::start_with(room, &Settings { announce, router: None })?;
        proxy.lead(node.swarm, link.clone());
        udp.lead(node.quic, link.clone());
        let id = node.id()?;
        let at = |address: String| format!("{address}/p2p/{id}");
        Ok(Distant { node, tcp: at(tcp), quic: at(quic), _proxies: (proxy, udp) })
    }

    fn id(&self) -> Result<String, Failure> {
        let id = self.rpc().call("id")?;
        Ok(id["ID"].as_str().ok_or("Kubo has no peer ID")?.into())
    }

    /// Its RPC.
    pub fn rpc(&self) -> Rpc {
        Rpc(self.api)
    }

    /// Ends it and removes what it stored.
    pub fn discard(self) -> Result<(), Failure> {
        let Self { process, dir, .. } = self;
        drop(process);
        Ok(fs::remove_dir_all(dir)?)
    }
}

fn free_udp_port() -> Result<SocketAddr, Failure> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?)
}

fn quic_multiaddr(address: SocketAddr) -> String {
    format!("/ip4/{}/udp/{}/quic-v1", address.ip(), address.port())
}

fn program(room: &Room, dir: &Path) -> Result<Command, Failure> {
    let mut command = Command::new(room.programs.kubo()?);
    command.env("IPFS_PATH", dir.join("repository")).env("IPFS_TELEMETRY", "off");
    Ok(command)
}

fn command(room: &Room, dir: &Path, arguments: &[&str]) -> Result<String, Failure> {
    finish(room.children.start(program(room, dir)?.args(arguments), dir)?)
}

/// Builds the daemon, which takes Go minutes from nothing.
pub fn build(dir: &Path) -> Result<PathBuf, Failure> {
    let (module, program) = (dir.join("kubo-module"), dir.join("ipfs"));
    fs::create_dir_all(&module)?;
    fs::write(module.join("go.mod"), format!("module kubo\n\ngo 1.25\n\nrequire {MODULE} {VERSION}\n"))?;
    let go = if Path::new("/usr/local/go/bin/go").exists() { "/usr/local/go/bin/go" } else { "go" };
    let package = format!("{MODULE}/cmd/ipfs");
    let mut command = Command::new(go);
    command.args(["build", "-mod=mod", "-o"]).arg(&program).arg(package).current_dir(module);
    let output = command.env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "local").output()?;
    match output.status.success() {
        true => Ok(program),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().into()),
    }
}
