mod files;
mod members;
mod names;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use libp2p::{Multiaddr, PeerId, identity::Keypair, multiaddr::Protocol};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Announcing, BlockFetcher, Blocks, Bootstrap, Cid, ClockDifference, ConnectError, Options, Peer,
    Reachability, Seeds, StartError, Stopped, Traffic,
    address::is_link_local,
    announcer::{Announcer, JOIN_PAUSE, SMALL_SWARM},
    behaviour::{Behaviour, BehaviourSettings},
    bitswap,
    circuits::Circuits,
    command::{ReceivedRecord, SwarmCommand},
    handshakes::Handshakes,
    http_providers::HttpProviders,
    identity,
    ipns::IpnsNames,
    members::Members,
    online::Online,
    peers::{self, Peers},
    relay_service::{self, Addresses},
    routing::{Keeper, Store},
    swarm,
};

pub use members::Rekeyed;

const MAX_QUEUED_COMMANDS: usize = 256;
/// Unverified records of followed names in the queue.
const MAX_UNVERIFIED_RECORDS: usize = 512;
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// A peer of the swarm. Clones share the same node.
#[derive(Clone)]
pub struct Node(Arc<NodeInner>);

struct NodeInner {
    data_dir: PathBuf,
    key: Keypair,
    names: IpnsNames,
    online: Option<Arc<Online>>,
}

impl Node {
    /// Starts a peer that serves `blocks`: listens, dials its first peers and announces its roots.
    pub async fn start(mut options: Options, blocks: Arc<dyn Blocks>) -> Result<Self, StartError> {
        options.check()?;
        options.listen = swarm::available(&options.listen);
        let dialled: Vec<_> = options.peers.iter().chain(&options.bootstrap.addresses()).cloned().collect();
        for address in dialled.iter().filter(|_| options.bootstrap != Bootstrap::Public) {
            peers::peer_id(address)?;
        }
        // Before anything is written, since a port in use is the most common error.
        for address in &options.listen {
            swarm::probe(address)?;
        }
        let key = identity::load_or_create(&options.data_dir)?;
        let names = IpnsNames::open(&options, &key, &*blocks)?;
        let peers = Peers::open(&options, &dialled);
        let (unverified_sender, unverified) = mpsc::channel(MAX_UNVERIFIED_RECORDS);
        let keeper = Keeper::open(&options.data_dir, key.public().to_peer_id()).await;
        if options.uses_expired() {
            keeper.store().use_expired();
        }
        let online = start_swarm(&options, &key, blocks, (peers, keeper.store()), unverified_sender).await?;
        if let Err(error) = swarm::listen(&online.ipfs, &options.listen).await {
            online.stop.cancel();
            online.ipfs.clone().exit_daemon().await;
            return Err(error);
        }
        online.spawn_tasks(&options);
        online.spawn_discovery(&options, key.public().to_peer_id());
        online.spawn(names.clone().republish(online.routing.clone(), online.peers.joins()));
        online.spawn(names.clone().ingest_received(unverified, online.routing.clone()));
        online.spawn(names.clone().poll_followed(online.routing.clone(), online.peers.joins()));
        online.spawn(names.clone().poll_own(online.routing.clone(), online.peers.clone()));
        // It stops by itself, after writing the last changes.
        online.tasks.spawn(keeper.run(online.stop.clone()));
        let data_dir = options.data_dir;
        Ok(Self(Arc::new(NodeInner { data_dir, key, names, online: Some(Arc::new(online)) })))
    }

    /// Creates a node without a swarm, which has an identity and no peers.
    pub fn offline(data_dir: &Path) -> Result<Self, StartError> {
        let key = identity::load_or_create(data_dir)?;
        let names = IpnsNames::offline(data_dir, &key)?;
        Ok(Self(Arc::new(NodeInner { data_dir: data_dir.into(), key, names, online: None })))
    }

    /// Returns this node's peer id.
    pub fn peer_id(&self) -> PeerId {
        self.0.key.public().to_peer_id()
    }

    fn online(&self) -> Option<&Online> {
        self.0.online.as_deref()
    }

    /// Returns the listen addresses, with this node's peer id.
    pub async fn listen_addresses(&self) -> Vec<Multiaddr> {
        match &self.0.online {
            Some(online) => self.dialable(online.ipfs.listening_addresses().await.unwrap_or_default()),
            None => Vec::new(),
        }
    }

    /// Returns the addresses announced to peers, with this node's peer id; none if it is not reachable.
    pub async fn external_addresses(&self) -> Vec<Multiaddr> {
        match &self.0.online {
            Some(online) => self.dialable(online.ipfs.external_addresses().await.unwrap_or_default()),
            None => Vec::new(),
        }
    }

    fn dialable(&self, mut addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
        addresses.retain(|address| !is_link_local(address));
        addresses.sort_by_key(|address| address.to_string());
        addresses.dedup();
        let me = Protocol::P2p(self.peer_id());
        addresses
            .into_iter()
            .map(|a| if a.iter().last() == Some(me.clone()) { a } else { a.with(me.clone()) })
            .collect()
    }

    /// Returns how other peers can dial this node.
    pub fn reachability(&self) -> Reachability {
        self.online().map(|online| *online.reachability.borrow()).unwrap_or_default()
    }

    /// Returns the connected peers, the oldest connection first.
    pub fn peers(&self) -> Vec<Peer> {
        self.0.online.as_ref().map(|online| online.peers.list()).unwrap_or_default()
    }

    /// Waits until a peer joins that may have missing blocks: any peer in a small swarm. In a larger one, where peers
    /// join all the time, it never ends.
    pub fn joined(&self) -> impl Future<Output = ()> + Send + use<> {
        let joins = self.online().map(|online| online.peers.joins());
        async move {
            let Some(mut joins) = joins else { return std::future::pending().await };
            while joins.changed().await.is_ok() {
                if *joins.borrow_and_update() <= SMALL_SWARM {
                    return tokio::time::sleep(JOIN_PAUSE).await;
                }
            }
            std::future::pending().await
        }
    }

    /// Returns the addresses of peers that rejected the handshake in a private swarm and have not connected since,
    /// which indicates another swarm key.
    pub fn rejected_handshakes(&self) -> Vec<String> {
        self.0.online.as_ref().map(|online| online.handshakes.failed()).unwrap_or_default()
    }

    /// Returns how the clock of this machine differs from those of connected peers.
    pub fn clock_difference(&self) -> ClockDifference {
        self.online().map(|online| online.peers.clock_difference()).unwrap_or_default()
    }

    /// Waits until the swarm's task has answered. Returns whether it still runs; a node without a swarm has none to ask.
    pub async fn answers(&self) -> bool {
        match self.online() {
            Some(online) => online.ipfs.listening_addresses().await.is_ok(),
            None => true,
        }
    }

    /// Returns the number of HTTP providers that are asked for blocks.
    pub fn http_providers(&self) -> usize {
        self.online().and_then(|online| online.http.as_ref()).map_or(0, HttpProviders::count)
    }

    /// Returns how the node found its network.
    pub fn seeds(&self) -> Seeds {
        self.0.online.as_ref().map_or_else(Seeds::default, |online| online.peers.seeds())
    }

    /// Returns addresses by which other nodes find this network: those that this node announces, and one of each peer
    /// that it dialled successfully.
    pub async fn export_peers(&self) -> Vec<Multiaddr> {
        let mut addresses = self.external_addresses().await;
        addresses.extend(match &self.0.online {
            Some(online) => online.peers.remembered_addresses(),
            None => peers::of_earlier_runs(&self.0.data_dir),
        });
        addresses
    }

    /// Dials a peer by an address with its peer id.
    pub async fn connect(&self, address: &Multiaddr) -> Result<PeerId, ConnectError> {
        let online = self.online().ok_or(Stopped)?;
        online.peers.dial(&online.ipfs, address).await
    }

    /// Fetches the DAG below `root` from peers.
    pub fn block_fetcher(&self, root: Cid) -> BlockFetcher {
        self.block_fetcher_below(root, root)
    }

    /// Fetches part of a larger DAG, whose providers are found by `search_root`.
    pub fn block_fetcher_below(&self, search_root: Cid, root: Cid) -> BlockFetcher {
        BlockFetcher::new(self.0.online.clone(), self.peer_id(), root, search_root)
    }

    /// Searches the providers of a CID and dials them; the channel closes at the end of the search.
    pub async fn find_providers(&self, cid: Cid) -> Result<mpsc::UnboundedReceiver<PeerId>, Stopped> {
        self.online().ok_or(Stopped)?.find_providers(cid).await
    }

    /// Answers the wants of peers that wait for these blocks, which are stored now.
    pub fn arrived(&self, cids: &[Cid]) {
        if let Some(online) = &self.0.online {
            online.server.arrived(cids);
        }
    }

    /// Returns the Bitswap traffic since the start.
    pub fn traffic(&self) -> Traffic {
        self.0.online.as_ref().map(|online| online.server.traffic()).unwrap_or_default()
    }

    /// Returns the Bitswap traffic with each of these peers.
    pub fn traffic_with(&self, peers: &[PeerId]) -> Vec<Traffic> {
        match &self.0.online {
            Some(online) => online.server.traffic_with(peers),
            None => vec![Traffic::default(); peers.len()],
        }
    }

    /// Returns whether it is part of a swarm.
    pub fn is_online(&self) -> bool {
        self.0.online.is_some()
    }

    /// Announces `cids` until they are withdrawn.
    pub fn announce(&self, cids: impl IntoIterator<Item = Cid>) {
        if let Some(online) = &self.0.online {
            online.announcer.add(cids);
        }
    }

    /// Announces `cids` of an earlier run until they are withdrawn, those of [`Self::announce`] before them.
    pub fn announce_known(&self, cids: impl IntoIterator<Item = Cid>) {
        if let Some(online) = &self.0.online {
            online.announcer.add_known(cids);
        }
    }

    /// Stops announcing `cid`; the records that peers have expire.
    pub async fn withdraw(&self, cid: Cid) {
        if let Some(online) = &self.0.online {
            online.announcer.remove(&cid);
            let _ = online.send(SwarmCommand::Withdraw(cid)).await;
        }
    }

    /// Returns the progress of announcing. Without peers nothing can be announced, and that is not a lag.
    pub fn announcing(&self) -> Announcing {
        let Some(online) = &self.0.online else { return Announcing::default() };
        let status = online.announcer.status();
        match online.peers.list().is_empty() {
            true => Announcing { lag: Duration::ZERO, ..status },
            false => status,
        }
    }

    /// Stops the background tasks and closes the swarm.
    pub async fn shutdown(&self) {
        let Some(online) = &self.0.online else { return };
        online.stop.cancel();
        online.tasks.close();
        let _ = tokio::time::timeout(SHUTDOWN_TIMEOUT, online.tasks.wait()).await;
        online.ipfs.clone().exit_daemon().await;
    }
}

/// Starts the swarm and the tasks that belong to its protocols; it does not listen yet.
async fn start_swarm(
    options: &Options,
    key: &Keypair,
    blocks: Arc<dyn Blocks>,
    (peers, store): (Peers, Store),
    unverified: mpsc::Sender<ReceivedRecord>,
) -> Result<Online, StartError> {
    let (routing, inbox) = mpsc::channel(MAX_QUEUED_COMMANDS);
    let (reachability_sender, reachability) = watch::channel(Reachability::default());
    let me = key.public().to_peer_id();
    let members = options.swarm_key.as_ref().map(|psk| Members::open(options, psk, me)).transpose()?;
    let (handshakes, circuits, addresses) =
        (Handshakes::default(), Circuits::default(), Addresses::default());
    let relay = relay_service::start(options, me, &peers, &addresses);
    let (relay, relaying) = relay.unzip();
    let (stop, tasks, announcer) = (CancellationToken::new(), TaskTracker::new(), Announcer::default());
    let (bitswap, bitswap_client, server) =
        bitswap::start(blocks.clone(), options.memory, options.rates, &tasks, &stop);
    let public = options.bootstrap == Bootstrap::Public;
    let http = || HttpProviders::new(bitswap_client.clone(), public, tasks.clone(), stop.clone());
    let http = options.swarm_key.is_none().then(http);
    let settings = BehaviourSettings {
        announce: options.announce.clone(),
        trust_listen_addresses: options.trusts_listen_addresses(),
        handshakes: options.swarm_key.is_some().then(|| handshakes.clone()),
        members: members.clone(),
        public,
        limits: options.limits,
        http: http.clone(),
        circuits: circuits.clone(),
        reachability: reachability_sender,
        relay,
        addresses,
        blocks,
    };
    let behaviour = Behaviour::new(key, settings, bitswap, (inbox, unverified), peers.clone(), store)?;
    let ipfs = swarm::start(options, key, behaviour, (circuits, members.as_ref().map(Members::ring))).await?;
    let router = options.router.clone();
    let online = Online {
        ipfs,
        peers,
        handshakes,
        members,
        bitswap_client,
        http,
        server,
        announcer,
        routing,
        router,
        reachability,
        stop,
        tasks,
    };
    if let Some(relaying) = relaying {
        online.spawn(relaying);
    }
    Ok(online)
}
