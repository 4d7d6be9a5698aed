//! Nodes behind NAT: content reaches them and leaves them through holes in it, with Kubo at the other side, as relay and as
//! server of the routing system.

pub mod hosts;
pub mod lab;
mod relays;
mod tries;
mod websocket;

use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use crate::{
    clients::KUBO,
    harness::{blocking, client_trial, noise, trial_within},
};
use hosts::{Host, KuboHost, Transport, content, until};
use lab::{Lab, Nat};
use tries::{MAX_RELAYED_BYTES, Try};

const MIB: usize = 4;
/// What an error may take beyond `--find-timeout`: the client's start and its request, on a busy machine.
const ALLOWANCE: Duration = Duration::from_secs(30);
/// The rate of the relay's link where that is measured. Content that comes faster does not come over it.
const LINK_MBIT: u64 = 50;
const MAX_SHARE_OF_LINK: f64 = 1.1;

/// What each try adds to the time that a story may take.
const TRY_LIMIT: Duration = Duration::from_secs(20);

type Story = fn();

pub fn trials() -> Vec<Trial> {
    let stories: [(&str, Story); 13] = [
        ("nat::a_node_behind_nat_fetches_from_kubo_behind_nat_over_tcp", || from_kubo(Transport::Tcp)),
        ("nat::a_node_behind_nat_fetches_from_kubo_behind_nat_over_quic", || from_kubo(Transport::Quic)),
        ("nat::kubo_behind_nat_fetches_from_a_node_behind_nat_over_tcp", || to_kubo(Transport::Tcp)),
        ("nat::kubo_behind_nat_fetches_from_a_node_behind_nat_over_quic", || to_kubo(Transport::Quic)),
        ("nat::two_nodes_behind_nat_exchange_content_over_a_relay_of_ours", between_nodes),
        ("nat::a_limited_relay_carries_no_content_and_the_error_says_so", only_limited),
        ("nat::a_relay_without_limits_carries_content_where_no_hole_can_be_punched", unlimited),
        ("nat::reservations_on_two_relays_outlive_one_of_them", relays::two),
        (
            "nat::an_address_that_a_peer_confirms_by_autonat_makes_a_node_reachable_directly",
            relays::confirmed,
        ),
        ("nat::nodes_around_a_kubo_on_private_addresses_find_each_other", private_addresses),
        ("nat::a_peer_that_listens_only_on_websocket_serves_a_pull", websocket::plain),
        ("nat::a_peer_that_is_reachable_only_by_wss_serves_a_pull", websocket::secure),
        ("nat::nothing_leaves_a_private_swarm_whose_members_relay", private_swarm),
    ];
    let available = KUBO.available().and_then(|()| lab::available()).and_then(|()| websocket::available());
    let limit = Duration::from_secs(180) + TRY_LIMIT * tries::number() as u32;
    let trial = |(name, story): (&str, Story)| match &available {
        Ok(()) => trial_within(name, limit, move || blocking(story)),
        Err(missing) => client_trial(name, Err(missing.clone()), move || blocking(story)),
    };
    stories.map(trial).into()
}

/// A node knows a CID that Kubo behind another NAT has.
fn from_kubo(transport: Transport) {
    let lab = Lab::behind_nat(Nat::Plain, Nat::Plain);
    let relay = KuboHost::relay(&lab);
    let relay_address = format!("{}/p2p/{}", transport.address("8.8.10.10", 4001), relay.peer());
    let seeder = KuboHost::behind_nat(&lab, "a", transport, 4001, &relay_address);
    seeder.has_circuit(&relay, &relay_address, 4001);
    let peer = seeder.peer();
    tries::run(&format!("from Kubo over {transport:?}"), |number| {
        let bytes = content(MIB, number);
        let cid = seeder.add(&bytes);
        let listen = [transport.address("0.0.0.0", 4100 + number as u16)];
        let node = Host::start(&lab, "b", &listen, &["--bootstrap", &relay_address]);
        node.has_circuit();
        Try::of(&lab, || Ok(node.cat(&cid)? == bytes), || node.is_direct(&peer))
    });
}

/// Kubo knows a CID that a node behind another NAT has.
fn to_kubo(transport: Transport) {
    let lab = Lab::behind_nat(Nat::Plain, Nat::Plain);
    let relay = KuboHost::relay(&lab);
    let relay_address = format!("{}/p2p/{}", transport.address("8.8.10.10", 4001), relay.peer());
    let listen = [transport.address("0.0.0.0", 4001)];
    let node = Host::start(&lab, "a", &listen, &["--bootstrap", &relay_address]);
    node.has_circuit();
    tries::run(&format!("to Kubo over {transport:?}"), |number| {
        let bytes = content(MIB, number);
        let cid = node.add(&bytes);
        announced(&relay, &cid, node.node.peer());
        let port = 4100 + number as u16;
        let kubo = KuboHost::behind_nat(&lab, "b", transport, port, &relay_address);
        kubo.has_circuit(&relay, &relay_address, port);
        Try::of(&lab, || Ok(kubo.cat(&cid)? == bytes), || kubo.is_direct(node.node.peer()))
    });
}

/// Waits until the routing system knows a provider.
pub fn announced(router: &KuboHost, cid: &str, peer: &str) {
    until("the content is announced", || {
        let find = ["routing", "findprovs", "--num-providers", "1", "--timeout", "5s", cid];
        router.kubo.try_run(&find).is_ok_and(|found| found.contains(peer)).then_some(())
    });
}

/// Two nodes behind NAT, and a third that relays and answers for the routing system.
fn between_nodes() {
    let lab = Lab::behind_nat(Nat::Plain, Nat::Plain);
    let listen = [Transport::Tcp, Transport::Quic].map(|transport| transport.address("0.0.0.0", 4001));
    let relay = Host::start(&lab, "r", &listen, &["--bootstrap", "none", "--relay-service"]);
    let relay_address = format!("/ip4/8.8.10.10/tcp/4001/p2p/{}", relay.node.peer());
    let seeder = Host::start(&lab, "a", &listen, &["--bootstrap", &relay_address]);
    seeder.has_circuit();
    assert_eq!(seeder.node.status()["reachability"], "hole-punching");
    tries::run("between nodes", |number| {
        let bytes = content(MIB, number);
        let cid = seeder.add(&bytes);
        let listen = [Transport::Tcp, Transport::Quic]
            .map(|transport| transport.address("0.0.0.0", 4100 + number as u16));
        let node = Host::start(&lab, "b", &listen, &["--bootstrap", &relay_address]);
        node.has_circuit();
        Try::of(&lab, || Ok(node.cat(&cid)? == bytes), || node.is_direct(seeder.node.peer()))
    });
}

/// Both routers give each connection another port, and the only relay is limited.
fn only_limited() {
    let lab = Lab::behind_nat(Nat::Symmetric, Nat::Symmetric);
    let relay = KuboHost::relay(&lab);
    let relay_address = format!("/ip4/8.8.10.10/tcp/4001/p2p/{}", relay.peer());
    let listen = [Transport::Tcp.address("0.0.0.0", 4001)];
    let seeder = Host::start(&lab, "a", &listen, &["--bootstrap", &relay_address]);
    seeder.has_circuit();
    let cid = seeder.add(&content(MIB, 0));
    announced(&relay, &cid, seeder.node.peer());
    let find_timeout = Duration::from_secs(12);
    let text = format!("{}s", find_timeout.as_secs());
    let node = Host::start(&lab, "b", &listen, &["--bootstrap", &relay_address, "--find-timeout", &text]);
    let (before, begun) = (lab.bytes("r"), Instant::now());
    let error = node.cat(&cid).expect_err("there is no way to it");
    let waited = begun.elapsed();
    eprintln!("only a limited relay: an error after {:.1} s", waited.as_secs_f64());
    assert!(error.contains("only through a relay that limits data"), "{error}\n{}", node.node.log());
    assert!(waited <= find_timeout + ALLOWANCE, "after {waited:?}: {error}");
    assert!(lab.bytes("r") - before < MAX_RELAYED_BYTES);
}

/// As before, with a relay that relays for the seeder without limits.
fn unlimited() {
    let lab = Lab::behind_nat(Nat::Symmetric, Nat::Symmetric);
    let listen = [Transport::Tcp.address("0.0.0.0", 4001)];
    // Its identity is known before the relay is told to serve it.
    let first = Host::start(&lab, "a", &listen, &["--bootstrap", "none"]);
    let peer = first.node.peer().to_owned();
    let arguments = ["--bootstrap", "none", "--relay-for", &peer];
    let relay = Host::start(&lab, "r", &listen, &arguments);
    let relay_address = format!("/ip4/8.8.10.10/tcp/4001/p2p/{}", relay.node.peer());
    first.node.ask(&["swarm", "connect", &relay_address]);
    first.has_circuit();
    let node = Host::start(&lab, "b", &listen, &["--bootstrap", &relay_address]);
    // What it takes to find the seeder is measured elsewhere.
    let small = content(0, 0);
    let cid = first.add(&small);
    assert!(until("the seeder is found", || node.cat(&cid).ok()) == small);
    let bytes = content(4 * MIB, 1);
    let cid = first.add(&bytes);
    lab.cap("r", LINK_MBIT);
    let (before, begun) = (lab.bytes("r"), Instant::now());
    assert!(node.cat(&cid).expect("it is fetched") == bytes);
    let share = bytes.len() as f64 * 8.0 / 1e6 / begun.elapsed().as_secs_f64() / LINK_MBIT as f64;
    eprintln!("over an unlimited relay: {:.0}% of a link of {LINK_MBIT} Mbit/s", share * 100.0);
    assert!(!node.is_direct(&peer), "no hole can be punched");
    assert!(lab.bytes("r") - before > bytes.len() as u64, "the relay carried it");
    assert!(share < MAX_SHARE_OF_LINK, "{share:.2} of the link");
}

/// Kubo keeps private addresses in a routing system of their own.
fn private_addresses() {
    let mut lab = Lab::new();
    for (host, address) in [("r", "10.77.0.1/24"), ("a", "10.77.0.2/24"), ("b", "10.77.0.3/24")] {
        lab.host(host, address);
    }
    let router = KuboHost::router(&lab, "r");
    let router_address = format!("/ip4/10.77.0.1/tcp/4001/p2p/{}", router.peer());
    let listen = [Transport::Tcp.address("0.0.0.0", 4001)];
    let seeder = Host::start(&lab, "a", &listen, &["--bootstrap", &router_address]);
    let bytes = noise(1 << 20);
    let cid = seeder.add(&bytes);
    announced(&router, &cid, seeder.node.peer());
    let node = Host::start(&lab, "b", &listen, &["--bootstrap", &router_address]);
    assert!(until("it is found", || node.cat(&cid).ok()) == bytes);
    assert!(node.is_direct(seeder.node.peer()));
}

/// Counts packets to anyone who is not a member; the groups are that of mDNS, and the one that joining it is told to.
const MEMBERS_ONLY: &str = "
table inet watch {
  chain output {
    type filter hook output priority 0; policy accept;
    oifname \"lo\" accept
    ip daddr { 224.0.0.251, 224.0.0.22 } accept
    ip daddr { 8.8.10.10, 8.8.10.21, 8.8.10.22, 192.168.1.2, 192.168.2.2 } accept
    meta l4proto icmpv6 accept
    counter comment \"to others\"
  }
}
";

/// Members behind NAT exchange content through a member that relays; no other host gets a packet.
fn private_swarm() {
    let lab = Lab::behind_nat(Nat::Symmetric, Nat::Symmetric);
    ["a", "b", "r"].iter().for_each(|host| lab.nft(host, MEMBERS_ONLY));
    let dir = tempfile::tempdir().expect("a directory");
    let key = dir.path().join("swarm.key");
    let key = key.to_str().expect("UTF-8");
    lab::run(crate::harness::ocipfs(dir.path()).args(["swarm", "key", key]));
    let listen = [Transport::Tcp.address("0.0.0.0", 4001)];
    let relay =
        Host::start(&lab, "r", &listen, &["--bootstrap", "none", "--swarm-key", key, "--relay-service"]);
    let relay_address = format!("/ip4/8.8.10.10/tcp/4001/p2p/{}", relay.node.peer());
    let arguments = ["--bootstrap", &relay_address, "--swarm-key", key];
    let seeder = Host::start(&lab, "a", &listen, &arguments);
    seeder.has_circuit();
    let bytes = content(MIB, 0);
    let cid = seeder.add(&bytes);
    let node = Host::start(&lab, "b", &listen, &arguments);
    assert!(until("it is found", || node.cat(&cid).ok()) == bytes);
    for host in ["a", "b", "r"] {
        let rules = lab::run(lab.command(host, "nft").args(["list", "table", "inet", "watch"]));
        assert!(rules.contains("packets 0 bytes 0 comment \"to others\""), "{host}: {rules}");
    }
}
