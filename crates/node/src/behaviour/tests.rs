use std::sync::Arc;

use libp2p::core::Endpoint;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{dht::Dht, *};
use crate::{no_blocks::NoBlocks, routing::Keeper};

async fn behaviour(public: bool, configured: &[Multiaddr]) -> Behaviour {
    let (dir, key) = (tempfile::tempdir().unwrap(), Keypair::generate_ed25519());
    let (_, inbox) = mpsc::channel(1);
    let (hear, _) = mpsc::channel(1);
    let (bitswap, ..) = bitswap::start(
        Arc::new(NoBlocks),
        Default::default(),
        Default::default(),
        &TaskTracker::new(),
        &CancellationToken::new(),
    );
    let store = Keeper::open(dir.path(), key.public().to_peer_id()).await.store();
    let settings = BehaviourSettings::of_tests(public);
    let peers = Peers::open(&crate::Options::new("unused"), configured);
    Behaviour::new(&key, settings, bitswap, (inbox, hear), peers, store).unwrap()
}

/// Returns the addresses that are dialled, sorted, of a peer that claims to listen on all kinds of addresses.
async fn dialled(public: bool, peer: PeerId, configured: &[Multiaddr]) -> Vec<String> {
    let mut behaviour = behaviour(public, configured).await;
    for address in [
        "/dns4/example.org/tcp/1",
        "/ip4/10.0.0.1/tcp/22",
        "/ip4/127.0.0.1/tcp/22",
        "/ip4/203.0.113.9/tcp/1",
        // No transport of libp2p dials it.
        "/ip4/203.0.113.9/tcp/80/http",
    ] {
        behaviour.kad(Dht::Main).add_address(&peer, address.parse().unwrap());
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

#[tokio::test]
async fn a_stranger_on_the_public_network_directs_no_dial_into_a_private_one() {
    let (peer, id) = (PeerId::random(), ConnectionId::new_unchecked(1));
    let private: Multiaddr = "/ip4/192.168.0.1/tcp/80".parse().unwrap();
    let public: Multiaddr = "/ip4/203.0.113.9/tcp/80".parse().unwrap();
    let configured = [private.clone().with(libp2p::multiaddr::Protocol::P2p(peer))];
    for (is_public, configured, address, dialled) in [
        (true, &[][..], &private, false),
        (true, &[], &public, true),
        (true, &configured, &private, true),
        (false, &[], &private, true),
    ] {
        let mut behaviour = behaviour(is_public, configured).await;
        // As AutoNAT does when a peer asks it to test an address.
        let dial = behaviour.handle_pending_outbound_connection(
            id,
            Some(peer),
            std::slice::from_ref(address),
            Endpoint::Dialer,
        );
        assert_eq!(dial.is_ok(), dialled, "{address} on the public network: {is_public}");
    }
}

#[tokio::test]
async fn private_addresses_from_the_table_of_the_private_network_are_dialled() {
    let (peer, id) = (PeerId::random(), ConnectionId::new_unchecked(1));
    let private: Multiaddr = "/ip4/192.168.0.1/tcp/4001".parse().unwrap();
    let mut behaviour = behaviour(true, &[]).await;
    behaviour.kad(Dht::Lan).add_address(&peer, private.clone());
    let dialled =
        behaviour.handle_pending_outbound_connection(id, Some(peer), &[], Endpoint::Dialer).unwrap();
    let dialled: Vec<_> = dialled.iter().map(address::without_peer).collect();
    assert_eq!(dialled, [private]);
}
