//! `swarm/*` and `routing/*`: peers, and who has what.

use axum::{Json, extract::State, http::HeaderMap, response::Response};
use ocipfs_node::{Multiaddr, Peer, PeerId};
use serde_json::{Map, Value, json};

use super::{
    Rpc,
    args::Args,
    error::Error,
    path,
    reply::{self, Stream},
};

/// The numbers of the events of a query in Kubo.
const FINAL_PEER: u8 = 2;
const PROVIDER: u8 = 4;
const DEFAULT_PROVIDERS: usize = 20;
const MAX_PROVIDERS: usize = 1000;

/// Lists the connected peers.
pub async fn peers(State(rpc): State<Rpc>, args: Args) -> Result<Json<Value>, Error> {
    let verbose = args.is_set("verbose")?;
    let (direction, latency) = (args.is_set("direction")?, args.is_set("latency")?);
    let identify = args.is_set("identify")?;
    let info = |peer: Peer| {
        let mut info = json!({ "Addr": bare(&peer.address), "Peer": peer.id.to_string() });
        if verbose || direction {
            info["Direction"] = json!(if peer.dialled { 2 } else { 1 });
        }
        if verbose || latency {
            info["Latency"] = json!("n/a");
        }
        if verbose || identify {
            let agent = peer.agent.unwrap_or_default();
            info["Identify"] = json!({
                "ID": peer.id.to_string(), "PublicKey": "", "Addresses": [], "AgentVersion": agent, "Protocols": [],
            });
        }
        info
    };
    let peers: Vec<Value> = rpc.content().node().peers().into_iter().map(info).collect();
    Ok(Json(json!({ "Peers": peers })))
}

/// Connects to peers.
pub async fn connect(State(rpc): State<Rpc>, args: Args) -> Result<Json<Value>, Error> {
    let mut done = Vec::new();
    for text in args.required("address")? {
        let address: Multiaddr =
            text.parse().map_err(|error| Error::failed(format!("invalid multiaddr {text:?}: {error}")))?;
        let connected = rpc.content().node().connect(&address).await;
        let peer = connected.map_err(|error| Error::failed(format!("connect {address} failure: {error}")))?;
        done.push(format!("connect {peer} success"));
    }
    Ok(Json(json!({ "Strings": done })))
}

/// Lists the addresses of the connected peers, and of this node.
pub async fn addrs(State(rpc): State<Rpc>) -> Json<Value> {
    let node = rpc.content().node();
    let mut all = Map::new();
    for peer in node.peers() {
        all.insert(peer.id.to_string(), json!([bare(&peer.address)]));
    }
    let own: Vec<String> = node.listen_addresses().await.iter().map(bare).collect();
    all.insert(node.peer_id().to_string(), json!(own));
    Json(json!({ "Addrs": all }))
}

/// Lists the addresses that this node announces.
pub async fn local_addrs(State(rpc): State<Rpc>) -> Json<Value> {
    let node = rpc.content().node();
    let mut addresses = node.external_addresses().await;
    if addresses.is_empty() {
        addresses = node.listen_addresses().await;
    }
    Json(json!({ "Strings": addresses.iter().map(bare).collect::<Vec<_>>() }))
}

/// Lists the addresses that this node listens on.
pub async fn listen_addrs(State(rpc): State<Rpc>) -> Json<Value> {
    let addresses = rpc.content().node().listen_addresses().await;
    Json(json!({ "Strings": addresses.iter().map(bare).collect::<Vec<_>>() }))
}

/// Returns an address without the peer ID at its end. That of a peer that came over a relay may be nothing else, and stays.
fn bare(address: &Multiaddr) -> String {
    let text = address.to_string();
    match text.rsplit_once("/p2p/") {
        Some((bare, id)) if !bare.is_empty() && !id.contains('/') => bare.into(),
        _ => text,
    }
}

/// Searches the providers of a CID.
pub async fn find_providers(
    State(rpc): State<Rpc>,
    args: Args,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let cid = path::resolve_cid(&rpc, args.one(0, "key")?).await?;
    let most = args.option::<usize>("num-providers")?.unwrap_or(DEFAULT_PROVIDERS).min(MAX_PROVIDERS);
    reply::stream(Stream::Objects, &headers, |output| async move {
        let (node, patience) = (rpc.content().node(), rpc.content().find_timeout());
        let mut left = most;
        if left > 0 && rpc.content().is_here(&cid).await? && rpc.content().is_shown(&cid).await? {
            let own: Vec<String> = node.listen_addresses().await.iter().map(bare).collect();
            output.object(&event(&node.peer_id(), own, PROVIDER)).await?;
            left -= 1;
        }
        let search = async {
            let mut found = node.find_providers(cid).await.map_err(Error::failed)?;
            while left > 0
                && let Some(peer) = found.recv().await
            {
                if peer != node.peer_id() {
                    output.object(&event(&peer, addresses(&rpc, &peer), PROVIDER)).await?;
                    left -= 1;
                }
            }
            Ok(())
        };
        tokio::time::timeout(patience, search).await.unwrap_or(Ok(()))
    })
    .await
}

/// Finds the addresses of a peer that is connected.
pub async fn find_peer(State(rpc): State<Rpc>, args: Args, headers: HeaderMap) -> Result<Response, Error> {
    let text = args.one(0, "peerID")?;
    let invalid = |error| Error::failed(format!("invalid peer ID {text:?}: {error}"));
    let peer: PeerId = text.parse().map_err(invalid)?;
    if peer == rpc.content().node().peer_id() {
        return Err(Error::failed("finding your own node in the DHT is currently not supported"));
    }
    let addresses = addresses(&rpc, &peer);
    if addresses.is_empty() {
        return Err(Error::failed("routing: not found (only connected peers are known by their addresses)"));
    }
    reply::stream(Stream::Objects, &headers, |output| async move {
        output.object(&event(&peer, addresses, FINAL_PEER)).await
    })
    .await
}

fn addresses(rpc: &Rpc, peer: &PeerId) -> Vec<String> {
    let connected = rpc.content().node().peers().into_iter().filter(|connected| connected.id == *peer);
    connected.map(|connected| bare(&connected.address)).collect()
}

fn event(peer: &PeerId, addresses: Vec<String>, kind: u8) -> Value {
    let response = json!({ "ID": peer.to_string(), "Addrs": addresses });
    json!({ "Extra": "", "ID": "", "Responses": [response], "Type": kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_no_peer_id_at_its_end_unless_it_has_nothing_else() {
        let relay = "12D3KooWRt2BXTBtWbN6MhGTQwT8mEiQvRqwGPxLffD4WCnPut1e";
        for (address, expected) in [
            (format!("/ip4/127.0.0.1/tcp/1/p2p/{relay}"), "/ip4/127.0.0.1/tcp/1".to_owned()),
            ("/ip4/127.0.0.1/tcp/1".into(), "/ip4/127.0.0.1/tcp/1".into()),
            (format!("/p2p/{relay}"), format!("/p2p/{relay}")),
            (
                format!("/ip4/127.0.0.1/tcp/1/p2p/{relay}/p2p-circuit"),
                format!("/ip4/127.0.0.1/tcp/1/p2p/{relay}/p2p-circuit"),
            ),
        ] {
            assert_eq!(bare(&address.parse().unwrap()), expected);
        }
    }
}
