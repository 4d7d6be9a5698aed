//! Hosts that know no provider, only servers of the routing system: Kubo and a node. Their bootstrap peer is gone, and answers
//! nothing. The provider is another Kubo.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    clients::KUBO,
    harness::{blocking, client_trial, noise, trial_within},
    nat::{
        announced,
        hosts::{Host, KuboHost, Transport, until},
        lab::{self, Lab},
    },
};

/// Restarts unless `OCIPFS_TEST_RESTARTS` says otherwise.
const DEFAULT: usize = 10;
/// Of so many the seconds are asserted.
const FULL_SIZE: usize = 100;
/// From the start of a node that has run before until it has content of a provider.
const RESTARTED: Duration = Duration::from_secs(5);
/// The same of a new node with a list of peers.
const NEW: Duration = Duration::from_secs(10);
/// One of so many starts is that of a new node.
const NEW_DIVISOR: usize = 5;
/// What each restart adds to the time that a story may take.
const RESTART_LIMIT: Duration = Duration::from_secs(15);
const HOSTS: [(&str, u8); 5] = [("r", 10), ("s", 11), ("d", 12), ("p", 13), ("n", 14)];

/// Nothing comes in but answers: the provider cannot dial this host, so it has to be found.
const SILENT: &str = "
table inet silent {
  chain input {
    type filter hook input priority 0; policy drop;
    iifname \"lo\" accept
    ct state established,related accept
  }
}
";

/// As if the host were gone.
const GONE: &str = "
table inet gone {
  chain input {
    type filter hook input priority 0; policy drop;
  }
}
";

pub fn trials() -> Vec<Trial> {
    let name =
        "seeds::restarted_and_new_nodes_without_their_seed_find_providers_in_the_dht_of_remembered_peers";
    let limit = Duration::from_secs(180) + RESTART_LIMIT * number() as u32;
    let story = || blocking(restarts);
    vec![match KUBO.available().and_then(|()| lab::available()) {
        Ok(()) => trial_within(name, limit, story),
        Err(missing) => client_trial(name, Err(missing), story),
    }]
}

fn number() -> usize {
    std::env::var("OCIPFS_TEST_RESTARTS").map_or(DEFAULT, |text| text.parse().expect("a number"))
}

fn address(host: &str, peer: &str) -> String {
    let (_, last) = HOSTS.iter().find(|(name, _)| *name == host).expect("a host");
    format!("{}/p2p/{peer}", Transport::Tcp.address(&format!("8.8.10.{last}"), 4001))
}

/// A node on a host, with these bootstrap peers.
fn start<'a>(lab: &'a Lab, host: &'static str, bootstrap: &[&str]) -> Host<'a> {
    let listen = [Transport::Tcp.address("0.0.0.0", 4001)];
    Host::start(lab, host, &listen, &[&["--bootstrap"], bootstrap].concat())
}

fn start_in<'a>(lab: &'a Lab, data_dir: &Path, bootstrap: &[&str]) -> Host<'a> {
    let listen = ["--swarm-listen", "/ip4/0.0.0.0/tcp/4001", "--bootstrap"];
    Host::start_in(lab, "n", data_dir, &[&listen, bootstrap].concat())
}

fn restarts() {
    let mut lab = Lab::new();
    HOSTS.iter().for_each(|(host, last)| lab.host(host, &format!("8.8.10.{last}/24")));
    lab.nft("n", SILENT);
    let kubo = KuboHost::relay(&lab);
    let kubo_address = address("r", &kubo.peer());
    let server = start(&lab, "s", &[&kubo_address]);
    let server_address = address("s", server.node.peer());
    let seed = start(&lab, "d", &[&kubo_address]);
    let seed_address = address("d", seed.node.peer());
    let first = first_run(&lab, &[&seed_address, &kubo_address, &server_address]);
    let list = first.path().join("list");
    server.node.ask(&["swarm", "export-peers", list.to_str().expect("UTF-8")]);
    lab.nft("d", GONE);
    seed.node.kill();
    // It comes only now, so that none has dialled it before.
    let provider = KuboHost::provider(&lab, "p", &[&kubo_address, &server_address]);
    let stage = Stage { lab: &lab, kubo: &kubo, provider: &provider, seed: &seed_address };
    let restarted: Vec<f64> = (0..number())
        .map(|round| {
            let (_dir, node, took) = stage.restarted(&first, round);
            // It takes its time to be sure.
            if round == 0 {
                status_tells(&node);
            }
            took
        })
        .collect();
    let new: Vec<f64> =
        (0..number().div_ceil(NEW_DIVISOR)).map(|round| stage.newcomer(&list, round)).collect();
    check("restarted", restarted, RESTARTED);
    check("new", new, NEW);
}

/// A run in which the node dials the servers. Returns its directory.
fn first_run(lab: &Lab, peers: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start_in(lab, dir.path(), peers);
    until("all have said what they are", || {
        let known = node.node.json(&["swarm", "peers"]);
        let known = known.as_array().expect("a list");
        (known.len() == peers.len() && known.iter().all(|peer| peer["agent"].is_string())).then_some(())
    });
    node.node.stop();
    let remembered = std::fs::read(dir.path().join("peers.json")).expect("its memory");
    let remembered: Vec<Value> = serde_json::from_slice(&remembered).expect("JSON");
    assert_eq!(remembered.len(), peers.len(), "{remembered:?}");
    assert!(remembered.iter().all(|peer| peer["dht_server"] == true), "{remembered:?}");
    dir
}

/// `ocipfs status` says how the node found its network.
fn status_tells(node: &Host) {
    until("the seed is known to be gone", || {
        (node.node.status()["unreachable_bootstrap_peers"] == 1).then_some(())
    });
    let shown = node.node.command(&["status"]).stdout;
    assert!(shown.contains("1 of 1 bootstrap peers unreachable, started with 3 remembered peers"), "{shown}");
}

/// The hosts that stay.
struct Stage<'a> {
    lab: &'a Lab,
    kubo: &'a KuboHost,
    provider: &'a KuboHost,
    seed: &'a str,
}

impl<'a> Stage<'a> {
    /// Adds content of which a record is in the DHT, and returns its CID.
    fn add(&self, bytes: &[u8]) -> String {
        let cid = self.provider.add(bytes);
        announced(self.kubo, &cid, &self.provider.peer());
        cid
    }

    /// Fetches content, and returns the seconds since the start.
    fn found(&self, node: &Host, cid: &str, bytes: &[u8], begun: Instant) -> f64 {
        let fetched = until("the provider is found", || node.cat(cid).ok());
        let took = begun.elapsed().as_secs_f64();
        assert!(fetched == bytes);
        let provider = self.provider.peer();
        let peers = node.node.json(&["swarm", "peers"]);
        let known = peers.as_array().expect("a list").iter().find(|peer| peer["peer"] == provider.as_str());
        assert_eq!(known.expect("it is connected")["direction"], "out", "{peers}");
        took
    }

    /// Starts a node with what the first run left, in a copy: what a node learned in one round does not help it in the next.
    fn restarted(&self, first: &TempDir, round: usize) -> (TempDir, Host<'a>, f64) {
        let bytes = noise(100_000 + round);
        let cid = self.add(&bytes);
        let dir = tempfile::tempdir().expect("a directory");
        let copy = dir.path().join("node");
        lab::run(Command::new("cp").arg("-a").arg(first.path()).arg(&copy));
        let begun = Instant::now();
        let node = start_in(self.lab, &copy, &[self.seed]);
        let took = self.found(&node, &cid, &bytes, begun);
        let status = node.node.status();
        assert_eq!((&status["bootstrap_peers"], &status["remembered_peers"]), (&1.into(), &3.into()));
        (dir, node, took)
    }

    /// Starts a new node with a list of peers.
    fn newcomer(&self, list: &Path, round: usize) -> f64 {
        let bytes = noise(200_000 + round);
        let cid = self.add(&bytes);
        let begun = Instant::now();
        let from = ["none", "--bootstrap-from", list.to_str().expect("UTF-8")];
        self.found(&start(self.lab, "n", &from), &cid, &bytes, begun)
    }
}

/// All must be soon, which is a statement about the full size only.
fn check(what: &str, mut seconds: Vec<f64>, soon: Duration) {
    seconds.sort_by(f64::total_cmp);
    let late = seconds.iter().filter(|took| **took > soon.as_secs_f64()).count();
    let starts = seconds.len();
    eprintln!("{what}: {late} of {starts} nodes found a provider after more than {soon:?}: {seconds:.2?} s");
    assert!(number() < FULL_SIZE || late == 0, "{what}: {seconds:.2?} s");
}
