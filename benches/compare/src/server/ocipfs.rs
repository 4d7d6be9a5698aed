//! `ocipfs serve` and the commands that speak to it.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{Process, finish, free_port, multiaddr};
use crate::{
    Failure,
    client::Url,
    proxy::{Link, Proxy},
    push::Repository,
    rpc::Rpc,
    scenarios::Room,
    secure::Secure,
};

const TO_CONNECT: Duration = Duration::from_secs(60);
pub const TO_GREET: Duration = Duration::from_millis(500);

/// How a node is started.
#[derive(Default)]
pub struct Serve<'a> {
    /// Peers that it keeps connected.
    pub peers: Vec<String>,
    /// The only address that it tells others.
    pub announce: Option<String>,
    /// A directory that another run left.
    pub again_in: Option<&'a Path>,
    /// The IPNS name that it follows.
    pub follow: Option<String>,
    /// Whether it serves the RPC of Kubo.
    pub rpc: bool,
    /// Whether it serves blocks over HTTP.
    pub gateway: bool,
    /// HTTP servers that it asks for blocks.
    pub http_providers: Vec<String>,
    /// The certificate of its registry.
    pub tls: Option<&'a Secure>,
    /// Further arguments.
    pub more: Vec<OsString>,
}

/// A layer, as `layer add` prints it.
#[derive(Clone, Deserialize)]
#[serde(from = "Printed")]
pub struct Added {
    reference: String,
    pub layer: String,
    digest: String,
    pub size: u64,
}

#[derive(Deserialize)]
struct Printed {
    reference: String,
    layers: [PrintedLayer; 1],
}

#[derive(Deserialize)]
struct PrintedLayer {
    layer: String,
    digest: String,
    size: u64,
}

impl From<Printed> for Added {
    fn from(Printed { reference, layers: [PrintedLayer { layer, digest, size }] }: Printed) -> Self {
        Self { reference, layer, digest, size }
    }
}

/// Output of `image import` for one image.
#[derive(Deserialize)]
struct Imported {
    reference: String,
}

/// Fields of `status` that the measurements use.
#[derive(Deserialize)]
pub struct Status {
    pub peers: usize,
    pub sent_bytes: Option<u64>,
    pub received_bytes: Option<u64>,
    pub received_blocks: Option<u64>,
    pub registry: String,
    identity: Identity,
}

#[derive(Deserialize)]
struct Identity {
    peer: String,
    listen: Vec<String>,
}

/// A running node.
pub struct Ocipfs<'a> {
    process: Process,
    room: &'a Room,
    dir: PathBuf,
    ready: Status,
    rpc: Option<SocketAddr>,
}

impl<'a> Ocipfs<'a> {
    pub fn start(room: &'a Room, serve: &Serve) -> Result<Self, Failure> {
        let dir = serve.again_in.map_or_else(|| room.new_dir("ocipfs"), |dir| Ok(dir.to_path_buf()))?;
        let mut command = command(room, &dir);
        command.args(["serve", "--listen", "127.0.0.1:0", "--swarm-listen", "/ip4/127.0.0.1/tcp/0"]);
        command.args(serve.peers.iter().flat_map(|peer| ["--peer", peer]));
        command.args(serve.follow.iter().flat_map(|name| ["--follow", name]));
        command.args(serve.announce.iter().flat_map(|address| ["--swarm-announce", address]));
        command.args(serve.gateway.then_some("--gateway"));
        command.args(serve.http_providers.iter().flat_map(|url| ["--http-provider", url]));
        if let Some(Secure { certificate, key, .. }) = serve.tls {
            command.arg("--tls-cert").arg(certificate).arg("--tls-key").arg(key);
        }
        command.args(&serve.more);
        let rpc = serve.rpc.then(free_port).transpose()?;
        command.args(rpc.iter().flat_map(|rpc| ["--rpc-listen".into(), rpc.to_string()]));
        let mut process = room.children.start(&mut command, &dir)?;
        let ready = process.line().map_err(|error| format!("ocipfs did not start: {error}"))?;
        Ok(Self { process, room, dir, ready: serde_json::from_value(ready)?, rpc })
    }

    /// Starts one that is reached over a link alone; gives the address of that too.
    pub fn behind(
        room: &'a Room,
        link: Link,
        again_in: Option<&Path>,
    ) -> Result<(Self, Proxy, String), Failure> {
        Self::start_behind(room, link, Serve { again_in, ..Serve::default() })
    }

    /// The same with the RPC of Kubo.
    pub fn behind_with_rpc(room: &'a Room, link: Link) -> Result<(Self, Proxy, String), Failure> {
        Self::start_behind(room, link, Serve { rpc: true, ..Serve::default() })
    }

    fn start_behind(room: &'a Room, link: Link, serve: Serve) -> Result<(Self, Proxy, String), Failure> {
        let mut proxy = Proxy::bind()?;
        let announce = Some(multiaddr(proxy.address()));
        let node = Self::start(room, &Serve { announce, ..serve })?;
        proxy.lead(node.swarm()?, link);
        let address = node.at(&proxy);
        Ok((node, proxy, address))
    }

    /// Starts one with the RPC of Kubo that is connected to a peer.
    pub fn connected_with_rpc(room: &'a Room, peer: &str) -> Result<Self, Failure> {
        Self::connected_at_with_rpc(room, &[peer], 1)
    }

    /// The same for so many peers with these addresses.
    pub fn connected_at_with_rpc(room: &'a Room, addresses: &[&str], peers: usize) -> Result<Self, Failure> {
        let addresses = addresses.iter().map(|address| (*address).into()).collect();
        let node = Self::start(room, &Serve { peers: addresses, rpc: true, ..Serve::default() })?;
        node.until_connected(peers)?;
        thread::sleep(TO_GREET);
        Ok(node)
    }

    /// Where its registry listens.
    pub fn registry(&self) -> Result<SocketAddr, Failure> {
        Ok(self.ready.registry.parse()?)
    }

    /// Its peer ID.
    pub fn peer(&self) -> &str {
        &self.ready.identity.peer
    }

    /// Its RPC.
    pub fn rpc(&self) -> Result<Rpc, Failure> {
        Ok(Rpc(self.rpc.ok_or("it has no RPC")?))
    }

    /// Starts one that is connected to these.
    pub fn connected_to(room: &'a Room, peers: &[&str]) -> Result<Self, Failure> {
        let peers = peers.iter().map(|peer| (*peer).into()).collect::<Vec<_>>();
        let count = peers.len();
        let node = Self::start(room, &Serve { peers, ..Serve::default() })?;
        node.until_connected(count)?;
        // Peers tell each other what they speak after they are connected.
        thread::sleep(TO_GREET);
        Ok(node)
    }

    /// Ends it and removes what it stored.
    pub fn discard(self) -> Result<(), Failure> {
        let Self { process, dir, .. } = self;
        drop(process);
        Ok(std::fs::remove_dir_all(dir)?)
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where others reach it directly.
    pub fn address(&self) -> &str {
        self.ready.identity.listen.first().map_or("", String::as_str)
    }

    /// Where others reach it through a proxy.
    pub fn at(&self, proxy: &Proxy) -> String {
        format!("{}/p2p/{}", multiaddr(proxy.address()), self.ready.identity.peer)
    }

    /// Its own IPNS name, under which it publishes what is pushed to it.
    pub fn name(&self) -> Result<String, Failure> {
        let listed: serde_json::Value = serde_json::from_str(&self.ask(&["name", "ls"])?)?;
        Ok(listed[0]["name"].as_str().ok_or("it has no name")?.to_string())
    }

    /// Where its swarm listens.
    pub fn swarm(&self) -> Result<std::net::SocketAddr, Failure> {
        super::socket_address(self.address())
    }

    /// Adds a tar, or with `ipfs://` what a peer has.
    pub fn add(&self, path: &str) -> Result<Added, Failure> {
        Ok(serde_json::from_str(&self.ask(&["layer", "add", path])?)?)
    }

    /// Fetches what another node added.
    pub fn fetch(&self, added: &Added) -> Result<(), Failure> {
        let fetched = self.add(&format!("ipfs://{}", added.layer))?;
        match fetched.digest == added.digest {
            true => Ok(()),
            false => Err(format!("{} was fetched, not {}", fetched.digest, added.digest).into()),
        }
    }

    pub fn status(&self) -> Result<Status, Failure> {
        Ok(serde_json::from_str(&self.ask(&["status"])?)?)
    }

    pub fn until_connected(&self, peers: usize) -> Result<(), Failure> {
        let start = Instant::now();
        while self.status()?.peers < peers {
            if start.elapsed() > TO_CONNECT {
                return Err(format!("not connected to {peers} peers: {}", super::log(&self.dir)).into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub fn until_connected_to_none(&self) -> Result<(), Failure> {
        let start = Instant::now();
        while self.status()?.peers > 0 {
            if start.elapsed() > TO_CONNECT {
                return Err("it is connected still".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub fn ask(&self, arguments: &[&str]) -> Result<String, Failure> {
        let mut command = command(self.room, &self.dir);
        finish(self.room.children.start(command.args(arguments), &self.dir.join("commands"))?)
    }

    /// A repository to push to.
    pub fn repository(&self, name: &str) -> Repository {
        Repository::new(&self.ready.registry, name)
    }

    /// Where this node has the blob of a layer.
    pub fn blob(&self, added: &Added) -> Result<Url, Failure> {
        self.url(added, &format!("blobs/{}", added.digest))
    }

    /// Where it has the manifest.
    pub fn manifest(&self, added: &Added) -> Result<Url, Failure> {
        self.url(added, "manifests/latest")
    }

    fn url(&self, added: &Added, end: &str) -> Result<Url, Failure> {
        Ok(self.at_name(repository(&added.reference)?, end))
    }

    /// Where it has a manifest or a blob of a repository.
    pub fn at_name(&self, name: &str, end: &str) -> Url {
        Url { host: self.ready.registry.clone(), path: format!("/v2/{name}/{end}") }
    }

    /// Imports an archive; the repository of its images.
    pub fn import(&self, path: &str) -> Result<String, Failure> {
        let imported: Vec<Imported> = serde_json::from_str(&self.ask(&["image", "import", path])?)?;
        let first = imported.first().ok_or("nothing was imported")?;
        Ok(repository(&first.reference)?.into())
    }
}

/// A reference without its registry and its tag.
fn repository(reference: &str) -> Result<&str, Failure> {
    let name = reference.split_once('/').and_then(|(_, name)| name.rsplit_once(':'));
    Ok(name.ok_or_else(|| format!("{reference} is no reference"))?.0)
}

/// The program with a directory of its own, and no settings but its arguments.
pub fn command(room: &Room, dir: &Path) -> Command {
    let mut command = Command::new(&room.programs.ocipfs);
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("OCIPFS_")) {
        command.env_remove(key);
    }
    command.env("OCIPFS_BOOTSTRAP", "none").env("OCIPFS_DATA_DIR", dir).arg("--json");
    command
}
