//! The requests that the connector of ipfs-cluster sends to an IPFS daemon, one by one. Its module is not served by the proxy of
//! Go modules, so the program itself is not run.

use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::Rpc;
use crate::harness::{noise, trials};

const OCTETS: &str = "application/octet-stream";

pub fn trials() -> Vec<Trial> {
    trials![rpc_answers_what_the_connector_of_ipfs_cluster_asks]
}

/// The objects of a stream.
async fn objects(rpc: &Rpc, command: &str) -> Vec<Value> {
    let text = String::from_utf8(rpc.bytes(command).await).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn rpc_answers_what_the_connector_of_ipfs_cluster_asks() {
    let (source, rpc) = (Rpc::start(&[]), Rpc::start(&["--find-timeout", "2s"]));
    let id = rpc.json("id").await;
    assert_eq!(id["ID"], rpc.node.peer());
    assert!(!id["Addresses"].as_array().unwrap().is_empty());
    let connected = rpc.json(&format!("swarm/connect?arg={}", source.node.address())).await;
    assert_eq!(connected["Strings"], json!([format!("connect {} success", source.node.peer())]));
    let peers = rpc.json("swarm/peers").await;
    assert_eq!(peers["Peers"][0]["Peer"], source.node.peer());

    // A pin that is fetched: its progress grows until it is there.
    let cid = source.add("cid-version=1", &noise(5 << 20)).await;
    let not_pinned = rpc.failure(&format!("pin/ls?arg={cid}&type=recursive")).await;
    assert!(not_pinned.ends_with("is not pinned"), "{not_pinned}");
    let progress = objects(&rpc, &format!("pin/add?arg={cid}&recursive=true&progress=true")).await;
    assert_eq!(progress.last().unwrap()["Pins"], json!([cid]), "{progress:?}");
    let blocks: Vec<u64> = progress.iter().filter_map(|object| object["Progress"].as_u64()).collect();
    assert!(blocks.is_sorted(), "{blocks:?}");
    let pinned = rpc.json(&format!("pin/ls?arg={cid}&type=recursive")).await;
    assert_eq!(pinned["Keys"][&cid]["Type"], "recursive");
    let listed = objects(&rpc, "pin/ls?stream=true&type=recursive").await;
    assert_eq!(listed, [json!({ "Cid": cid, "Type": "recursive" })]);

    // Another version of it, then none.
    let newer = rpc.add("cid-version=1&pin=false", &noise(300_000)).await;
    let updated = rpc.json(&format!("pin/update?arg={cid}&arg={newer}&unpin=false")).await;
    assert_eq!(updated["Pins"], json!([cid, newer]));
    assert_eq!(rpc.json(&format!("pin/rm?arg={cid}")).await["Pins"], json!([cid]));
    let again = rpc.failure(&format!("pin/rm?arg={cid}")).await;
    assert_eq!(again, "not pinned or pinned indirectly");

    // Blocks of a DAG that the cluster made, many in one request.
    let parts: Vec<Vec<u8>> = (0..20).map(|n| vec![n; 1000]).collect();
    let parts: Vec<(&str, &str, &[u8])> = parts.iter().map(|part| ("", OCTETS, part.as_slice())).collect();
    let put = "block/put?mhtype=sha2-256&mhlen=-1&cid-codec=raw&pin=false&allow-big-block=true";
    let keys = rpc.upload(put, &parts).await;
    assert_eq!(keys.len(), parts.len());
    for (key, (_, _, bytes)) in keys.iter().zip(&parts) {
        assert_eq!(key["Size"], 1000);
        assert_eq!(rpc.bytes(&format!("block/get?arg={}", key["Key"].as_str().unwrap())).await, *bytes);
    }

    let resolved = rpc.json(&format!("resolve?arg=/ipfs/{newer}")).await;
    assert_eq!(resolved["Path"], format!("/ipfs/{newer}"));
    let config = rpc.json("config/show").await;
    assert!(config["Datastore"]["StorageMax"].is_string());
    let stat = rpc.json("repo/stat?size-only=true").await;
    assert!(stat["RepoSize"].as_u64().unwrap() >= 300_000 && stat["StorageMax"].is_u64());
    objects(&rpc, "repo/gc?stream-errors=true").await;
    assert_eq!(rpc.bytes(&format!("cat?arg={newer}")).await.len(), 300_000);
    assert!(rpc.json("version").await["Version"].is_string());
}
