//! A node finds its network without its bootstrap peers: by the peers of earlier runs, and by lists of them.

mod lists;
mod restarts;

use std::{net::TcpListener, path::Path, process::Command, time::Duration};

use libtest_mimic::Trial;
use ocipfs_node::{Keypair, PeerId};

use crate::{
    harness::{Layer, Serve, finish, noise, ocipfs, trials, within},
    http::get,
    peers::router::Router,
};

/// The most that a provider may take to be found by a node whose memory of peers is poisoned.
const POISONED_LIMIT: Duration = Duration::from_secs(15);
/// For all else that needs no more than a moment.
const PATIENCE: Duration = Duration::from_secs(60);
/// Peers in a poisoned memory; nine out of ten never answer.
const POISONED: usize = 300;

pub fn trials() -> Vec<Trial> {
    let own = trials![
        a_node_whose_bootstrap_peers_are_gone_finds_providers_by_remembered_peers,
        a_new_node_finds_the_network_by_an_exported_list_of_peers,
        a_memory_of_peers_that_mostly_never_answer_still_finds_the_network,
        a_malformed_list_of_bootstrap_peers_is_refused_by_its_line,
        a_list_of_bootstrap_peers_is_read_once_so_it_may_be_a_named_pipe,
        a_node_with_bootstrap_none_remembers_no_peers,
    ];
    [own, lists::trials(), restarts::trials()].into_iter().flatten().collect()
}

/// Adds a layer, and waits until it is announced to the peers that the provider has.
async fn announced(provider: &Serve, bytes: usize) -> Layer {
    let layer = Layer::add(provider, &noise(bytes));
    provider.until("all is announced", |status| status["announced"] == 3 && status["announcing"] == 0).await;
    layer
}

/// Pulls a layer that another node has.
async fn pulls(node: &Serve, layer: &Layer, limit: Duration) {
    let pulled = within(limit, async {
        loop {
            let answer = get(&node.url(&layer.blob_path())).await;
            if answer.status == 200 {
                return answer;
            }
        }
    });
    assert!(pulled.await.body == layer.bytes, "{}", node.log());
}

/// The peer ID at the end of an address.
fn peer_of(address: &str) -> &str {
    address.rsplit('/').next().unwrap()
}

async fn a_node_whose_bootstrap_peers_are_gone_finds_providers_by_remembered_peers() {
    let dir = tempfile::tempdir().unwrap();
    let (seed, router) = (Serve::start(&[]), Router::start().await);
    let address = seed.address().to_owned();
    let node = Serve::start_in(dir.path(), &["--bootstrap", &address, router.address()]);
    assert_eq!(node.status()["remembered_peers"], 0);
    node.until("both are connected", |status| status["peers"] == 2).await;
    node.stop();
    seed.kill();
    // It comes only now: what leads to it is a record at the remembered peer.
    let provider = Serve::start(&["--bootstrap", router.address()]);
    let layer = announced(&provider, 100_000).await;
    let remembered = std::fs::read_to_string(dir.path().join("peers.json")).unwrap();
    assert!(remembered.contains(peer_of(router.address())) && !remembered.contains(provider.peer()));
    let node = Serve::start_in(dir.path(), &["--bootstrap", &address]);
    pulls(&node, &layer, PATIENCE).await;
    node.until("the seed is known to be gone", |status| status["unreachable_bootstrap_peers"] == 1).await;
    let shown = node.command(&["status"]).stdout;
    assert!(shown.contains("1 of 1 bootstrap peers unreachable, started with 2 remembered peers"), "{shown}");
}

async fn a_new_node_finds_the_network_by_an_exported_list_of_peers() {
    let (own, router) = (tempfile::tempdir().unwrap(), Router::start().await);
    let other = Serve::start_in(own.path(), &["--bootstrap", router.address()]);
    other.until("it is connected", |status| status["peers"] == 1).await;
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("peers.txt");
    let list = list.to_str().unwrap();
    assert_eq!(other.ask(&["swarm", "export-peers", list]), list);
    let text = std::fs::read_to_string(list).unwrap();
    for peer in [other.peer(), peer_of(router.address())] {
        assert!(text.contains(peer), "{text}");
    }
    // It is not in the list.
    let provider = Serve::start(&["--bootstrap", router.address()]);
    let layer = announced(&provider, 100_000).await;
    let new = Serve::start(&["--bootstrap", "none", "--bootstrap-from", list]);
    pulls(&new, &layer, PATIENCE).await;
    assert_eq!(new.status()["remembered_peers"], text.lines().count());
    // Without a running node the list is that of its last run.
    other.stop();
    let said = finish(ocipfs(own.path()).args(["swarm", "export-peers"]));
    assert!(said.stdout.contains(peer_of(router.address())), "{said:?}");
    // One that was nowhere has none, and says so.
    let nowhere = tempfile::tempdir().unwrap();
    let said = finish(ocipfs(nowhere.path()).args(["swarm", "export-peers"]));
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), ""), "{said:?}");
    assert!(said.stderr.contains("warning: there is no address to export"), "{said:?}");
}

/// Those who poisoned it have the first places. The others answer for the DHT, and none of them is the provider.
async fn a_memory_of_peers_that_mostly_never_answer_still_finds_the_network() {
    let living = futures::future::join_all((0..POISONED / 10).map(|_| Router::start())).await;
    let addresses: Vec<&str> = living.iter().map(Router::address).collect();
    let provider = Serve::start(&[&["--bootstrap"], &addresses[..]].concat());
    let layer = announced(&provider, 100_000).await;
    // It accepts connections, as the system does for it, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = format!("/ip4/127.0.0.1/tcp/{}", silent.local_addr().unwrap().port());
    let dir = tempfile::tempdir().unwrap();
    let dead_peers = (living.len()..POISONED).map(|_| format!("{dead}/p2p/{}", stranger()));
    let mut peers: Vec<_> = dead_peers.map(|address| remembered(&address, 0)).collect();
    peers.extend(addresses.iter().map(|address| remembered(address, 24 * 60 * 60)));
    write(dir.path(), &peers);
    let gone = format!("{dead}/p2p/{}", stranger());
    let node = Serve::start_in(dir.path(), &["--bootstrap", &gone]);
    assert_eq!(node.status()["remembered_peers"], POISONED);
    pulls(&node, &layer, POISONED_LIMIT).await;
    silent.set_nonblocking(true).unwrap();
    let dialled = std::iter::from_fn(|| silent.accept().ok()).count();
    eprintln!("{dialled} of {} dead peers were dialled before", POISONED - living.len());
}

fn stranger() -> PeerId {
    Keypair::generate_ed25519().public().to_peer_id()
}

/// The peer as the file has it, reached so many seconds ago.
fn remembered(address: &str, ago: u64) -> serde_json::Value {
    serde_json::json!({
        "addresses": [address],
        "last_reached": std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() - ago,
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
