//! Peers that come, go and come back; which are dialed and how; and a node without peers.

use std::{net::UdpSocket, process::Command};

use libtest_mimic::Trial;

use crate::{
    harness::{Layer, Said, Serve, finish, noise, ocipfs, tar_of, trials, until},
    ports::free_port,
};

/// Nodes that are started at most until one of them has the time that QUIC needs.
const QUIC_STARTS: usize = 4;

pub fn trials() -> Vec<Trial> {
    let mut all = trials![
        a_configured_peer_is_dialled_until_it_connects_and_again_after_a_restart,
        swarm_connect_connects_and_swarm_peers_lists_both_peers,
        swarm_connect_fails_for_a_wrong_peer_id_or_a_closed_port,
        a_layer_is_pulled_over_quic_only,
        a_configured_peer_with_quic_and_tcp_is_connected_once_and_over_quic,
        a_stopped_node_releases_its_ports,
        a_node_never_dials_itself,
        each_failed_redial_of_a_configured_peer_is_one_log_line,
    ];
    all.extend(trials![needs namespaces();
        an_offline_node_serves_its_stored_content,
        a_node_listens_over_both_ip_versions_by_default,
    ]);
    all
}

/// An address of loopback at which a node listens again after a restart: no other process takes its port in between.
fn free_listen() -> String {
    format!("/ip4/127.0.0.1/tcp/{}", free_port())
}

async fn a_configured_peer_is_dialled_until_it_connects_and_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let listen = free_listen();
    let back = || Serve::start_in(dir.path(), &["--swarm-listen", &listen]);
    let first = back();
    let address = first.address().to_string();
    first.stop();
    let reader = Serve::start(&["--peer", &address]);
    assert_eq!(reader.status()["peers"], 0);
    let peer = back();
    reader.until("it is there", |status| status["peers"] == 1).await;
    peer.stop();
    reader.until("it is gone", |status| status["peers"] == 0).await;
    let peer = back();
    reader.until("it is back", |status| status["peers"] == 1).await;
    peer.kill();
    reader.until("it is gone again", |status| status["peers"] == 0).await;
    let _peer = back();
    reader.until("it is back again", |status| status["peers"] == 1).await;
}

async fn swarm_connect_connects_and_swarm_peers_lists_both_peers() {
    let (one, two) = (Serve::start(&[]), Serve::start(&[]));
    assert_eq!((peers(&one), peers(&two)), (String::new(), String::new()));
    assert_eq!(one.ask(&["swarm", "id"]), one.peer());
    assert!(one.command(&["swarm", "id"]).stdout.contains(one.address()));
    assert_eq!(one.ask(&["swarm", "connect", two.address()]), two.peer());
    one.until("agents are known", |_| peers(&one).contains("ocipfs/") && peers(&two).contains("ocipfs/"))
        .await;
    assert!(peers(&one).contains(&format!("{}  out", two.peer())), "{}", peers(&one));
    assert!(peers(&two).contains(&format!("{}  in ", one.peer())), "{}", peers(&two));
    // Once more does no harm.
    assert_eq!(two.ask(&["swarm", "connect", one.address()]), one.peer());
    assert_eq!(one.status()["peers"], 1);
}

async fn swarm_connect_fails_for_a_wrong_peer_id_or_a_closed_port() {
    let (one, two) = (Serve::start(&[]), Serve::start(&[]));
    let stranger = finish(ocipfs(&tempfile::tempdir().unwrap().path().join("new")).args(["swarm", "id"]));
    let wrong = two.address().replace(two.peer(), stranger.last_line());
    one.command(&["swarm", "connect", &wrong]).failed(1, &["cannot reach", &wrong, "hint: "]);
    let dead = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", free_port(), two.peer());
    one.command(&["swarm", "connect", &dead]).failed(1, &["cannot reach", &dead, "hint: "]);
    one.command(&["swarm", "connect", "nowhere"]).failed(1, &["invalid multiaddr", "hint: "]);
    let nameless = two.address().split("/p2p/").next().unwrap();
    one.command(&["swarm", "connect", nameless]).failed(1, &["expected it to end in /p2p/", "hint: "]);
    assert_eq!((peers(&one), peers(&two)), (String::new(), String::new()));
}

async fn a_layer_is_pulled_over_quic_only() {
    const QUIC: [&str; 2] = ["--swarm-listen", "/ip4/127.0.0.1/udp/0/quic-v1"];
    let source = Serve::start(&QUIC);
    assert!(source.address().contains("/quic-v1/p2p/"), "{}", source.address());
    let reader = Serve::start(&[QUIC[0], QUIC[1], "--peer", source.address()]);
    let layer = Layer::add(&source, &noise(5 << 20));
    let pulled = reqwest::get(reader.url(&layer.blob_path())).await.unwrap();
    assert!(pulled.bytes().await.unwrap() == layer.bytes);
    assert!(peers(&reader).contains("/quic-v1"));
}

fn addresses(node: &Serve) -> Vec<String> {
    let listed = node.json(&["swarm", "peers"]);
    listed.as_array().unwrap().iter().map(|peer| peer["address"].as_str().unwrap().into()).collect()
}

/// Starts nodes until one is connected as it has to be. TCP is dialed 300 ms after QUIC, so that it may come first where the
/// machine is busy, but not each time.
async fn is_connected_once_and_over_quic(arguments: &[&str]) {
    let mut seen = Vec::new();
    for _ in 0..QUIC_STARTS {
        let node = Serve::start(arguments);
        node.until("a peer", |status| status["peers"] == 1).await;
        seen.push(addresses(&node));
        if matches!(&seen.last().unwrap()[..], [only] if only.contains("/quic-v1")) {
            return;
        }
    }
    panic!("{arguments:?}: {seen:?}");
}

async fn a_configured_peer_with_quic_and_tcp_is_connected_once_and_over_quic() {
    let listen = ["--swarm-listen", "/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"];
    let peer = Serve::start(&listen);
    let offered = &peer.ready["identity"]["listen"];
    let [first, second] = [0, 1].map(|at| offered[at].as_str().unwrap());
    for setting in ["--peer", "--bootstrap"] {
        for order in [[first, second], [second, first]] {
            is_connected_once_and_over_quic(&[&listen[..], &[setting], &order[..]].concat()).await;
        }
    }
    // Where nothing answers over QUIC, it is TCP.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let dead =
        format!("/ip4/127.0.0.1/udp/{}/quic-v1/p2p/{}", silent.local_addr().unwrap().port(), peer.peer());
    let tcp = if first.contains("/tcp/") { first } else { second };
    let node = Serve::start(&[&listen[..], &["--peer", &dead, tcp]].concat());
    node.until("a peer", |status| status["peers"] == 1).await;
    assert_eq!(addresses(&node), [tcp]);
}

async fn a_stopped_node_releases_its_ports() {
    let registry = format!("127.0.0.1:{}", free_port());
    let (tcp, quic) = (free_listen(), format!("/ip4/127.0.0.1/udp/{}/quic-v1", free_port()));
    let arguments = ["--listen", &registry, "--swarm-listen", &tcp, &quic];
    let node = Serve::start(&arguments);
    let peer = Serve::start(&["--peer", node.address()]);
    peer.until("they are connected", |status| status["peers"] == 1).await;
    assert!(node.stop().success());
    let again = Serve::start(&arguments);
    assert_eq!(again.registry(), registry);
    assert_eq!(again.ready["identity"]["listen"].as_array().unwrap().len(), 2, "{}", again.ready);
}

/// A machine with loopback and nothing else: no route leads to the peer it is told to keep.
async fn an_offline_node_serves_its_stored_content() {
    let dir = tempfile::tempdir().unwrap();
    let tar = tar_of(dir.path(), "layer.tar", &noise(1 << 20));
    let nobody = "/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWNdH5vzZ6HK3XTmLz9R82zucX1Jwibw1h3WEejRsVVPWh";
    let script = r#"
        set -eu
        ip link set lo up
        "$1" --json serve --listen 127.0.0.1:5050 --swarm-listen /ip4/0.0.0.0/tcp/0 --peer "$2" >"$3.ready" &
        trap 'kill $!' EXIT
        until grep -q registry "$3.ready"; do sleep 0.1; done
        "$1" -q layer add "$3" >"$3.reference"
        digest=$(sha256sum "$3" | cut -d' ' -f1)
        name=$(sed 's|^[^/]*/||; s|:[^:]*$||' "$3.reference")
        curl -sS --fail "http://127.0.0.1:5050/v2/$name/blobs/sha256:$digest" | cmp - "$3"
        "$1" swarm peers
    "#;
    let program = ocipfs(&dir.path().join("node"));
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "bash", "-c", script, "bash"]);
    command.arg(program.get_program()).arg(nobody).arg(&tar);
    command.env_clear().envs(program.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let said = finish(command.env("PATH", std::env::var_os("PATH").unwrap_or_default()));
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), ""), "{said:?}");
}

/// With loopback alone, over whose addresses the nodes connect; at last without an IPv6 address.
async fn a_node_listens_over_both_ip_versions_by_default() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        set -eu
        ip link set lo up
        serve() {
            "$program" --data-dir "$dir/$1" --json serve --bootstrap none "${@:2}" >"$dir/$1.ready" 2>"$dir/$1.log" &
            trap 'kill $(jobs -p)' EXIT
            until grep -q registry "$dir/$1.ready"; do
                kill -0 $! || { cat "$dir/$1.log"; exit 1; }
                sleep 0.1
            done
        }
        program=$1 dir=$2
        serve a --listen 127.0.0.1:5050
        "$program" --data-dir "$dir/a" swarm id
        peer=$("$program" --data-dir "$dir/a" swarm id | sed -n 's|.*/p2p/||p' | head -n 1)
        port=5051
        for to in /ip4/127.0.0.1/tcp/4001 /ip6/::1/tcp/4001 /ip4/127.0.0.1/udp/4001/quic-v1 /ip6/::1/udp/4001/quic-v1; do
            serve "$port" --listen 127.0.0.1:$port --swarm-listen /ip4/127.0.0.1/tcp/0 /ip4/127.0.0.1/udp/0/quic-v1 \
                /ip6/::1/tcp/0 /ip6/::1/udp/0/quic-v1
            "$program" --data-dir "$dir/$port" swarm connect "$to/p2p/$peer" >&2
            port=$((port + 1))
        done
        kill $(jobs -p); wait
        ip addr del ::1/128 dev lo
        serve b --listen 127.0.0.1:5050
        echo "without IPv6:"
        "$program" --data-dir "$dir/b" swarm id
        grep -c 'not listening' "$dir/b.log"
    "#;
    let program = ocipfs(&dir.path().join("unused"));
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "bash", "-c", script, "bash"]);
    command.arg(program.get_program()).arg(dir.path());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let said = finish(&mut command);
    assert_eq!(said.code, Some(0), "{said:?}");
    let (both, one) = said.stdout.split_once("without IPv6:").unwrap();
    for address in [
        "/ip4/127.0.0.1/tcp/4001/",
        "/ip6/::1/tcp/4001/",
        "/ip4/127.0.0.1/udp/4001/quic-v1/",
        "/ip6/::1/udp/4001/quic-v1/",
    ] {
        assert!(both.contains(address), "{address}: {said:?}");
        assert_eq!(one.contains(address), address.starts_with("/ip4/"), "{address}: {said:?}");
    }
    assert!(one.ends_with("\n1\n"), "one warning: {said:?}");
}

fn namespaces() -> Result<(), String> {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "sh", "-c", "ip link set lo up && command -v curl"]);
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("network namespaces: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(format!("unshare: {error}")),
    }
}

fn peers(node: &Serve) -> String {
    let said: Said = node.command(&["swarm", "peers"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    said.stdout
}

async fn a_node_never_dials_itself() {
    let dir = tempfile::tempdir().unwrap();
    let listen = free_listen();
    let node = Serve::start_in(dir.path(), &["--swarm-listen", &listen]);
    let address = node.address().to_string();
    node.command(&["swarm", "connect", &address]).failed(1, &[&address, "this node's own"]);
    // It provides a layer, and then looks for providers of another one.
    let layer = Layer::add(&node, &noise(1000));
    node.until("the layer is announced", |status| status["layers"] == 1).await;
    node.ask(&["layer", "rm", layer.cid()]);
    assert_eq!(crate::http::get(&node.url(&layer.manifest_path())).await.status, 404);
    node.stop();
    let node = Serve::start_in(dir.path(), &["--peer", &address, "--swarm-listen", &listen]);
    until("it says so", || node.log().contains("this node's own")).await;
    assert!(!node.log().contains("ERROR"), "{}", node.log());
    assert_eq!(node.status()["peers"], 0);
    assert!(!node.log().contains("retry_seconds"), "it is not tried again: {}", node.log());
}

async fn each_failed_redial_of_a_configured_peer_is_one_log_line() {
    let dead = Serve::start(&["--swarm-listen", &free_listen()]);
    let address = dead.address().to_string();
    dead.stop();
    let node = Serve::start(&["--peer", &address]);
    let lines = || node.log().lines().filter(|line| line.contains(&address)).count();
    until("it is dialled again", || lines() >= 2).await;
    let log = node.log();
    assert!(log.contains("configured peer not connected") && log.contains("retry_seconds"), "{log}");
    assert!(!log.contains("ERROR") && log.lines().count() < 10 + lines(), "{log}");
}
