use std::sync::Arc;

use libp2p::core::Endpoint;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{no_blocks::NoBlocks, routing::Keeper};

/// Returns the addresses that are dialled, sorted, of a peer that claims to listen on all kinds of addresses.
async fn dialled(public: bool, peer: PeerId, configured: &[Multiaddr]) -> Vec<String> {
    let (dir, key) = (tempfile::tempdir().unwrap(), Keypair::generate_ed25519());
    let (_, inbox) = mpsc::channel(1);
    let (hear, _) = mpsc::channel(1);
    let (bitswap, ..) = bitswap::start(
        Arc::new(NoBlocks),
        Default::default(),
        &TaskTracker::new(),
        &CancellationToken::new(),
    );
    let store = Keeper::open(dir.path(), key.public().to_peer_id()).await.store();
    let settings = BehaviourSettings {
        announce: vec![],
        trust_listen_addresses: false,
        handshakes: None,
        public,
        limits: Limits::default(),
        http: None,
    };
    let peers = Peers::open(&crate::Options::new("unused"), configured);
    let mut behaviour = Behaviour::new(&key, settings, bitswap, (inbox, hear), peers, store).unwrap();
    for address in [
        "/dns4/example.org/tcp/1",
        "/ip4/10.0.0.1/tcp/22",
        "/ip4/127.0.0.1/tcp/22",
        "/ip4/203.0.113.9/tcp/1",
        // No transport of libp2p dials it.
        "/ip4/203.0.113.9/tcp/80/http",
    ] {
        behaviour.behaviours.kad.add_address(&peer, address.parse().unwrap());
    }
    let id = ConnectionId::new_unchecked(1);
    let addresses = behaviour.handle_pending_outbound_connection(id, Some(peer), &[], Endpoint::Dialer);
    let without_id = |address: Multiaddr| address.to_string().replace(&format!("/p2p/{peer}"), "");
    let mut addresses: Vec<_> = addresses.unwrap().into_iter().map(without_id).collect();
    addresses.sort();
    addresses
}

#[tokio::test]
async fn dns_and_private_addresses_from_untrusted_peers_are_not_dialled() {
    let peer = PeerId::random();
    let (dns, lan, here, public) = (
        "/dns4/example.org/tcp/1",
        "/ip4/10.0.0.1/tcp/22",
        "/ip4/127.0.0.1/tcp/22",
        "/ip4/203.0.113.9/tcp/1",
    );
    assert_eq!(dialled(false, peer, &[]).await, [lan, here, public], "a small swarm is on private addresses");
    assert_eq!(dialled(true, peer, &[]).await, [dns, public]);
    // All addresses of a configured peer are accepted.
    let configured = [format!("{public}/p2p/{peer}").parse().unwrap()];
    assert_eq!(dialled(false, peer, &configured).await, [dns, lan, here, public]);
}
