//! Kubo, whose daemon ocipfs can replace: on loopback, without other peers, telemetry and DNS.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use super::{Process, finish, free_port, multiaddr};
use crate::{
    Failure,
    proxy::{Link, Proxy},
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
    /// How long it took until its RPC answered.
    pub until_answered: Duration,
}

impl Kubo {
    /// Starts one with an empty repository, which announces one address if that is given.
    pub fn start(room: &Room, announce: Option<SocketAddr>) -> Result<Self, Failure> {
        let dir = room.new_dir("kubo")?;
        let (api, swarm) = (free_port()?, free_port()?);
        command(room, &dir, &["init", "--profile", "test"])?;
        let announce = announce.map(multiaddr).into_iter().collect::<Vec<_>>();
        for (key, value) in [
            ("Bootstrap", "[]".to_owned()),
            ("AutoConf.Enabled", "false".into()),
            ("AutoTLS.Enabled", "false".into()),
            ("Swarm.RelayClient.Enabled", "false".into()),
            ("Swarm.DisableNatPortMap", "true".into()),
            ("DNS.Resolvers", "{}".into()),
            ("Discovery.MDNS.Enabled", "false".into()),
            ("Routing.Type", "\"none\"".into()),
            ("Routing.DelegatedRouters", "[]".into()),
            ("Ipns.DelegatedPublishers", "[]".into()),
            ("Addresses.API", format!("{:?}", multiaddr(api))),
            ("Addresses.Gateway", "[]".into()),
            ("Addresses.Swarm", format!("[{:?}]", multiaddr(swarm))),
            ("Addresses.Announce", serde_json::to_string(&announce)?),
        ] {
            command(room, &dir, &["config", "--json", key, &value])?;
        }
        let start = Instant::now();
        let process = room.children.start(program(room, &dir)?.arg("daemon"), &dir)?;
        let until_answered = Rpc(api).until_answered(start)?;
        Ok(Self { process, dir, api, swarm, until_answered })
    }

    /// Starts one that is reached over a link alone; gives the address of that too.
    pub fn behind(room: &Room, link: Link) -> Result<(Self, Proxy, String), Failure> {
        let mut proxy = Proxy::bind()?;
        let node = Self::start(room, Some(proxy.address()))?;
        proxy.lead(node.swarm, link);
        let id = node.rpc().call("id")?;
        let id = id["ID"].as_str().ok_or("Kubo has no peer ID")?;
        let address = format!("{}/p2p/{id}", multiaddr(proxy.address()));
        Ok((node, proxy, address))
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
