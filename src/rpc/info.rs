//! `version` and `id`.

use axum::{Json, extract::State};
use base64::{Engine, prelude::BASE64_STANDARD};
use ocipfs_node::PeerId;
use serde_json::{Value, json};

use super::{Rpc, args::Args, error::Error};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Returns the version of this program, in the place of Kubo's.
pub async fn version() -> Json<Value> {
    let system = format!("{}/{}", std::env::consts::ARCH, std::env::consts::OS);
    Json(json!({ "Version": VERSION, "Commit": "", "Repo": "ocipfs", "System": system, "Golang": "" }))
}

/// Returns the identity of this node, or what is known of a connected peer.
pub async fn id(State(rpc): State<Rpc>, args: Args) -> Result<Json<Value>, Error> {
    let node = rpc.content().node();
    let me = node.peer_id();
    let peer = match args.get(0) {
        None | Some("") => me,
        Some(text) => text
            .parse::<PeerId>()
            .map_err(|error| Error::failed(format!("invalid peer ID {text:?}: {error}")))?,
    };
    if peer != me {
        let connected = node.peers().into_iter().find(|connected| connected.id == peer);
        let connected = connected.ok_or_else(|| Error::failed(format!("peer {peer} is not connected")))?;
        return Ok(Json(json!({
            "ID": peer.to_string(),
            "PublicKey": "",
            "Addresses": [format!("{}", connected.address)],
            "AgentVersion": connected.agent.unwrap_or_default(),
            "Protocols": [],
        })));
    }
    let mut addresses = node.external_addresses().await;
    addresses.extend(node.listen_addresses().await);
    let mut addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    addresses.dedup();
    Ok(Json(json!({
        "ID": me.to_string(),
        "PublicKey": BASE64_STANDARD.encode(node.own_key().public().encode_protobuf()),
        "Addresses": addresses,
        "AgentVersion": format!("ocipfs/{VERSION}"),
        "Protocols": [],
    })))
}
