//! Finding the addresses of providers, with servers of the routing system made of libp2p's own parts.

mod stores;

use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, identify,
    kad::{self, ProviderRecord, RecordKey, store::RecordStore},
    multiaddr::Protocol,
    noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use multihash_codetable::{Code, MultihashDigest};
use ocipfs_node::{Bootstrap, Cid, Node, Options, RoutedProvider, Router};
use stores::Memory;
use tokio::{sync::watch, task::JoinHandle};

const SOON: Duration = Duration::from_secs(30);
const FIND_TIMEOUT: Duration = Duration::from_secs(20);
/// An address without a listener.
const DEAD: &str = "/ip4/127.0.0.1/tcp/1";

fn options(dir: &Path, bootstrap: Vec<Multiaddr>) -> Options {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    Options { listen, bootstrap: Bootstrap::Peers(bootstrap), ..Options::new(dir) }
}

/// Starts a node that has one block, which it does not announce.
async fn provider(dir: &Path, bootstrap: Vec<Multiaddr>) -> (Node, Cid) {
    let data = Bytes::from(dir.display().to_string());
    let cid = Cid::new_v1(0x55, Code::Sha2_256.digest(&data));
    let store = Memory::from_iter([(cid, data)]);
    (Node::start(options(dir, bootstrap), Arc::new(store)).await.unwrap(), cid)
}

#[derive(NetworkBehaviour)]
struct Parts {
    identify: identify::Behaviour,
    kad: kad::Behaviour<kad::store::MemoryStore>,
}

/// A server of the routing system, which knows the peers that dial it.
struct Server {
    id: PeerId,
    address: Multiaddr,
    /// The peers that it has identified with an address, and names to others.
    identified: watch::Receiver<HashSet<PeerId>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Starts one that dials `peer`, with these records.
    async fn start(peer: Option<&Multiaddr>, records: Vec<ProviderRecord>) -> Self {
        let mut swarm = swarm();
        let me = *swarm.local_peer_id();
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address.with(Protocol::P2p(me));
            }
        };
        for record in records {
            swarm.behaviour_mut().kad.store_mut().add_provider(record).unwrap();
        }
        if let Some(peer) = peer {
            swarm.dial(peer.clone()).unwrap();
        }
        let (found, identified) = watch::channel(HashSet::new());
        let task = tokio::spawn(async move {
            loop {
                let event = swarm.select_next_some().await;
                if let SwarmEvent::Behaviour(PartsEvent::Identify(identify::Event::Received {
                    peer_id,
                    info,
                    ..
                })) = event
                {
                    for address in info.listen_addrs {
                        swarm.behaviour_mut().kad.add_address(&peer_id, address);
                        found.send_modify(|all| {
                            all.insert(peer_id);
                        });
                    }
                }
            }
        });
        Self { id: me, address, identified, task }
    }

    /// Waits until it can name a peer to others.
    async fn identifies(&self, peer: PeerId) {
        let mut identified = self.identified.clone();
        let waiting = identified.wait_for(|all| all.contains(&peer));
        let waited = tokio::time::timeout(SOON, waiting).await;
        assert!(waited.is_ok_and(|waited| waited.is_ok()), "still waiting: {peer} is identified");
    }
}

fn swarm() -> Swarm<Parts> {
    let behaviour = |key: &libp2p::identity::Keypair| {
        let id = key.public().to_peer_id();
        let config = kad::Config::new(StreamProtocol::new("/ipfs/kad/1.0.0"));
        let mut kad = kad::Behaviour::with_config(id, kad::store::MemoryStore::new(id), config);
        kad.set_mode(Some(kad::Mode::Server));
        let identify = identify::Config::new("ipfs/0.1.0".into(), key.public());
        Parts { identify: identify::Behaviour::new(identify), kad }
    };
    let builder = libp2p::SwarmBuilder::with_new_identity().with_tokio();
    let builder =
        builder.with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default).unwrap();
    let builder = builder.with_behaviour(behaviour).unwrap();
    builder.with_swarm_config(|config| config.with_idle_connection_timeout(SOON)).build()
}

fn record(cid: &Cid, provider: PeerId) -> ProviderRecord {
    let address = DEAD.parse::<Multiaddr>().unwrap();
    ProviderRecord::new(RecordKey::from(cid.hash().to_bytes()), provider, vec![address])
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("still waiting: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_with_an_old_address_is_looked_up() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    // It knows where the provider is, and not that it provides.
    let directory = Server::start(None, Vec::new()).await;
    let (seeder, cid) = provider(dirs[0].path(), vec![directory.address.clone()]).await;
    directory.identifies(seeder.peer_id()).await;
    // It knows that the provider provides, and an address of former times.
    let records = vec![record(&cid, seeder.peer_id())];
    let index = Server::start(Some(&directory.address), records).await;
    index.identifies(directory.id).await;
    let (node, _) = provider(dirs[1].path(), vec![index.address.clone()]).await;
    // A search asks the servers that are identified by then, and is not repeated.
    let knows = |peer: PeerId| node.peers().iter().any(|known| known.id == peer && known.agent.is_some());
    until("the node has identified the index", || knows(index.id)).await;
    let fetched = node.block_fetcher(cid).fetch_root(FIND_TIMEOUT).await;
    assert_eq!(fetched.unwrap().block.cid, cid);
    seeder.shutdown().await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_the_user_named_finds_providers() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (seeder, cid) = provider(dirs[0].path(), Vec::new()).await;
    let (peer, addresses) = (seeder.peer_id(), seeder.listen_addresses().await);
    let router = Router::new(move |asked| {
        let known = RoutedProvider { peer, addresses: addresses.clone() };
        let found = if asked == cid { vec![known] } else { Vec::new() };
        std::future::ready(found).boxed()
    });
    let options = Options { router: Some(router), ..options(dirs[1].path(), Vec::new()) };
    let node = Node::start(options, Arc::new(Memory::default())).await.unwrap();
    let fetched = node.block_fetcher(cid).fetch_root(FIND_TIMEOUT).await;
    assert_eq!(fetched.unwrap().block.cid, cid);
    seeder.shutdown().await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secure_websocket_is_dialled_at_the_ip_address_by_the_name_of_its_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let (node, _) = provider(dir.path(), Vec::new()).await;
    for tls in ["tls/ws", "wss", "tls/sni/localhost/ws"] {
        let host = if tls.contains("sni") { "ip4/127.0.0.1" } else { "dns4/localhost" };
        let address = format!("/{host}/tcp/{port}/{tls}/p2p/{}", PeerId::random());
        let (dialling, dialled) = (node.clone(), address.parse::<Multiaddr>().unwrap());
        let dial = tokio::spawn(async move { dialling.connect(&dialled).await });
        let hello = async {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut hello = vec![0; 4096];
            let length = tokio::io::AsyncReadExt::read(&mut stream, &mut hello).await.unwrap();
            hello.truncate(length);
            hello
        };
        let hello = tokio::time::timeout(SOON, hello).await.expect("a connection");
        assert_eq!(hello[0], 0x16, "{address}: a TLS handshake");
        assert!(hello.windows(9).any(|part| part == b"localhost"), "{address}: names the server");
        dial.abort();
    }
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_the_open_network_is_dialled_by_its_name() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, _) = provider(dirs[0].path(), Vec::new()).await;
    let (other, _) = provider(dirs[1].path(), Vec::new()).await;
    let address = one.listen_addresses().await.swap_remove(0);
    let named = address.to_string().replace("/ip4/127.0.0.1/", "/dns4/localhost/");
    assert_eq!(other.connect(&named.parse().unwrap()).await.unwrap(), one.peer_id());
    one.shutdown().await;
    other.shutdown().await;
}
