//! Finding each other: through Kademlia, and what is said there.

use std::{collections::BTreeSet, time::Duration};

use libp2p::{Multiaddr, identity::Keypair};
use libtest_mimic::Trial;
use ocipfs_node::Cid;
use serde_json::Value;

use crate::{
    harness::{Layer, Serve, noise, trials},
    http::get_found,
    peers::{
        gossip::Gossip,
        router::{Heard, Router},
    },
    rpc::Rpc,
};

pub fn trials() -> Vec<Trial> {
    trials![
        the_dht_finds_a_provider_through_a_bootstrap_peer,
        the_dht_finds_a_provider_through_a_foreign_kademlia_server,
        only_roots_and_digests_are_announced_in_the_dht,
        listen_addresses_are_announced_in_provider_records,
        swarm_announce_replaces_all_listen_addresses,
        provider_records_are_announced_again_after_a_restart,
        provider_records_are_sent_to_new_and_reconnecting_peers,
        an_unreachable_node_is_shown_in_status,
        the_announce_lag_is_zero_without_peers_and_grows_while_no_peer_takes_a_record,
    ]
}

async fn the_dht_finds_a_provider_through_a_bootstrap_peer() {
    let bootstrap = Serve::start(&[]);
    let provider = Serve::start(&["--bootstrap", bootstrap.address()]);
    let layer = Layer::add(&provider, &noise(3 << 20));
    announced(&provider, 4).await;
    let reader = Rpc::start(&["--bootstrap", bootstrap.address()]);
    // What fills its table may have connected the two, so the record itself is asked for, too. A search ends with nothing as long
    // as the reader does not know the bootstrap peer, or the provider does not.
    let search = async {
        let path = format!("routing/findprovs?arg={}", layer.cid());
        while !String::from_utf8_lossy(&reader.bytes(&path).await).contains(provider.peer()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), search).await.expect("the provider");
    let pulled = reqwest::get(reader.node.url(&layer.blob_path())).await.unwrap();
    assert!(pulled.bytes().await.unwrap() == layer.bytes);
    assert!(peers(&reader.node).contains(provider.peer()));
    assert_eq!(bootstrap.status()["cached_layers"], 0);
}

async fn the_dht_finds_a_provider_through_a_foreign_kademlia_server() {
    let router = Router::start().await;
    let provider = Serve::start(&["--bootstrap", router.address()]);
    let layer = Layer::add(&provider, &noise(100_000));
    announced(&provider, 3).await;
    let reader = Serve::start(&["--bootstrap", router.address()]);
    assert!(get_found(&reader.url(&layer.blob_path())).await.body == layer.bytes);
}

async fn only_roots_and_digests_are_announced_in_the_dht() {
    let mut router = Router::start().await;
    let node = Serve::start(&["--bootstrap", router.address()]);
    let first = Layer::add(&node, &noise(5 << 20));
    announced(&node, 4).await;
    // A second layer, so that anything else of the first would have been said before.
    let second = Layer::add(&node, &noise(2 << 20));
    announced(&node, 8).await;
    let (roots, _) = router.records(8).await;
    let mut keys = roots.clone();
    for layer in [&first, &second] {
        let cid: Cid = layer.cid().parse().unwrap();
        assert!(keys.remove(&cid.hash().to_bytes()), "the layer manifest");
        let directory: Cid = at(&node, layer).split_once('/').unwrap().0.parse().unwrap();
        assert!(keys.remove(&directory.hash().to_bytes()), "the directory");
        // A multihash of sha2-256.
        let sha256 = hex::decode(layer.digest.trim_start_matches("sha256:")).unwrap();
        assert!(keys.remove(&[&[0x12, 32], &sha256[..]].concat()), "the digest of the layer");
    }
    // What is left are the files, whose sizes a refusal to take them for layer manifests tells.
    let refusals: Vec<_> = keys.iter().map(|key| inspect_error(&node, key)).collect();
    for layer in [&first, &second] {
        let size = format!("too large: {} bytes", layer.bytes.len());
        assert!(refusals.iter().any(|said| said.contains(&size)), "{size}: {refusals:?}");
    }
    let more = router
        .already()
        .into_iter()
        .filter(|heard| matches!(heard, Heard::Provides { key, .. } if !roots.contains(key)));
    assert_eq!(more.count(), 0);
}

async fn listen_addresses_are_announced_in_provider_records() {
    let mut router = Router::start().await;
    let node = Serve::start(&[
        "--bootstrap",
        router.address(),
        "--swarm-listen",
        "/ip4/127.0.0.1/tcp/0",
        "/ip4/127.0.0.1/udp/0/quic-v1",
    ]);
    let listened: BTreeSet<Multiaddr> = texts(&node.ready["identity"]["listen"]).map(plain).collect();
    assert_eq!(listened.len(), 2);
    Layer::add(&node, &noise(1000));
    let (_, addresses) = router.records(3).await;
    assert_eq!(addresses, listened);
    assert_eq!(node.status()["reachable"], true);
}

async fn swarm_announce_replaces_all_listen_addresses() {
    let given = "/ip4/192.0.2.7/tcp/4001";
    let mut router = Router::start().await;
    let node = Serve::start(&["--bootstrap", router.address(), "--swarm-announce", given]);
    Layer::add(&node, &noise(1000));
    let only = BTreeSet::from([given.parse::<Multiaddr>().unwrap()]);
    let (mut identified, mut records) = (0, 0);
    while identified == 0 || records < 3 {
        match router.next().await {
            Heard::Listens { addresses, peer } => {
                assert_eq!((addresses, peer.to_string().as_str()), (only.clone(), node.peer()));
                identified += 1;
            }
            Heard::Provides { addresses, peer, .. } => {
                assert_eq!((addresses, peer.to_string().as_str()), (only.clone(), node.peer()));
                records += 1;
            }
        }
    }
    assert_eq!(texts(&node.status()["identity"]["announced"]).map(plain).collect::<BTreeSet<_>>(), only);
}

async fn provider_records_are_announced_again_after_a_restart() {
    let mut router = Router::start().await;
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["--bootstrap", router.address()].map(String::from);
    let arguments = arguments.each_ref().map(String::as_str);
    let node = Serve::start_in(dir.path(), &arguments);
    Layer::add(&node, &noise(1000));
    let (before, _) = router.records(3).await;
    announced(&node, 3).await;
    node.stop();
    router.already();
    let node = Serve::start_in(dir.path(), &arguments);
    let (after, addresses) = router.records(3).await;
    assert_eq!(after, before);
    assert_eq!(addresses, BTreeSet::from([plain(node.address())]));
}

async fn provider_records_are_sent_to_new_and_reconnecting_peers() {
    let node = Serve::start(&[]);
    let layer = Layer::add(&node, &noise(1000));
    assert_eq!(node.status()["announcing"], 3);
    let key = Keypair::generate_ed25519();
    let mut newcomer = Router::start_as(key.clone(), Some(node.address())).await;
    let (keys, _) = newcomer.records(3).await;
    assert!(keys.contains(&layer.cid().parse::<Cid>().unwrap().hash().to_bytes()));
    announced(&node, 3).await;
    drop(newcomer);
    node.until("it is gone", |status| status["peers"] == 0).await;
    let mut returned = Router::start_as(key, Some(node.address())).await;
    assert_eq!(returned.records(3).await.0, keys);
}

/// A settings file may name no address to listen on, as a flag cannot.
async fn an_unreachable_node_is_shown_in_status() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.toml"), "swarm-listen = []\n").unwrap();
    let node = Serve::start_in(dir.path(), &[]);
    Layer::add(&node, &noise(1000));
    let status = node.status();
    assert_eq!((&status["reachable"], &status["announcing"]), (&Value::from(false), &Value::from(3)));
    assert!(node.ask(&["swarm", "id"]).contains(node.peer()));
    assert!(node.command(&["status"]).stdout.contains("not reachable"));
}

/// Alone, nothing can be announced, and that is not a lag; what a connected peer does not take is one.
async fn the_announce_lag_is_zero_without_peers_and_grows_while_no_peer_takes_a_record() {
    let deaf = Gossip::start("nothing").await;
    let node = Serve::start(&[]);
    Layer::add(&node, &noise(1000));
    // Roots have been due for longer than a second.
    node.until("it runs for a while", |status| status["seconds"].as_u64() > Some(2)).await;
    let status = node.status();
    assert_eq!((&status["announcing"], &status["announce_lag_seconds"]), (&3.into(), &0.into()), "{status}");
    let shown = node.command(&["status"]).stdout;
    assert!(shown.contains("3 not yet, no peer to tell"), "{shown}");
    node.ask(&["swarm", "connect", deaf.address()]);
    node.until("it is behind", |status| status["announce_lag_seconds"].as_u64() > Some(0)).await;
    let shown = node.command(&["status"]).stdout;
    assert!(shown.contains("3 not yet, ") && shown.contains(" s behind"), "{shown}");
}

/// Waits until so many keys were announced, and none is left.
async fn announced(node: &Serve, keys: u64) {
    node.until("all is announced", |status| {
        status["announced"] == keys && status["announcing"] == 0 && status["announce_lag_seconds"] == 0
    })
    .await;
}

fn peers(node: &Serve) -> String {
    let said = node.command(&["swarm", "peers"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    said.stdout
}

/// `<directory>/<file>`.
fn at(node: &Serve, layer: &Layer) -> String {
    let said = node.command(&["--json", "layer", "inspect", &layer.name]);
    let inspected: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    let annotations = &inspected["manifest"]["layer"]["annotations"];
    annotations["io.ocipfs.layer.ipfs.cid"].as_str().unwrap().into()
}

fn inspect_error(node: &Serve, key: &[u8]) -> String {
    // Version 1, dag-pb.
    let cid = Cid::try_from([&[1, 0x70], key].concat()).unwrap();
    node.command(&["layer", "inspect", &cid.to_string()]).stderr
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap())
}

fn plain(address: &str) -> Multiaddr {
    address.split("/p2p/").next().unwrap().parse().unwrap()
}
