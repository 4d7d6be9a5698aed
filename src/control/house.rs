mod export;
mod image;
mod layer;
mod store;

use std::{path::PathBuf, sync::Arc, time::Instant};

use ocipfs_node::{Bootstrap, Multiaddr, Node};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Failure, Identity, Note, PeerInfo, Reply, Request, Status,
    input::Input,
    lock::{self, Lock},
};
use crate::{
    content::{self, Content, Settings, Store},
    names::Resolver,
};

/// What a house is built with.
pub struct Options {
    /// The swarm; none works on the node directory alone.
    pub swarm: Option<ocipfs_node::Options>,
    /// The node directory.
    pub data_dir: PathBuf,
    /// How content waits and what it writes.
    pub content: Settings,
    /// The registry's address as references show it.
    pub registry: String,
}

/// A node, its content and the lock on their directory.
#[derive(Clone)]
pub struct House(Arc<Inner>);

struct Inner {
    resolver: Resolver,
    registry: String,
    network: &'static str,
    started: Instant,
    _lock: Lock,
}

/// Takes notes on the way to a reply.
pub type Notes = UnboundedSender<Note>;

impl House {
    /// Locks the node directory and opens what is in it.
    pub async fn open(options: Options) -> Result<Self, Failure> {
        let lock = lock::lock(&options.data_dir)?;
        let network = match &options.swarm {
            Some(swarm) if swarm.swarm_key.is_some() => "private",
            Some(swarm) if swarm.bootstrap == Bootstrap::Public => "public",
            _ => "own",
        };
        let dir = options.data_dir.clone();
        let opened = tokio::task::spawn_blocking(move || Store::open(&dir)).await.map_err(Failure::new)?;
        let store = opened.map_err(store_failure)?;
        let node = match options.swarm {
            Some(swarm) => Node::start(swarm, Arc::new(store.clone())).await,
            None => Node::offline(&options.data_dir),
        };
        let node = node.map_err(start_failure)?;
        let content = match Content::new(store, node.clone(), options.content) {
            Ok(content) => content,
            Err(error) => {
                node.shutdown().await;
                return Err(content_failure(error));
            }
        };
        let registry = options.registry;
        let resolver = Resolver::new(content);
        Ok(Self(Arc::new(Inner { resolver, registry, network, started: Instant::now(), _lock: lock })))
    }

    /// What names mean.
    pub fn resolver(&self) -> &Resolver {
        &self.0.resolver
    }

    /// The bytes behind it all.
    pub fn content(&self) -> &Content {
        self.0.resolver.content()
    }

    /// Closes the swarm, and ends what goes on in the background.
    pub async fn close(&self) {
        self.content().close().await;
        self.content().node().shutdown().await;
    }

    /// Answers a command.
    pub async fn handle(&self, request: Request, notes: Notes) -> Result<Reply, Failure> {
        self.handle_with(request, None, notes).await
    }

    /// Answers a command that has an input of its own.
    pub(super) async fn handle_with(
        &self,
        request: Request,
        input: Option<Input>,
        notes: Notes,
    ) -> Result<Reply, Failure> {
        match request {
            Request::Layer(request) => self.layer(request, notes).await,
            Request::Image(request) => self.image(request, input, notes).await,
            Request::SwarmId => Ok(Reply::Identity(self.identity().await)),
            Request::SwarmPeers => Ok(Reply::Peers { peers: self.peers() }),
            Request::SwarmConnect { address } => self.connect(&address).await,
            Request::Name(request) => self.name(request).await,
            Request::Store(request) => Ok(Reply::Store(self.store(request, notes).await?)),
            Request::Status => self.status().await,
        }
    }

    async fn identity(&self) -> Identity {
        let node = self.content().node();
        let text = |addresses: Vec<Multiaddr>| addresses.iter().map(ToString::to_string).collect();
        Identity {
            peer: node.peer_id().to_string(),
            listen: text(node.listen_addresses().await),
            announced: text(node.external_addresses().await),
        }
    }

    fn peers(&self) -> Vec<PeerInfo> {
        let info = |peer: ocipfs_node::Peer| PeerInfo {
            peer: peer.id.to_string(),
            address: peer.address.to_string(),
            direction: if peer.dialled { "out" } else { "in" }.into(),
            agent: peer.agent,
            seconds: peer.since.elapsed().as_secs(),
        };
        self.content().node().peers().into_iter().map(info).collect()
    }

    async fn connect(&self, address: &str) -> Result<Reply, Failure> {
        let parsed: Multiaddr = address.parse().map_err(|e| {
            Failure::new(format!("{address:?} is no multiaddr: {e}"))
                .hint("an example: /ip4/192.0.2.7/tcp/4001/p2p/12D3KooW...")
        })?;
        let peer = self.content().node().connect(&parsed).await.map_err(|e| {
            Failure::new(e)
                .hint("is the other node running, and are both public or both in one private swarm?")
        })?;
        Ok(Reply::Connected { peer: peer.to_string() })
    }

    async fn status(&self) -> Result<Reply, Failure> {
        let node = self.content().node();
        let announcing = node.announcing();
        let holdings = self.content().holdings().await.map_err(content_failure)?;
        let traffic = node.traffic();
        let images: usize = holdings.iter().map(|(_, holding)| holding.images.len()).sum();
        let is_layer = |holding: &&(_, content::Holding)| holding.1.images.is_empty();
        let layers = || holdings.iter().filter(is_layer);
        let owned = layers().filter(|(_, holding)| holding.owned).count();
        let identity = self.identity().await;
        Ok(Reply::Status(Box::new(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            registry: self.0.registry.clone(),
            reachable: !identity.announced.is_empty(),
            identity,
            network: self.0.network.into(),
            peers: node.peers().len(),
            announced: announcing.announced,
            announcing: announcing.pending,
            sent_bytes: traffic.sent_bytes,
            sent_blocks: traffic.sent_blocks,
            received_bytes: traffic.received_bytes,
            received_blocks: traffic.received_blocks,
            announce_lag_seconds: announcing.lag.as_secs(),
            layers: owned,
            images,
            cached_layers: layers().count() - owned,
            room: self.room().await?,
            seconds: self.0.started.elapsed().as_secs(),
        })))
    }
}

fn start_failure(error: ocipfs_node::Error) -> Failure {
    use ocipfs_node::Error::*;
    let hint = match &error {
        Listen { .. } => "is another node running there? choose other addresses with --swarm-listen",
        SwarmKey(_) | HalfPrivate { .. } => "see `ocipfs serve --help` on private swarms",
        NoPeerId(_) => "an address ends in the peer id that `ocipfs swarm id` prints on that node",
        Identity { .. } => "restore the key from a backup, or move it away: the node then has a new peer id",
        _ => return Failure::new(error),
    };
    Failure::new(error).hint(hint)
}

fn store_failure(error: content::StoreError) -> Failure {
    let hint = match &error {
        // It says itself what to do.
        content::StoreError::Earlier(_) | content::StoreError::Newer { .. } => return Failure::new(error),
        content::StoreError::Full => "make room on the disk, or choose another directory with --data-dir",
        _ => "choose another directory with --data-dir, or restore this one from a backup",
    };
    Failure::new(error).hint(hint)
}

fn content_failure(error: content::Error) -> Failure {
    use ocipfs_node::Error::*;
    let hint = match &error {
        content::Error::Node(Offline(_)) => "start `ocipfs serve` with this node directory, and try again",
        content::Error::Node(NotFound { .. }) => {
            "dial somebody who has it with `ocipfs swarm connect`, or give serve a --peer"
        }
        content::Error::Node(Unanswered { .. }) => {
            "try again, or give the peers more time with --find-timeout"
        }
        content::Error::Stalled { .. } => "try again: what came so far is kept",
        content::Error::Quota { .. } => {
            "remove what is not needed (`ocipfs store unpin`, `layer rm`, `image rm`, then `store gc`), or raise --max-size"
        }
        content::Error::Full => "make room on the disk, or remove layers with `ocipfs layer rm`",
        content::Error::NotAFile { .. } | content::Error::NoEntry { .. } => {
            "name a file in the directory: <cid>/<file>"
        }
        content::Error::TooLarge { .. } => {
            "give a reference as `layer add` printed it; a layer's own CID is added with ipfs://<cid>"
        }
        _ => return Failure::new(error),
    };
    Failure::new(error).hint(hint)
}
