//! Nodes and Kubo daemons on the hosts of a lab.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::lab::{Lab, run};
use crate::{
    harness::{Serve, noise},
    peers::kubo::{Daemon, Kubo},
};

const PATIENCE: Duration = Duration::from_secs(40);
pub const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// How long a fetch may take at most.
const FETCH_SECONDS: &str = "60";

/// The transport that hosts behind NAT use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Quic,
}

impl Transport {
    pub fn address(self, ip: &str, port: u16) -> String {
        match self {
            Self::Tcp => format!("/ip4/{ip}/tcp/{port}"),
            Self::Quic => format!("/ip4/{ip}/udp/{port}/quic-v1"),
        }
    }
}

/// A node on a host, with the RPC to fetch by.
pub struct Host<'a> {
    lab: &'a Lab,
    host: &'static str,
    pub node: Serve,
}

impl<'a> Host<'a> {
    pub fn start(lab: &'a Lab, host: &'static str, listen: &[String], arguments: &[&str]) -> Self {
        Self::start_with(lab, host, listen, arguments, &[])
    }

    /// Starts one with further environment variables.
    pub fn start_with(
        lab: &'a Lab,
        host: &'static str,
        listen: &[String],
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut all = vec!["--rpc-listen", "127.0.0.1:0", "--swarm-listen"];
        all.extend(listen.iter().map(String::as_str));
        all.extend(arguments);
        Self { lab, host, node: Serve::start_in_namespace(&lab.name(host), &all, environment) }
    }

    /// Starts one in a node directory that has settings.
    pub fn start_in(lab: &'a Lab, host: &'static str, data_dir: &Path, arguments: &[&str]) -> Self {
        let all = [&["--rpc-listen", "127.0.0.1:0"], arguments].concat();
        Self { lab, host, node: Serve::start_in_namespace_and(&lab.name(host), data_dir, &all) }
    }

    fn rpc(&self, path: &str) -> String {
        let api = fs::read_to_string(self.node.data_dir().join("api")).expect("the RPC's address");
        let port = api.trim().rsplit('/').next().expect("a port");
        format!("http://127.0.0.1:{port}/api/v0/{path}")
    }

    /// Adds bytes, waits until their root is announced, and returns their CID.
    pub fn add(&self, bytes: &[u8]) -> String {
        let cid = self.add_unannounced(bytes);
        until("the content is announced", || (self.node.status()["announcing"] == 0).then_some(()));
        cid
    }

    /// Adds bytes, and returns their CID.
    pub fn add_unannounced(&self, bytes: &[u8]) -> String {
        let file = self.node.data_dir().join("added");
        fs::write(&file, bytes).expect("a file");
        let form = format!("file=@{}", file.display());
        let url = self.rpc("add?cid-version=1&quieter=true");
        let answer = run(self.lab.command(self.host, "curl").args(["-s", "-X", "POST", "-F", &form, &url]));
        let last = answer.lines().last().expect("an answer");
        serde_json::from_str::<Value>(last).expect("JSON")["Hash"].as_str().expect("a CID").into()
    }

    /// Fetches a file by its CID; an error is what the node says.
    pub fn cat(&self, cid: &str) -> Result<Vec<u8>, String> {
        let mut curl = self.lab.command(self.host, "curl");
        curl.args(["-s", "-X", "POST", "--max-time", FETCH_SECONDS, "-w", "%{http_code}"]);
        let out = self.node.data_dir().join("fetched");
        let said = curl.arg("-o").arg(&out).arg(self.rpc(&format!("cat?arg={cid}"))).output().expect("curl");
        let body = fs::read(&out).unwrap_or_default();
        match String::from_utf8_lossy(&said.stdout).trim() {
            "200" => Ok(body),
            status => Err(format!("{status}: {}", String::from_utf8_lossy(&body))),
        }
    }

    /// Waits until peers are told an address through a relay.
    pub fn has_circuit(&self) {
        until("a reservation on a relay", || {
            self.announced().iter().any(|address| is_circuit(address)).then_some(())
        });
    }

    /// Returns the addresses that peers are told.
    pub fn announced(&self) -> Vec<String> {
        let id = self.node.json(&["swarm", "id"]);
        let all = id["announced"].as_array().expect("a list").iter();
        all.map(|address| address.as_str().expect("a text").into()).collect()
    }

    /// Returns the addresses by which a peer is connected.
    pub fn connected_by(&self, peer: &str) -> Option<String> {
        let peers = self.node.json(&["swarm", "peers"]);
        let found = peers.as_array()?.iter().find(|known| known["peer"] == peer)?.clone();
        Some(found["address"].as_str()?.into())
    }

    /// Returns whether a peer is connected without a relay.
    pub fn is_direct(&self, peer: &str) -> bool {
        self.connected_by(peer).is_some_and(|address| !is_circuit(&address))
    }
}

pub fn is_circuit(address: &str) -> bool {
    address.contains("/p2p-circuit")
}

/// A Kubo daemon on a host.
pub struct KuboHost {
    pub kubo: Kubo,
    _daemon: Daemon,
}

const QUIET: &[(&str, &str)] = &[
    ("Addresses.NoAnnounce", "[]"),
    ("Routing.DelegatedRouters", "[]"),
    ("Swarm.Transports.Network.Websocket", "false"),
    ("Swarm.Transports.Network.WebRTCDirect", "false"),
    ("Swarm.Transports.Network.WebTransport", "false"),
    ("Swarm.ResourceMgr.Enabled", "false"),
    ("HTTPRetrieval.Enabled", "false"),
];

impl KuboHost {
    fn start(lab: &Lab, host: &str, settings: &[(&str, &str)]) -> Self {
        let kubo = Kubo::in_namespace(&lab.name(host));
        let settings = [QUIET, settings].concat();
        let daemon = kubo.daemon(&settings);
        Self { kubo, _daemon: daemon }
    }

    /// A relay with the limits of the network, which is also a server of its routing system.
    pub fn relay(lab: &Lab) -> Self {
        let limits = r#"{"Enabled":true,"MaxReservations":4096,"MaxReservationsPerIP":4096,"MaxReservationsPerASN":4096,"MaxCircuits":64}"#;
        Self::start(
            lab,
            "r",
            &[
                ("Addresses.Swarm", r#"["/ip4/0.0.0.0/tcp/4001","/ip4/0.0.0.0/udp/4001/quic-v1"]"#),
                ("Routing.Type", r#""dhtserver""#),
                ("Swarm.EnableHolePunching", "false"),
                ("AutoNAT.ServiceMode", r#""enabled""#),
                ("Internal.Libp2pForceReachability", r#""public""#),
                ("Swarm.RelayService", limits),
            ],
        )
    }

    /// A server of the routing system in a private network.
    pub fn router(lab: &Lab, host: &str) -> Self {
        let listen = r#"["/ip4/0.0.0.0/tcp/4001"]"#;
        Self::start(
            lab,
            host,
            &[
                ("Addresses.Swarm", listen),
                ("Routing.Type", r#""dhtserver""#),
                ("AutoNAT.ServiceMode", r#""disabled""#),
            ],
        )
    }

    /// A daemon that knows no peer, and finds those on the local network.
    pub fn with_mdns(lab: &Lab, host: &str) -> Self {
        Self::start(
            lab,
            host,
            &[
                ("Addresses.Swarm", r#"["/ip4/0.0.0.0/tcp/4001"]"#),
                ("Discovery.MDNS.Enabled", "true"),
                ("Routing.Type", r#""none""#),
                ("AutoNAT.ServiceMode", r#""disabled""#),
            ],
        )
    }

    /// A daemon that listens on WebSocket only.
    pub fn websocket(lab: &Lab, host: &str, ip: &str) -> Self {
        let listen = format!("[\"/ip4/{ip}/tcp/4001/ws\"]");
        Self::start(
            lab,
            host,
            &[
                ("Addresses.Swarm", &listen),
                ("Swarm.Transports.Network.Websocket", "true"),
                ("Routing.Type", r#""none""#),
                ("AutoNAT.ServiceMode", r#""disabled""#),
            ],
        )
    }

    /// A daemon that can be dialled and asks the routing system without serving it: only a record leads to it.
    pub fn provider(lab: &Lab, host: &str, bootstrap: &[&str]) -> Self {
        let bootstrap = serde_json::json!(bootstrap).to_string();
        Self::start(
            lab,
            host,
            &[
                ("Addresses.Swarm", r#"["/ip4/0.0.0.0/tcp/4001"]"#),
                ("Bootstrap", &bootstrap),
                ("Routing.Type", r#""dhtclient""#),
                ("Provide.Enabled", "true"),
                ("AutoNAT.ServiceMode", r#""disabled""#),
                ("Internal.Libp2pForceReachability", r#""public""#),
            ],
        )
    }

    /// A daemon behind NAT, which knows the relay.
    pub fn behind_nat(lab: &Lab, host: &str, transport: Transport, port: u16, relay: &str) -> Self {
        let listen = format!("[\"{}\"]", transport.address("0.0.0.0", port));
        let (bootstrap, client) =
            (format!("[\"{relay}\"]"), format!(r#"{{"Enabled":true,"StaticRelays":["{relay}"]}}"#));
        let (tcp, quic) = match transport {
            Transport::Tcp => ("true", "false"),
            Transport::Quic => ("false", "true"),
        };
        Self::start(
            lab,
            host,
            &[
                ("Addresses.Swarm", &listen),
                ("Bootstrap", &bootstrap),
                ("Routing.Type", r#""dhtclient""#),
                ("Provide.Enabled", "true"),
                ("Swarm.Transports.Network.TCP", tcp),
                ("Swarm.Transports.Network.QUIC", quic),
                ("Swarm.EnableHolePunching", "true"),
                ("Swarm.RelayService.Enabled", "false"),
                ("Swarm.RelayClient", &client),
                ("AutoNAT.ServiceMode", r#""disabled""#),
                ("Internal.Libp2pForceReachability", r#""private""#),
            ],
        )
    }

    pub fn peer(&self) -> String {
        self.kubo.run(&["id", "-f", "<id>"])
    }

    /// Waits until it has a reservation. Kubo may dial the relay before it listens: then the relay sees a port that leads
    /// nowhere, no hole can be punched as long as that connection lives, and it has to connect again.
    pub fn has_circuit(&self, relay: &Self, relay_address: &str, port: u16) {
        let me = self.peer();
        let (tcp, udp) = (format!("/tcp/{port}"), format!("/udp/{port}/"));
        until("Kubo's reservation on a relay", || {
            let peers = relay.kubo.run(&["swarm", "peers"]);
            let seen: Vec<&str> = peers.lines().filter(|line| line.contains(&me)).collect();
            if !seen.is_empty() && !seen.iter().any(|line| line.contains(&tcp) || line.contains(&udp)) {
                let id = relay_address.rsplit('/').next().expect("a peer ID");
                let _ = self.kubo.try_run(&["swarm", "disconnect", &format!("/p2p/{id}")]);
                let _ = self.kubo.try_run(&["swarm", "connect", relay_address]);
                return None;
            }
            (!seen.is_empty() && is_circuit(&self.kubo.run(&["id"]))).then_some(())
        });
    }

    /// Adds bytes, announces them, and returns their CID.
    pub fn add(&self, bytes: &[u8]) -> String {
        let cid = self.kubo.run(&["add", "-Q", "--cid-version=1", &self.file(bytes)]);
        let cid = cid.trim().to_owned();
        until("the content is announced", || self.kubo.try_run(&["routing", "provide", &cid]).ok());
        cid
    }

    /// Writes a file for a command, and returns its path.
    pub fn file(&self, bytes: &[u8]) -> String {
        let file = self.kubo.dir().join("added");
        fs::write(&file, bytes).expect("a file");
        file.to_str().expect("UTF-8").into()
    }

    pub fn cat(&self, cid: &str) -> Result<Vec<u8>, String> {
        self.kubo.bytes(&["cat", "--timeout", &format!("{FETCH_SECONDS}s"), cid])
    }

    pub fn is_direct(&self, peer: &str) -> bool {
        let peers = self.kubo.run(&["swarm", "peers"]);
        peers.lines().any(|line| line.contains(peer) && !is_circuit(line))
    }
}

/// Looks until there is a result.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "still waiting: {what}");
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// Bytes that no other try has.
pub fn content(mib: usize, number: usize) -> Vec<u8> {
    let mut bytes = noise(mib << 20);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes
}
