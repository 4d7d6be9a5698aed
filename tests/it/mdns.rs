//! Peers that find each other on a bridge by multicast DNS, with no address that anyone types.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use libtest_mimic::Trial;

use crate::{
    clients::{Docker, KUBO},
    following::name_of,
    harness::{blocking, client_trial, last_line, noise, ocipfs},
    nat::{
        hosts::{Host, KuboHost, until},
        lab::{self, Lab},
    },
};

/// From the last ready line to connections between all: asserted where `OCIPFS_TEST_FULL_SIZE=1`, else printed.
const SOON: Duration = Duration::from_secs(2);
pub const HOSTS: [(&str, &str); 3] = [("b", "10.77.1.2/24"), ("c", "10.77.1.3/24"), ("d", "10.77.1.4/24")];
pub const LISTEN: [&str; 2] = ["--swarm-listen", "/ip4/0.0.0.0/tcp/4001"];

/// Counts packets that leave the subnet, and those of DNS. mDNS stays on the link.
const SUBNET_ONLY: &str = "
table inet watch {
  chain output {
    type filter hook output priority 0; policy accept;
    oifname \"lo\" accept
    udp dport 53 counter comment \"DNS\"
    tcp dport 53 counter comment \"DNS over TCP\"
    ip daddr 224.0.0.251 udp dport 5353 counter accept comment \"mDNS\"
    ip daddr 224.0.0.22 accept comment \"joining the group\"
    ip daddr 10.77.1.0/24 accept
    meta l4proto icmpv6 accept
    counter comment \"to others\"
  }
}
";

type Story = fn();

pub fn trials() -> Vec<Trial> {
    let stories: [(&str, Result<(), String>, Story); 6] = [
        ("mdns::three_hosts_with_only_an_invitation_are_connected", Ok(()), only_joined),
        (
            "mdns::docker_builds_on_one_host_from_images_of_another_and_a_third_pulls",
            Docker::available(),
            build,
        ),
        ("mdns::hosts_of_two_swarms_on_one_bridge_hear_nothing_of_each_other", Ok(()), two_swarms),
        ("mdns::without_a_swarm_key_a_node_is_silent_unless_it_is_told_otherwise", Ok(()), without_a_key),
        ("mdns::a_node_without_an_interface_to_announce_on_opens_no_socket", Ok(()), loopback),
        ("mdns::kubo_and_a_node_find_each_other", KUBO.available(), kubo),
    ];
    let trial = |(name, client, story): (&str, Result<(), String>, Story)| {
        client_trial(name, client.and_then(|()| lab::available()), move || blocking(story))
    };
    stories.map(trial).into()
}

/// A bridge with three hosts, which has no route to anywhere else.
pub fn bridge() -> Lab {
    let mut lab = Lab::new();
    for (host, address) in HOSTS {
        lab.host(host, address);
        lab.nft(host, SUBNET_ONLY);
    }
    lab
}

pub fn new_key(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    last_line(ocipfs(dir).args(["swarm", "key"]).arg(&path));
    path
}

fn peers(host: &Host) -> usize {
    host.node.status()["peers"].as_u64().expect("a number") as usize
}

/// Returns the packets that a rule of a host has counted.
fn counted(lab: &Lab, host: &str, comment: &str) -> u64 {
    let rules = lab::run(lab.command(host, "nft").args(["list", "table", "inet", "watch"]));
    let comment = format!("comment \"{comment}\"");
    let line = rules.lines().find(|line| line.contains(&comment)).expect("the rule");
    let packets = line.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
    packets.expect("a counter").parse().expect("a number")
}

/// Waits until each of the hosts has announced itself at least twice more: what an announcement brings about has begun with the
/// first one.
fn announce_again(lab: &Lab, hosts: &[&str]) {
    // An announcement, and a query.
    const PACKETS: u64 = 2;
    let sent = || hosts.iter().map(|host| counted(lab, host, "mDNS")).collect::<Vec<_>>();
    let before = sent();
    until("they announce themselves again", || {
        let again = sent().iter().zip(&before).all(|(now, before)| *now >= before + 2 * PACKETS);
        again.then_some(())
    });
}

/// Returns an invitation by a host that is gone afterwards, so that its address leads nowhere.
fn invitation(lab: &Lab, dir: &Path) -> String {
    let key = new_key(dir, "swarm.key");
    let arguments = [&LISTEN[..], &["--swarm-key", key.to_str().expect("UTF-8")]].concat();
    let first = Host::start_in(lab, "d", &dir.join("first"), &arguments);
    first.node.ask(&["-q", "swarm", "invite"])
}

/// Starts the three hosts, which have nothing but an invitation, and tells how long it took to connect them.
fn joined<'a>(lab: &'a Lab, dir: &Path, arguments: &[&str]) -> ([Host<'a>; 3], Duration) {
    let invitation = invitation(lab, dir);
    let nodes = HOSTS.map(|(host, _)| {
        let data_dir = dir.join(host);
        last_line(ocipfs(&data_dir).args(["join", &invitation]));
        Host::start_in(lab, host, &data_dir, arguments)
    });
    let ready = Instant::now();
    until("all are connected", || nodes.iter().all(|node| peers(node) == 2).then_some(()));
    (nodes, ready.elapsed())
}

/// Holds that no host sent anything to others or asked for a name, and that what is counted would be seen.
fn stayed_on_the_bridge(lab: &Lab) {
    for (host, _) in HOSTS {
        for comment in ["to others", "DNS", "DNS over TCP"] {
            assert_eq!(counted(lab, host, comment), 0, "{host}: {comment}");
        }
        assert_ne!(counted(lab, host, "mDNS"), 0, "{host}: mDNS");
    }
}

fn is_full_size() -> bool {
    std::env::var_os("OCIPFS_TEST_FULL_SIZE").is_some_and(|value| value == "1")
}

fn only_joined() {
    let lab = bridge();
    let dir = tempfile::tempdir().expect("a directory");
    let ([one, other, third], elapsed) = joined(&lab, dir.path(), &[]);
    eprintln!("three hosts are connected {:.2} s after the last one was ready", elapsed.as_secs_f64());
    assert!(elapsed <= SOON || !is_full_size(), "{elapsed:?}");
    let bytes = noise(3 << 20);
    let cid = one.add(&bytes);
    assert!(other.cat(&cid).expect("it is fetched") == bytes);
    one.node.kill();
    assert!(third.cat(&cid).expect("its first host is gone, another has it") == bytes);
    stayed_on_the_bridge(&lab);
}

/// What docker builds from a Dockerfile and one file beside it, and pushes.
fn built(docker: &Docker, dockerfile: &str, file: (&str, &str), reference: &str) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("Dockerfile"), dockerfile).expect("a Dockerfile");
    fs::write(dir.path().join(file.0), file.1).expect("a file");
    docker.build(dir.path(), reference, true).expect("it is built");
    let said = docker.push(reference).expect("it is pushed");
    let digest = said.split("digest: ").nth(1).and_then(|rest| rest.split(' ').next());
    digest.expect("docker says the digest").into()
}

fn build() {
    let lab = bridge();
    let dir = tempfile::tempdir().expect("a directory");
    let ([one, other, third], _) = joined(&lab, dir.path(), &[]);
    let [first, second, last] =
        HOSTS.map(|(host, _)| Docker::start_in_network(&lab.name(host)).expect("docker starts"));

    let (own, name) = (one.node.registry(), name_of(&one.node));
    built(&first, "FROM scratch\nCOPY base /base\n", ("base", "base"), &format!("{own}/base:1"));
    built(&first, "FROM scratch\nCOPY tool /tool\n", ("tool", "tool"), &format!("{own}/tool:1"));

    let from = format!("{}/ipns/{name}", other.node.registry());
    let dockerfile = format!("FROM {from}/base:1\nCOPY --from={from}/tool:1 /tool /tool\nCOPY app /app\n");
    let app = format!("{}/app:1", other.node.registry());
    let digest = built(&second, &dockerfile, ("app", "app"), &app);
    let name = name_of(&other.node);
    one.node.kill();

    let own = third.node.registry();
    for reference in [format!("{own}/ipns/{name}/app:1"), format!("{own}/any/name@{digest}")] {
        last.pull(&reference).expect("it is pulled");
        assert_eq!(last.image_files(&reference).expect("an image"), ["app", "base", "tool"], "{reference}");
        last.forget_images().expect("images are removed");
    }
    stayed_on_the_bridge(&lab);
}

fn two_swarms() {
    let lab = bridge();
    let dir = tempfile::tempdir().expect("a directory");
    let keys = ["one.key", "one.key", "other.key"].map(|name| match dir.path().join(name) {
        path if path.exists() => path,
        _ => new_key(dir.path(), name),
    });
    let nodes: Vec<_> = HOSTS
        .iter()
        .zip(&keys)
        .map(|((host, _), key)| {
            let arguments = [&LISTEN[..], &["--swarm-key", key.to_str().expect("UTF-8")]].concat();
            Host::start_in(&lab, host, &dir.path().join(host), &arguments)
        })
        .collect();
    until("the two of one swarm are connected", || {
        (peers(&nodes[0]) == 1 && peers(&nodes[1]) == 1).then_some(())
    });
    announce_again(&lab, &HOSTS.map(|(host, _)| host));
    assert_eq!(peers(&nodes[2]), 0);
    for node in &nodes {
        let rejected = node.node.status()["rejected_handshakes"].clone();
        assert_eq!(rejected, serde_json::json!([]), "an announcement of another swarm is not even dialled");
    }
}

fn without_a_key() {
    let lab = bridge();
    let silent = Host::start_in(&lab, "b", &lab_dir().join("silent"), &LISTEN);
    let arguments = [&LISTEN[..], &["--mdns"]].concat();
    let [one, other] = ["c", "d"].map(|host| Host::start_in(&lab, host, &lab_dir().join(host), &arguments));
    until("those that are told to are connected", || (peers(&one) == 1 && peers(&other) == 1).then_some(()));
    assert_eq!((peers(&silent), counted(&lab, "b", "mDNS")), (0, 0));
}

fn loopback() {
    let lab = bridge();
    let dir = tempfile::tempdir().expect("a directory");
    let key = new_key(dir.path(), "swarm.key");
    let key = key.to_str().expect("UTF-8");
    let only = ["--swarm-listen", "/ip4/127.0.0.1/tcp/4001", "--swarm-key", key];
    let off = ["--swarm-listen", "/ip4/0.0.0.0/tcp/4001", "--swarm-key", key, "--mdns", "false"];
    let nodes = [("b", &only[..]), ("c", &off[..])]
        .map(|(host, arguments)| Host::start_in(&lab, host, &dir.path().join(host), arguments));
    // One that started after them has announced itself several times, and asked for others.
    let arguments = [&LISTEN[..], &["--swarm-key", key]].concat();
    let announced = Host::start_in(&lab, "d", &dir.path().join("d"), &arguments);
    announce_again(&lab, &["d"]);
    assert_eq!(peers(&announced), 0);
    for (node, host) in nodes.iter().zip(["b", "c"]) {
        assert_eq!((peers(node), counted(&lab, host, "mDNS")), (0, 0));
        let sockets = fs::read_to_string(format!("/proc/{}/net/udp", node.node.pid())).expect("/proc");
        assert!(!sockets.contains(":14E9 "), "port 5353 is open: {sockets}");
    }
}

fn kubo() {
    let lab = bridge();
    let daemon = KuboHost::with_mdns(&lab, "b");
    let arguments = [&LISTEN[..], &["--mdns"]].concat();
    let node = Host::start_in(&lab, "c", &lab_dir().join("kubo"), &arguments);
    let peer = daemon.peer();
    until("they are connected", || node.is_direct(&peer).then_some(()));
    let bytes = noise(1 << 20);
    let cid = node.add_unannounced(&bytes);
    assert!(daemon.cat(&cid).expect("it is fetched") == bytes);
}

/// A directory that lasts as long as the test run.
fn lab_dir() -> PathBuf {
    tempfile::tempdir().expect("a directory").keep()
}
