//! Handler of requests about the swarm.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ocipfs_node::{IpnsName, Multiaddr};

use super::Instance;
use crate::control::{Failure, Identity, Invitation, Invited, PeerInfo, Reply};

/// Addresses in an invitation.
const MAX_INVITING: usize = 8;

fn is_loopback(address: &Multiaddr) -> bool {
    let text = address.to_string();
    text.starts_with("/ip4/127.") || text.starts_with("/ip6/::1/")
}

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

    /// Makes an invitation to the private swarm.
    pub(super) async fn invite(&self, follow: Option<&str>, seconds: u64) -> Result<Reply, Failure> {
        let key = self.content().node().swarm_key().ok_or_else(|| {
            Failure::new("this node is in no private swarm")
                .hint("`ocipfs swarm key FILE` makes a key; start the node with --swarm-key FILE")
        })?;
        let addresses = self.member_addresses().await;
        if addresses.is_empty() {
            return Err(Failure::new("this node listens at no address that others can dial")
                .hint("name addresses with --swarm-listen, or with --swarm-announce"));
        }
        let follow = match follow {
            Some("self") => Some(self.publisher().name()),
            Some(name) => Some(name.parse::<IpnsName>().map_err(|e| {
                Failure::new(e).hint("`ocipfs name ls` prints names; `self` is the name of this node")
            })?),
            None => None,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let (admin, expires) = (self.content().node().swarm_admin(), now.as_secs().saturating_add(seconds));
        let list = self.content().node().admission_list().ok().flatten().map(|list| list.sequence);
        let invitation = Invitation { key, addresses, follow, admin, list, expires };
        Ok(Reply::Invited(Invited {
            invitation: invitation.encode(),
            addresses: invitation.addresses.iter().map(ToString::to_string).collect(),
            follow: invitation.follow.map(|name| name.to_string()),
            admin: admin.map(|admin| admin.to_string()),
            expires: invitation.expires,
        }))
    }

    /// Returns the addresses by which a new member finds the swarm: those of this node, and of peers that it reached. Loopback
    /// addresses are for members on this machine alone, and serve only if there are no others.
    async fn member_addresses(&self) -> Vec<Multiaddr> {
        let node = self.content().node();
        let mut addresses = node.external_addresses().await;
        addresses.extend(node.listen_addresses().await);
        addresses.extend(node.export_peers().await);
        let mut seen = std::collections::HashSet::new();
        addresses.retain(|address| seen.insert(address.clone()));
        if !addresses.iter().all(is_loopback) {
            addresses.retain(|address| !is_loopback(address));
        }
        addresses.truncate(MAX_INVITING);
        addresses
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
