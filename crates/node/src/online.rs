use std::sync::Arc;

use libp2p::PeerId;
use rust_ipfs::Ipfs;
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Bootstrap, Cid, Options, Stopped,
    announcer::Announcer,
    bitswap::{ClientHandle, Server},
    command::SwarmCommand,
    handshakes::Handshakes,
    http_providers::HttpProviders,
    mdns::Mdns,
    members::Members,
    options::Router,
    peers::{self, Peers},
    reachability::Reachability,
};

/// Providers dialled for one answer of a router.
const MAX_ROUTED_PROVIDERS: usize = 10;

/// The parts of a node with a swarm.
pub(crate) struct Online {
    pub(crate) ipfs: Ipfs,
    pub(crate) peers: Peers,
    pub(crate) handshakes: Handshakes,
    pub(crate) bitswap_client: ClientHandle,
    /// `None` outside of private swarms.
    pub(crate) members: Option<Members>,
    /// `None` in a private swarm.
    pub(crate) http: Option<HttpProviders>,
    pub(crate) server: Arc<Server>,
    pub(crate) announcer: Announcer,
    pub(crate) routing: mpsc::Sender<SwarmCommand>,
    pub(crate) router: Option<Router>,
    pub(crate) reachability: watch::Receiver<Reachability>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Online {
    /// Returns the number of peers that can be asked for blocks, HTTP providers included.
    pub(crate) fn asked(&self) -> usize {
        self.peers.count() + self.http.as_ref().map_or(0, HttpProviders::count)
    }

    /// Sends a command to the network behaviour.
    pub(crate) async fn send(&self, command: SwarmCommand) -> Result<(), Stopped> {
        self.routing.send(command).await.map_err(|_| Stopped)
    }

    /// Searches providers of `cid` and dials them; the channel closes at the end of the search.
    pub(crate) async fn find_providers(&self, cid: Cid) -> Result<mpsc::UnboundedReceiver<PeerId>, Stopped> {
        let (found, providers) = mpsc::unbounded_channel();
        if let Some(router) = &self.router {
            self.spawn(ask_router(router.clone(), cid, found.clone(), self.routing.clone()));
        }
        self.send(SwarmCommand::FindProviders(cid, found)).await?;
        Ok(providers)
    }

    /// Announces, keeps the first and the configured peers connected, and finds the network without them.
    pub(crate) fn spawn_tasks(&self, options: &Options) {
        let changes = (self.peers.joins(), self.peers.moves());
        let announce = self.announcer.clone().run(self.routing.clone(), changes, options.announce_every);
        self.spawn(announce);
        let public = options.bootstrap == Bootstrap::Public;
        for address in peers::one_of_each(&options.bootstrap.addresses()) {
            let id = peers::peer_id(&address).ok();
            // On the public network any peer is enough; own bootstrap nodes are few, and each is wanted.
            let enough = move |peers: &Peers| {
                if public { peers.count() > 0 } else { id.is_some_and(|id| peers.is_connected(&id)) }
            };
            self.spawn(self.peers.clone().keep_connected(self.ipfs.clone(), address, enough));
        }
        if let Some(http) = &self.http {
            options.http_providers.iter().cloned().for_each(|endpoint| http.keep(endpoint));
        }
        if options.remembers_peers() {
            self.spawn(self.peers.clone().find_network(self.ipfs.clone(), options.listed_peers.clone()));
            // It stops by itself, after writing the last changes.
            self.tasks.spawn(self.peers.clone().save_remembered(options.data_dir.clone(), self.stop.clone()));
        }
        if let Some(members) = &self.members {
            self.spawn(members.clone().run());
        }
        for address in peers::one_of_each(&options.peers) {
            let id = peers::peer_id(&address).ok();
            let enough = move |peers: &Peers| id.is_some_and(|id| peers.is_connected(&id));
            self.spawn(self.peers.clone().keep_connected(self.ipfs.clone(), address, enough));
        }
    }

    /// Finds peers on the local network, if the options say so.
    pub(crate) fn spawn_discovery(&self, options: &Options, me: PeerId) {
        if options.mdns {
            let keys = self.members.as_ref().map(|members| members.ring().clone());
            self.spawn(Mdns::new(me, self.ipfs.clone(), self.peers.clone(), keys).run());
        }
    }

    /// Spawns a task that ends with the node.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }
}

/// Dials the providers that a router knows.
async fn ask_router(
    router: Router,
    cid: Cid,
    found: mpsc::UnboundedSender<PeerId>,
    commands: mpsc::Sender<SwarmCommand>,
) {
    for provider in router.find(cid).await.into_iter().take(MAX_ROUTED_PROVIDERS) {
        let _ = found.send(provider.peer);
        if commands.send(SwarmCommand::Reach(provider.peer, provider.addresses)).await.is_err() {
            return;
        }
    }
}
