//! A peer that is a Kademlia server and nothing else: it names providers, and sends no block.

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, identify,
    kad::{self, ProviderRecord, RecordKey, store::MemoryStore, store::RecordStore},
    noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use ocipfs_node::Cid;

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    kad: kad::Behaviour<MemoryStore>,
}

/// Provider that a silent peer names for the CID.
#[derive(Clone, Copy, Debug)]
pub enum Provider {
    /// Itself.
    Itself,
    /// A peer at a port without a listener.
    Gone,
}

/// Starts one that names a provider of `cid`; it lives as long as the runtime. Its address.
pub async fn start(cid: &Cid, provider: Provider) -> Multiaddr {
    let mut swarm = libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("noise")
        .with_behaviour(|key| {
            let id = key.public().to_peer_id();
            let kademlia = kad::Config::new(StreamProtocol::new("/ipfs/kad/1.0.0"));
            Behaviour {
                identify: identify::Behaviour::new(identify::Config::new("ipfs/0.1.0".into(), key.public())),
                kad: kad::Behaviour::with_config(id, MemoryStore::new(id), kademlia),
            }
        })
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(std::time::Duration::from_secs(60)))
        .build();
    swarm.behaviour_mut().kad.set_mode(Some(kad::Mode::Server));
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("an address")).expect("a port");
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    let me = *swarm.local_peer_id();
    let (peer, addresses) = match provider {
        Provider::Itself => (me, vec![address.clone()]),
        Provider::Gone => (PeerId::random(), vec!["/ip4/127.0.0.1/tcp/1".parse().expect("an address")]),
    };
    let record = ProviderRecord::new(RecordKey::from(cid.hash().to_bytes()), peer, addresses);
    swarm.behaviour_mut().kad.store_mut().add_provider(record).expect("room for a record");
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    address.with_p2p(me).expect("an address without a peer")
}
