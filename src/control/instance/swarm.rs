//! Handler of requests about the swarm.

use ocipfs_node::Multiaddr;

use super::Instance;
use crate::control::{Failure, Identity, PeerInfo, Reply};

impl Instance {
    pub(super) async fn identity(&self) -> Identity {
        let node = self.content().node();
        let text = |addresses: Vec<Multiaddr>| addresses.iter().map(ToString::to_string).collect();
        Identity {
            peer: node.peer_id().to_string(),
            listen: text(node.listen_addresses().await),
            announced: text(node.external_addresses().await),
        }
    }

    pub(super) fn peers(&self) -> Vec<PeerInfo> {
        let info = |peer: ocipfs_node::Peer| PeerInfo {
            peer: peer.id.to_string(),
            address: peer.address.to_string(),
            direction: if peer.dialled { "out" } else { "in" }.into(),
            agent: peer.agent,
            seconds: peer.since.elapsed().as_secs(),
        };
        self.content().node().peers().into_iter().map(info).collect()
    }

    pub(super) async fn connect(&self, address: &str) -> Result<Reply, Failure> {
        let parsed: Multiaddr = address.parse().map_err(|e| {
            Failure::new(format!("invalid multiaddr {address:?}: {e}"))
                .hint("expected for example /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW...")
        })?;
        let peer = self.content().node().connect(&parsed).await.map_err(|e| {
            Failure::new(e).hint(
                "check that the other node is running, and that both are public or in the same private swarm",
            )
        })?;
        Ok(Reply::Connected { peer: peer.to_string() })
    }
}
