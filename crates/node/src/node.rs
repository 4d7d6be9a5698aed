use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId, identity::Keypair, multiaddr::Protocol};
use rust_ipfs::{
    Ipfs,
    repo::{DefaultStorage, Repo},
};
use tokio::sync::{Mutex, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Announcing, Block, Bootstrap, Cid, Error, Options, Peer, Session,
    announcer::Announcer,
    behaviour::{Behaviour, Command, Settings},
    files::{self, Files},
    identity, js,
    peers::{self, Peers},
    routing::Keeper,
    swarm,
};

const COMMANDS: usize = 256;
const SHUTDOWN: Duration = Duration::from_secs(5);

/// One peer of the swarm and the blocks it keeps. Clones are handles on the same node.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    key: Keypair,
    repo: Repo<DefaultStorage>,
    files: Files,
    online: Option<Online>,
}

/// What there is besides the blocks where a swarm runs.
pub(crate) struct Online {
    pub(crate) ipfs: Ipfs,
    pub(crate) peers: Peers,
    announcer: Announcer,
    /// Whose block is asked for where they are asked for one after another.
    pub(crate) turn: Mutex<()>,
    commands: mpsc::Sender<Command>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Node {
    /// Starts a peer: it listens, dials its first peers and announces what it is told to.
    pub async fn start(options: Options) -> Result<Self, Error> {
        options.check()?;
        let dialled: Vec<_> = options.peers.iter().chain(&options.bootstrap.addresses()).cloned().collect();
        for address in dialled.iter().filter(|_| options.bootstrap != Bootstrap::Public) {
            peers::peer_id(address)?;
        }
        // Before anything is written: a taken port is the commonest reason not to start.
        for address in &options.listen {
            swarm::probe(address)
                .map_err(|e| Error::Listen { address: address.clone(), why: e.to_string() })?;
        }
        let key = identity::load_or_create(&options.data_dir)?;
        let peers = Peers::new(dialled.len());
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let settings = Settings {
            announce: options.announce.clone(),
            trust_listen_addresses: options.trusts_listen_addresses(),
            always_serve_dht: options.bootstrap != Bootstrap::Public,
        };
        let routing = Keeper::open(&options.data_dir, key.public().to_peer_id()).await;
        let behaviour = Behaviour::new(&key, settings, inbox, peers.clone(), routing.store());
        let ipfs = swarm::start(&options, &key, behaviour).await?;
        let repo = ipfs.repo().clone();
        let (stop, tasks, announcer) = (CancellationToken::new(), TaskTracker::new(), Announcer::default());
        let turn = Mutex::default();
        let online = Online { ipfs, peers, announcer, turn, commands, stop, tasks };
        if let Err(error) = swarm::listen(&online.ipfs, &options.listen).await {
            online.ipfs.clone().exit_daemon().await;
            return Err(error);
        }
        online.spawn_tasks(&options);
        // Stopped by itself: what changed last is written then.
        online.tasks.spawn(routing.run(online.stop.clone()));
        let files = Files::new(&files::blocks_dir(&options.data_dir));
        Ok(Self(Arc::new(Inner { key, repo, files, online: Some(online) })))
    }

    /// Opens the node directory alone: no swarm, no peers, only the blocks that are there.
    pub async fn open_offline(data_dir: &Path) -> Result<Self, Error> {
        let key = identity::load_or_create(data_dir)?;
        let path = files::blocks_dir(data_dir);
        tokio::fs::create_dir_all(&path).await.map_err(|e| Error::Blocks(e.to_string()))?;
        let files = Files::new(&path);
        let repo = Repo::<DefaultStorage>::new_fs(path);
        repo.init().await.map_err(|e| Error::Blocks(e.to_string()))?;
        Ok(Self(Arc::new(Inner { key, repo, files, online: None })))
    }

    /// This node's identity.
    pub fn peer_id(&self) -> PeerId {
        self.0.key.public().to_peer_id()
    }

    /// The swarm, where there is one.
    pub(crate) fn online(&self) -> Option<&Online> {
        self.0.online.as_ref()
    }

    /// The addresses listened on, ending in this node's peer id.
    pub async fn listen_addresses(&self) -> Vec<Multiaddr> {
        match &self.0.online {
            Some(online) => self.dialable(online.ipfs.listening_addresses().await.unwrap_or_default()),
            None => Vec::new(),
        }
    }

    /// The addresses that peers are told, ending in this node's peer id; empty while it is not reachable.
    pub async fn external_addresses(&self) -> Vec<Multiaddr> {
        match &self.0.online {
            Some(online) => self.dialable(online.ipfs.external_addresses().await.unwrap_or_default()),
            None => Vec::new(),
        }
    }

    fn dialable(&self, mut addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
        addresses.sort_by_key(|address| address.to_string());
        addresses.dedup();
        let me = Protocol::P2p(self.peer_id());
        addresses
            .into_iter()
            .map(|a| if a.iter().last() == Some(me.clone()) { a } else { a.with(me.clone()) })
            .collect()
    }

    /// The connected peers, the oldest connection first.
    pub fn peers(&self) -> Vec<Peer> {
        self.0.online.as_ref().map(|online| online.peers.list()).unwrap_or_default()
    }

    /// Dials a peer by an address that ends in its peer id.
    pub async fn connect(&self, address: &Multiaddr) -> Result<PeerId, Error> {
        peers::dial(&self.online().ok_or(Error::Stopped)?.ipfs, address).await
    }

    /// Opens the DAG below `root` for fetching.
    pub fn session(&self, root: Cid) -> Session {
        Session::new(self.clone(), root)
    }

    /// Reads a block of the node directory; peers are not asked.
    pub async fn local(&self, cid: &Cid) -> Result<Option<Bytes>, Error> {
        let block = self.0.repo.get_block_now(cid).await.map_err(|e| Error::Blocks(e.to_string()))?;
        Ok(block.map(|block| block.inner_data().clone()))
    }

    /// Reads a block of the node directory as it is: for a DAG that was verified whole.
    pub(crate) async fn local_verified(&self, cid: &Cid) -> Result<Option<Bytes>, Error> {
        self.0.files.read(cid).await.map_err(|e| Error::Blocks(e.to_string()))
    }

    /// Whether a block is in the node directory.
    pub async fn has(&self, cid: &Cid) -> Result<bool, Error> {
        self.0.repo.contains(cid).await.map_err(|e| Error::Blocks(e.to_string()))
    }

    /// Keeps blocks, whose bytes the caller has hashed.
    pub async fn put(&self, blocks: Vec<Block>) -> Result<(), Error> {
        let blocks = blocks.into_iter().map(|block| rust_ipfs::Block::new_unchecked(block.cid, block.data));
        let put = self.0.repo.put_blocks(blocks.collect()).await;
        put.map(drop).map_err(|e| Error::Blocks(e.to_string()))
    }

    /// Forgets blocks; those it does not have are no error.
    pub async fn remove(&self, cids: &[Cid]) -> Result<(), Error> {
        for cid in cids {
            if self.has(cid).await? {
                let removed = self.0.repo.remove_block(cid, false).await;
                removed.map_err(|e| Error::Blocks(e.to_string()))?;
            }
        }
        Ok(())
    }

    /// Announces `cids` from now on, until they are withdrawn.
    pub fn announce(&self, cids: impl IntoIterator<Item = Cid>) {
        if let Some(online) = &self.0.online {
            online.announcer.add(cids);
        }
    }

    /// Stops announcing `cid`; what others were told expires by itself.
    pub async fn withdraw(&self, cid: Cid) {
        if let Some(online) = &self.0.online {
            online.announcer.remove(&cid);
            let _ = online.commands.send(Command::Withdraw(cid)).await;
        }
    }

    /// How far announcing is.
    pub fn announcing(&self) -> Announcing {
        self.0.online.as_ref().map(|online| online.announcer.status()).unwrap_or_default()
    }

    /// Ends the background tasks and closes the swarm.
    pub async fn shutdown(&self) {
        let Some(online) = &self.0.online else { return };
        online.stop.cancel();
        online.tasks.close();
        let _ = tokio::time::timeout(SHUTDOWN, online.tasks.wait()).await;
        online.ipfs.clone().exit_daemon().await;
    }
}

impl Online {
    /// Searches the providers of `cid`, dialling them; the channel closes when the search has ended.
    pub(crate) async fn find_providers(&self, cid: Cid) -> Result<mpsc::UnboundedReceiver<PeerId>, Error> {
        let (found, providers) = mpsc::unbounded_channel();
        self.commands.send(Command::Find(cid, found)).await.map_err(|_| Error::Stopped)?;
        Ok(providers)
    }

    fn spawn_tasks(&self, options: &Options) {
        let announce =
            self.announcer.clone().run(self.commands.clone(), self.peers.joins(), options.announce_every);
        self.spawn(announce);
        self.spawn(js::keep_awake(self.ipfs.repo().clone(), self.peers.clone()));
        let public = options.bootstrap == Bootstrap::Public;
        for address in options.bootstrap.addresses() {
            let id = peers::peer_id(&address).ok();
            // Of the public network any peer will do; one's own bootstrap nodes are few and wanted.
            let enough = move |peers: &Peers| {
                if public { peers.count() > 0 } else { id.is_some_and(|id| peers.is_connected(&id)) }
            };
            self.spawn(self.peers.clone().keep(self.ipfs.clone(), address, enough));
        }
        for address in &options.peers {
            let id = peers::peer_id(address).ok();
            let enough = move |peers: &Peers| id.is_some_and(|id| peers.is_connected(&id));
            self.spawn(self.peers.clone().keep(self.ipfs.clone(), address.clone(), enough));
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }
}
