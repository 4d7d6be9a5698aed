//! A Kademlia server made of libp2p's own parts: it keeps the records it is sent, of each IPNS name the newest, and tells what it
//! heard of providers.

use std::{
    cmp::Ordering,
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, identify,
    identity::Keypair,
    kad::{self, store::RecordStore},
    multiaddr::Protocol,
    noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use tokio::{sync::mpsc, task::JoinHandle, time};

const SOON: Duration = Duration::from_secs(30);

/// Statement of a peer.
#[derive(Debug)]
pub enum Heard {
    /// It has the block with this multihash, and is at these addresses.
    Provides { key: Vec<u8>, peer: PeerId, addresses: BTreeSet<Multiaddr> },
    /// It calls these addresses its own.
    Listens { peer: PeerId, addresses: BTreeSet<Multiaddr> },
}

#[derive(NetworkBehaviour)]
struct Parts {
    identify: identify::Behaviour,
    kad: kad::Behaviour<kad::store::MemoryStore>,
}

/// IPNS records: the newest of each name, by its key.
type Names = Arc<Mutex<HashMap<kad::RecordKey, rust_ipns::Record>>>;

/// Runs until it is dropped.
pub struct Router {
    address: String,
    names: Names,
    heard: mpsc::UnboundedReceiver<Heard>,
    task: JoinHandle<()>,
}

impl Drop for Router {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Router {
    /// Starts one that knows no peers.
    pub async fn start() -> Self {
        Self::start_as(Keypair::generate_ed25519(), None).await
    }

    /// Starts one of this identity, with no records, that dials a peer.
    pub async fn start_as(key: Keypair, peer: Option<&str>) -> Self {
        let mut swarm = swarm(key);
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("a multiaddr")).expect("it listens");
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break format!("{address}/p2p/{}", swarm.local_peer_id());
            }
        };
        if let Some(peer) = peer {
            swarm.dial(peer.parse::<Multiaddr>().expect("a multiaddr")).expect("it dials");
        }
        let (tell, heard) = mpsc::unbounded_channel();
        let names = Names::default();
        let kept = names.clone();
        let task = tokio::spawn(async move {
            loop {
                let event = swarm.select_next_some().await;
                if let SwarmEvent::Behaviour(event) = event
                    && let Some(heard) = hear(&mut swarm, event, &kept)
                {
                    let _ = tell.send(heard);
                }
            }
        });
        Self { address, names, heard, task }
    }

    /// Returns whether the newest record of an IPNS name has this value.
    pub fn has_value(&self, value: &str) -> bool {
        self.names.lock().unwrap().values().any(|record| record.value() == value.as_bytes())
    }

    /// Where it listens, with its peer id.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the next statement of a peer.
    pub async fn next(&mut self) -> Heard {
        time::timeout(SOON, self.heard.recv()).await.expect("no message").expect("it runs")
    }

    /// The keys and addresses of the next records, until there are so many keys.
    pub async fn records(&mut self, keys: usize) -> (BTreeSet<Vec<u8>>, BTreeSet<Multiaddr>) {
        let (mut seen, mut all) = (BTreeSet::new(), BTreeSet::new());
        while seen.len() < keys {
            if let Heard::Provides { key, addresses, .. } = self.next().await {
                seen.insert(key);
                all.extend(addresses);
            }
        }
        (seen, all)
    }

    /// Returns the statements received so far, without waiting.
    pub fn already(&mut self) -> Vec<Heard> {
        std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
    }
}

fn swarm(key: Keypair) -> Swarm<Parts> {
    libp2p::SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("noise")
        .with_behaviour(|key| {
            let id = key.public().to_peer_id();
            let mut config = kad::Config::new(StreamProtocol::new("/ipfs/kad/1.0.0"));
            config.set_record_filtering(kad::StoreInserts::FilterBoth);
            let mut kad = kad::Behaviour::with_config(id, kad::store::MemoryStore::new(id), config);
            kad.set_mode(Some(kad::Mode::Server));
            let identify = identify::Config::new("ipfs/0.1.0".into(), key.public());
            Parts { identify: identify::Behaviour::new(identify), kad }
        })
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build()
}

fn hear(swarm: &mut Swarm<Parts>, event: PartsEvent, names: &Names) -> Option<Heard> {
    match event {
        PartsEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
            for address in &info.listen_addrs {
                swarm.behaviour_mut().kad.add_address(&peer_id, address.clone());
            }
            Some(Heard::Listens { peer: peer_id, addresses: plain(info.listen_addrs) })
        }
        PartsEvent::Kad(kad::Event::InboundRequest {
            request: kad::InboundRequest::AddProvider { record: Some(record) },
        }) => {
            let _ = swarm.behaviour_mut().kad.store_mut().add_provider(record.clone());
            let (key, peer) = (record.key.to_vec(), record.provider);
            Some(Heard::Provides { key, peer, addresses: plain(record.addresses) })
        }
        PartsEvent::Kad(kad::Event::InboundRequest {
            request: kad::InboundRequest::PutRecord { record: Some(record), .. },
        }) => {
            if is_newest(&record, names) {
                let _ = swarm.behaviour_mut().kad.store_mut().put(record);
            }
            None
        }
        _ => None,
    }
}

/// Notes an IPNS record. Returns whether it is newer than the one before.
fn is_newest(record: &kad::Record, names: &Names) -> bool {
    let Ok(new) = rust_ipns::Record::decode(&record.value) else { return false };
    let mut names = names.lock().unwrap();
    let known = names.get(&record.key);
    let is_newest = known.is_none_or(|known| new.compare(known).is_ok_and(Ordering::is_gt));
    if is_newest {
        names.insert(record.key.clone(), new);
    }
    is_newest
}

/// Addresses without the peer id at their end.
fn plain(addresses: Vec<Multiaddr>) -> BTreeSet<Multiaddr> {
    let parts = |address: Multiaddr| address.iter().filter(|p| !matches!(p, Protocol::P2p(_))).collect();
    addresses.into_iter().map(parts).collect()
}
