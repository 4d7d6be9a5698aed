//! `repo/*`, `stats/*` and `config/show`: the store and the node in numbers.

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    Rpc,
    args::Args,
    error::Error,
    reply::{self, Stream},
};

/// What Kubo says of a repository without a limit.
const NO_LIMIT: u64 = u64::MAX;

/// Returns how much is stored.
pub async fn stat(State(rpc): State<Rpc>, args: Args) -> Result<Json<Value>, Error> {
    let used = rpc.content().usage().await?.used;
    let limit = rpc.content().limits().1.unwrap_or(NO_LIMIT);
    if args.is_set("size-only")? {
        let (path, version) = ("", "");
        return Ok(Json(json!({
            "RepoSize": used, "StorageMax": limit, "NumObjects": 0, "RepoPath": path, "Version": version,
        })));
    }
    let blocks = rpc.content().store_stat().await?.blocks;
    let path = rpc.options.data_dir.display().to_string();
    Ok(Json(json!({
        "RepoSize": used, "StorageMax": limit, "NumObjects": blocks, "RepoPath": path, "Version": "ocipfs",
    })))
}

/// Removes what nothing keeps. A blob is removed as a whole, so no blocks are listed.
pub async fn gc(State(rpc): State<Rpc>, headers: HeaderMap) -> Result<Response, Error> {
    reply::stream(Stream::Objects, &headers, |_output| async move {
        let collected = rpc.content().collect(false).await?;
        tracing::info!(bytes = collected.bytes, "garbage collection by the RPC");
        Ok(())
    })
    .await
}

/// Returns the version of the repository.
pub async fn version() -> Json<Value> {
    Json(json!({ "Version": "ocipfs" }))
}

/// Returns the bytes of blocks that were exchanged with peers.
pub async fn bandwidth(State(rpc): State<Rpc>) -> impl IntoResponse {
    let traffic = rpc.content().node().traffic();
    let seconds = rpc.started.elapsed().as_secs_f64().max(1.0);
    Json(json!({
        "TotalIn": traffic.received_bytes,
        "TotalOut": traffic.sent_bytes,
        "RateIn": traffic.received_bytes as f64 / seconds,
        "RateOut": traffic.sent_bytes as f64 / seconds,
    }))
}

/// Returns the blocks that were exchanged with peers.
pub async fn bitswap(State(rpc): State<Rpc>) -> Json<Value> {
    let traffic = rpc.content().node().traffic();
    let peers: Vec<String> = rpc.content().node().peers().iter().map(|peer| peer.id.to_string()).collect();
    Json(json!({
        "Wantlist": [],
        "Peers": peers,
        "BlocksReceived": traffic.received_blocks,
        "DataReceived": traffic.received_bytes,
        "DupBlksReceived": 0,
        "DupDataReceived": 0,
        "MessagesReceived": 0,
        "BlocksSent": traffic.sent_blocks,
        "DataSent": traffic.sent_bytes,
    }))
}

/// Returns the settings that clients of Kubo look for.
pub async fn config(State(rpc): State<Rpc>) -> Json<Value> {
    let node = rpc.content().node();
    let swarm: Vec<String> = node.listen_addresses().await.iter().map(ToString::to_string).collect();
    let limit = rpc.content().limits().1.map_or(String::new(), |limit| format!("{limit}B"));
    Json(json!({
        "API": { "HTTPHeaders": {} },
        "Addresses": { "API": rpc.api, "Announce": [], "Gateway": [], "NoAnnounce": [], "Swarm": swarm },
        "Bootstrap": [],
        "Datastore": { "StorageMax": limit },
        "Gateway": {},
        "Identity": { "PeerID": node.peer_id().to_string() },
        "Ipns": {},
        "Routing": {},
        "Swarm": {},
    }))
}
