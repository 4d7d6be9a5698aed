//! Hosts, home routers and a public network in namespaces of the test: none has a route to this machine.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::clients;

/// The test runs as root, and may make namespaces with rules of nftables.
pub fn available() -> Result<(), String> {
    clients::root_for("networks of their own")?;
    clients::installed(&[("ip", "iproute2"), ("tc", "iproute2"), ("nft", "nftables"), ("curl", "curl")])
}

/// How a router translates addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// A port keeps its number where it is free, and is the same for all peers.
    Plain,
    /// Each connection has a random port: no hole can be punched.
    Symmetric,
}

/// A network with one public bridge.
pub struct Lab {
    prefix: String,
    namespaces: Vec<String>,
}

impl Lab {
    pub fn new() -> Self {
        static LABS: AtomicUsize = AtomicUsize::new(0);
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let mut lab = Self { prefix: format!("oci{}-{number}", std::process::id()), namespaces: Vec::new() };
        lab.namespace("pub");
        lab.ip("pub", &["link", "add", "br0", "type", "bridge"]);
        lab.ip("pub", &["link", "set", "br0", "up"]);
        lab
    }

    /// A network in which `a` and `b` are behind a router each, and `r` is not.
    pub fn behind_nat(one: Nat, other: Nat) -> Self {
        let mut lab = Self::new();
        lab.host("r", "8.8.10.10/24");
        lab.router("a", one, "8.8.10.21/24", "192.168.1");
        lab.router("b", other, "8.8.10.22/24", "192.168.2");
        lab
    }

    /// The name of a namespace for `ip netns exec`.
    pub fn name(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// A command that runs in a namespace.
    pub fn command(&self, host: &str, program: &str) -> Command {
        let mut command = ip();
        command.args(["netns", "exec", &self.name(host), program]);
        command
    }

    /// Adds a host on the bridge.
    pub fn host(&mut self, host: &str, address: &str) {
        self.namespace(host);
        let (port, peer) = (format!("p-{host}"), self.name(host));
        self.ip("pub", &["link", "add", &port, "type", "veth", "peer", "name", "wan", "netns", &peer]);
        self.ip("pub", &["link", "set", &port, "master", "br0", "up"]);
        self.ip(host, &["addr", "add", address, "dev", "wan"]);
        self.ip(host, &["link", "set", "wan", "up"]);
    }

    /// Adds a router with this address on the bridge, and a host behind it.
    fn router(&mut self, host: &str, nat: Nat, address: &str, network: &str) {
        let router = format!("n{host}");
        self.host(&router, address);
        self.namespace(host);
        let peer = self.name(host);
        self.ip(&router, &["link", "add", "lan", "type", "veth", "peer", "name", "eth0", "netns", &peer]);
        self.ip(&router, &["addr", "add", &format!("{network}.1/24"), "dev", "lan"]);
        self.ip(&router, &["link", "set", "lan", "up"]);
        self.ip(host, &["addr", "add", &format!("{network}.2/24"), "dev", "eth0"]);
        self.ip(host, &["link", "set", "eth0", "up"]);
        self.ip(host, &["route", "add", "default", "via", &format!("{network}.1")]);
        run(self.command(&router, "sysctl").args(["-qw", "net.ipv4.ip_forward=1"]));
        let flags = if nat == Nat::Symmetric { "fully-random" } else { "" };
        self.nft(&router, &ROUTER_RULES.replace("FLAGS", flags));
    }

    /// Loads rules into a namespace.
    pub fn nft(&self, host: &str, rules: &str) {
        let mut nft = self.command(host, "nft");
        let mut child = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft starts");
        child.stdin.take().expect("a pipe").write_all(rules.as_bytes()).expect("rules are read");
        assert!(child.wait().expect("nft ends").success(), "{rules}");
    }

    /// Caps the rate at which a host sends on the bridge.
    pub fn cap(&self, host: &str, mbit: u64) {
        let rate = format!("{mbit}mbit");
        let rule =
            ["qdisc", "add", "dev", "wan", "root", "tbf", "rate", &rate, "burst", "128kb", "latency", "50ms"];
        run(self.command(host, "tc").args(rule));
    }

    /// Has a router pass on what arrives at a port of it to the host behind it, as a port forward of a home router does.
    pub fn forward(&self, host: &str, port: u16) {
        let (router, to) = (format!("n{host}"), self.inside(host));
        self.nft(&router, &FORWARD.replace("PORT", &port.to_string()).replace("HOST", &to));
    }

    /// The address of a host behind a router.
    fn inside(&self, host: &str) -> String {
        let shown = run(ip().args(["-n", &self.name(host), "-4", "-brief", "addr", "show", "dev", "eth0"]));
        let address = shown.split_whitespace().nth(2).and_then(|address| address.split('/').next());
        address.expect("an address").into()
    }

    /// Returns the bytes that a host sent and received on the bridge.
    pub fn bytes(&self, host: &str) -> u64 {
        let read = |counter: &str| {
            let path = format!("/sys/class/net/wan/statistics/{counter}");
            run(self.command(host, "cat").arg(path)).trim().parse::<u64>().expect("a number")
        };
        read("rx_bytes") + read("tx_bytes")
    }

    fn namespace(&mut self, host: &str) {
        let name = self.name(host);
        run(ip().args(["netns", "add", &name]));
        self.namespaces.push(name);
        self.ip(host, &["link", "set", "lo", "up"]);
    }

    fn ip(&self, host: &str, arguments: &[&str]) {
        run(ip().args(["-n", &self.name(host)]).args(arguments));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in self.namespaces.iter().rev() {
            let _ = ip().args(["netns", "del", name]).status();
        }
    }
}

fn ip() -> Command {
    let mut command = Command::new("ip");
    command.env("PATH", clients::search_path()).stdin(Stdio::null());
    command
}

/// Runs a command that must succeed, and returns what it printed.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A home router. What comes early from outside is dropped: an answer would end the attempt to punch a hole.
const ROUTER_RULES: &str = "
table ip nat {
  chain post {
    type nat hook postrouting priority srcnat; policy accept;
    oifname \"wan\" masquerade FLAGS
  }
}
table inet fw {
  chain input {
    type filter hook input priority 0; policy drop;
    iifname { \"lo\", \"lan\" } accept
    ct state established,related accept
  }
  chain forward {
    type filter hook forward priority 0; policy drop;
    iifname \"lan\" oifname \"wan\" accept
    ct state established,related accept
  }
}
";

/// Added to the rules of a router.
const FORWARD: &str = "
table ip nat {
  chain pre {
    type nat hook prerouting priority dstnat; policy accept;
    iifname \"wan\" meta l4proto { tcp, udp } th dport PORT dnat to HOST
  }
}
table inet fw {
  chain forward {
    ct status dnat accept
  }
}
";
