//! What a node behind NAT does to be found: reservations on relays, and none once a peer has confirmed an address of its own.

use super::{
    announced,
    hosts::{Host, KuboHost, Transport, content, is_circuit, until},
    lab::{Lab, Nat},
    tries::MAX_RELAYED_BYTES,
};

const MIB: usize = 4;
const FORWARDED: u16 = 4001;

fn listen() -> [String; 1] {
    [Transport::Tcp.address("0.0.0.0", FORWARDED)]
}

/// One relay is Kubo and one is a node. The first one stops.
pub fn two() {
    let mut lab = Lab::behind_nat(Nat::Plain, Nat::Plain);
    lab.host("s", "8.8.10.11/24");
    let kubo = KuboHost::relay(&lab);
    let other = Host::start(&lab, "s", &listen(), &["--bootstrap", "none", "--relay-service"]);
    let relays = [kubo.peer(), other.node.peer().to_owned()];
    let addresses = ["8.8.10.10", "8.8.10.11"].map(|ip| Transport::Tcp.address(ip, 4001));
    let [first, second] = [0, 1].map(|at| format!("{}/p2p/{}", addresses[at], relays[at]));
    let seeder = Host::start(&lab, "a", &listen(), &["--bootstrap", &first, &second]);
    let reserved = || {
        let circuits = seeder.announced().into_iter().filter(|address| is_circuit(address));
        let circuits: Vec<_> = circuits.collect();
        relays.each_ref().map(|relay| circuits.iter().any(|circuit| circuit.contains(relay.as_str())))
    };
    until("a reservation on each relay", || (reserved() == [true, true]).then_some(()));
    let bytes = content(MIB, 0);
    let cid = seeder.add(&bytes);
    drop(kubo);
    until("the relay that stopped is forgotten", || (reserved() == [false, true]).then_some(()));
    let node = Host::start(&lab, "b", &listen(), &["--bootstrap", &second]);
    assert!(until("it is found", || node.cat(&cid).ok()) == bytes);
    assert!(node.is_direct(seeder.node.peer()));
    assert_eq!(reserved(), [false, true]);
}

/// The router of one host passes a port on to it, which Kubo finds out; that of the other does not.
pub fn confirmed() {
    let lab = Lab::behind_nat(Nat::Plain, Nat::Plain);
    lab.forward("a", FORWARDED);
    let kubo = KuboHost::relay(&lab);
    let relay_address = format!("{}/p2p/{}", Transport::Tcp.address("8.8.10.10", 4001), kubo.peer());
    let [one, other] =
        ["a", "b"].map(|host| Host::start(&lab, host, &listen(), &["--bootstrap", &relay_address]));
    until("the node is reachable directly", || (one.node.status()["reachability"] == "direct").then_some(()));
    let own = format!("{}/p2p/{}", Transport::Tcp.address("8.8.10.21", FORWARDED), one.node.peer());
    until("it gives up its reservation, and tells peers the address", || {
        let told = one.announced();
        (told.contains(&own) && !told.iter().any(|address| is_circuit(address))).then_some(())
    });
    other.has_circuit();
    assert_ne!(other.node.status()["reachability"], "direct");
    let bytes = content(MIB, 0);
    let cid = one.add(&bytes);
    announced(&kubo, &cid, one.node.peer());
    let before = lab.bytes("r");
    assert!(other.cat(&cid).expect("it is fetched") == bytes);
    assert!(other.is_direct(one.node.peer()));
    assert!(lab.bytes("r") - before < MAX_RELAYED_BYTES);
}
