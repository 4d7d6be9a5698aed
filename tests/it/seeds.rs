//! A node finds its network without its bootstrap peers: by the peers of earlier runs, and by lists of them.

use std::{net::TcpListener, path::Path, process::Command, time::Duration};

use libtest_mimic::Trial;
use ocipfs_node::{Keypair, PeerId};

use crate::{
    harness::{Layer, Serve, finish, noise, ocipfs, trials, within},
    http::get,
};

/// Restarts unless `OCIPFS_TEST_RESTARTS` says otherwise.
const RESTARTS: u32 = 10;
/// Peers in a poisoned memory; nine out of ten never answer.
const POISONED: usize = 300;

pub fn trials() -> Vec<Trial> {
    trials![
        a_node_whose_bootstrap_peers_are_gone_finds_providers_by_remembered_peers,
        a_new_node_finds_the_network_by_an_exported_list_of_peers,
        a_memory_of_peers_that_mostly_never_answer_still_finds_the_network,
        a_malformed_list_of_bootstrap_peers_is_refused_by_its_line,
        a_list_of_bootstrap_peers_is_read_once_so_it_may_be_a_named_pipe,
        a_node_with_bootstrap_none_remembers_no_peers,
    ]
}

fn restarts() -> u32 {
    std::env::var("OCIPFS_TEST_RESTARTS").map_or(RESTARTS, |text| text.parse().unwrap())
}

/// Pulls a layer that only `provider` has.
async fn finds(node: &Serve, provider: &Serve, bytes: usize, limit: Duration) {
    let layer = Layer::add(provider, &noise(bytes));
    let pulled = within(limit, async {
        loop {
            let answer = get(&node.url(&layer.blob_path())).await;
            if answer.status == 200 {
                return answer;
            }
        }
    });
    assert_eq!(pulled.await.body, layer.bytes, "{}", node.log());
}

async fn a_node_whose_bootstrap_peers_are_gone_finds_providers_by_remembered_peers() {
    let dir = tempfile::tempdir().unwrap();
    let (seed, provider) = (Serve::start(&[]), Serve::start(&[]));
    let address = seed.address().to_owned();
    // The node dials the provider: a peer that dialled it is not remembered, since its addresses were never tried.
    let node = Serve::start_in(dir.path(), &["--bootstrap", &address, provider.address()]);
    assert_eq!(node.status()["remembered_peers"], 0);
    finds(&node, &provider, 100_000, Duration::from_secs(30)).await;
    node.stop();
    seed.kill();
    let arguments = ["--bootstrap", &address];
    for round in 1..=restarts() {
        let node = Serve::start_in(dir.path(), &arguments);
        finds(&node, &provider, 100_000 + round as usize, Duration::from_secs(5)).await;
        let status = node.status();
        assert_eq!(status["bootstrap_peers"], 1);
        assert!(status["remembered_peers"].as_u64() >= Some(1), "{status}");
        node.until("the seed is known to be gone", |status| status["unreachable_bootstrap_peers"] == 1).await;
        node.stop();
    }
}

async fn a_new_node_finds_the_network_by_an_exported_list_of_peers() {
    let provider = Serve::start(&[]);
    let own = tempfile::tempdir().unwrap();
    let other = Serve::start_in(own.path(), &["--bootstrap", provider.address()]);
    finds(&other, &provider, 100_000, Duration::from_secs(30)).await;
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("peers.txt");
    let list = list.to_str().unwrap();
    assert_eq!(other.ask(&["swarm", "export-peers", list]), list);
    let text = std::fs::read_to_string(list).unwrap();
    for node in [&other, &provider] {
        assert!(text.contains(node.peer()), "{text}");
    }
    let new = Serve::start(&["--bootstrap", "none", "--bootstrap-from", list]);
    finds(&new, &provider, 100_001, Duration::from_secs(10)).await;
    assert_eq!(new.status()["remembered_peers"], text.lines().count());
    // Without a running node the list is that of its last run.
    other.stop();
    assert!(finish(ocipfs(own.path()).args(["swarm", "export-peers"])).stdout.contains(provider.peer()));
    // One that was nowhere has none, and says so.
    let nowhere = tempfile::tempdir().unwrap();
    let said = finish(ocipfs(nowhere.path()).args(["swarm", "export-peers"]));
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), ""), "{said:?}");
    assert!(said.stderr.contains("warning: there is no address to export"), "{said:?}");
}

async fn a_memory_of_peers_that_mostly_never_answer_still_finds_the_network() {
    let seed = Serve::start(&[]);
    let arguments = ["--bootstrap", seed.address()];
    let provider = Serve::start(&arguments);
    // It accepts connections, as the system does for it, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = format!("/ip4/127.0.0.1/tcp/{}", silent.local_addr().unwrap().port());
    let dir = tempfile::tempdir().unwrap();
    let mut peers: Vec<_> =
        (0..POISONED * 9 / 10).map(|_| remembered(&format!("{dead}/p2p/{}", stranger()))).collect();
    peers.push(remembered(provider.address()));
    // The other living ones are the same two peers: what counts is that one is found.
    peers.push(remembered(seed.address()));
    write(dir.path(), &peers);
    let gone = format!("{dead}/p2p/{}", stranger());
    let node = Serve::start_in(dir.path(), &["--bootstrap", &gone, "--find-timeout", "15s"]);
    finds(&node, &provider, 100_000, Duration::from_secs(60)).await;
}

fn stranger() -> PeerId {
    Keypair::generate_ed25519().public().to_peer_id()
}

/// The peer as the file has it, reached a moment ago.
fn remembered(address: &str) -> serde_json::Value {
    serde_json::json!({
        "addresses": [address],
        "last_reached": std::time::UNIX_EPOCH.elapsed().unwrap().as_secs(),
        "days": 1,
        "failures": 0,
        "dht_server": true,
    })
}

fn write(dir: &Path, peers: &[serde_json::Value]) {
    std::fs::write(dir.join("peers.json"), serde_json::to_vec(peers).unwrap()).unwrap();
}

async fn a_malformed_list_of_bootstrap_peers_is_refused_by_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("peers.txt");
    std::fs::write(&list, "# peers\nnonsense\n").unwrap();
    let list = list.to_str().unwrap();
    let serve =
        |from: &str| finish(ocipfs(&dir.path().join("node")).args(["serve", "--bootstrap-from", from]));
    serve(list).failed(2, &["line 2", "nonsense", "export-peers"]);
    serve("/does/not/exist").failed(2, &["--bootstrap-from /does/not/exist", "No such file"]);
}

async fn a_list_of_bootstrap_peers_is_read_once_so_it_may_be_a_named_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let (provider, pipe) = (Serve::start(&[]), dir.path().join("peers"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (list, writer) = (format!("{}\n", provider.address()), pipe.clone());
    std::thread::spawn(move || std::fs::write(writer, list));
    let node = Serve::start(&["--bootstrap", "none", "--bootstrap-from", pipe.to_str().unwrap()]);
    node.until("the listed peer is connected", |status| status["peers"] == 1).await;
}

async fn a_node_with_bootstrap_none_remembers_no_peers() {
    let dir = tempfile::tempdir().unwrap();
    let one = Serve::start(&[]);
    let node = Serve::start_in(dir.path(), &["--peer", one.address()]);
    node.until("they are connected", |status| status["peers"] == 1).await;
    node.stop();
    assert!(!dir.path().join("peers.json").exists());
}
