//! A node directory in use, and what commands ask of it: one file for each group of commands.

mod bundle;
mod convert;
mod export;
mod image;
mod layer;
mod lock;
mod members;
mod meter;
mod name;
mod network;
mod readers;
mod reference;
mod repo;
mod status;
mod store;
mod swarm;
mod token;
mod withheld;

use std::{path::PathBuf, sync::Arc, time::Instant};

use ocipfs_node::Node;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Failure, Note, Reply, Request,
    attachment::{Attachment, Received},
    failure::{content_failure, publish_key_failure, start_failure, store_failure, token_failure},
};
use crate::{
    content::{Content, Settings, SharePolicy, Shared, Store},
    http::{AccessRules, IssuedTokens, PolicyFile},
    images::repository::{Repositories, RetentionPolicy, sweeper},
    names::{Prefetch, Resolver, followed::Followed, prefetch, publish::Publisher},
};
use lock::Lock;
pub use lock::make_data_dir;
use readers::Readable;
pub(super) use reference::RepoRef;

pub use network::Network;

/// Options of an instance.
pub struct Options {
    /// The swarm; none works on the node directory alone.
    pub swarm: Option<ocipfs_node::Options>,
    /// Whether a node directory of another network joins that of the swarm.
    pub change_network: bool,
    /// The node directory.
    pub data_dir: PathBuf,
    /// How content waits and what it writes.
    pub content: Settings,
    /// How long repository content is kept.
    pub policy: RetentionPolicy,
    /// The registry's address as references show it.
    pub registry: String,
    /// The address at which a registry may answer while no node is running.
    pub listen: String,
    /// Whether the registry speaks HTTPS.
    pub tls: bool,
    /// Access rules: content that not everybody may pull is not for peers either.
    pub access_rules: Option<AccessRules>,
    /// Whether peers of a private swarm get what access rules keep from others.
    pub shares_restricted: bool,
    /// Signature policies: what is not signed as they say is not for peers, nor for clients.
    pub policies: Option<PolicyFile>,
    /// Sharing policy, followed names and publish key.
    pub naming: Naming,
}

#[cfg(test)]
impl Options {
    /// Those of a test: a directory alone, without a swarm, rules and policies.
    pub fn alone(data_dir: PathBuf) -> Self {
        let share = SharePolicy::All;
        let naming =
            Naming { share, follow: vec![], prefetch: Prefetch::default(), publish_key: "self".into() };
        Self {
            swarm: None,
            change_network: false,
            data_dir,
            content: Settings::default(),
            policy: RetentionPolicy::default(),
            registry: "localhost:5050".into(),
            listen: "localhost:5050".into(),
            tls: false,
            access_rules: None,
            shares_restricted: false,
            policies: None,
            naming,
        }
    }
}

/// Sharing policy, followed names, and the key that pushed repositories are published under.
#[derive(Clone, Debug)]
pub struct Naming {
    /// Sharing policy: which content peers may get.
    pub share: SharePolicy,
    /// Names that are followed before those of `name follow`.
    pub follow: Vec<ocipfs_node::IpnsName>,
    /// Followed content that is fetched before a client requests it.
    pub prefetch: Prefetch,
    /// The key whose name the pushed repositories are published under.
    pub publish_key: String,
}

impl Naming {
    /// Where pushes are not shared, the record that names them is not either.
    fn in_swarm(&self, swarm: ocipfs_node::Options) -> ocipfs_node::Options {
        let unshared_key = (self.share == SharePolicy::Added).then(|| self.publish_key.clone());
        ocipfs_node::Options { unshared_key, ..swarm }
    }
}

/// A node, its content and the lock on their directory.
#[derive(Clone)]
pub struct Instance(Arc<Inner>);

struct Inner {
    resolver: Resolver,
    publisher: Publisher,
    prefetch: Prefetch,
    policy: Arc<RetentionPolicy>,
    stop: CancellationToken,
    tasks: TaskTracker,
    registry: String,
    tls: bool,
    tokens: IssuedTokens,
    readable: Readable,
    /// The network that the node directory belongs to, whether a swarm runs or not; none before the first one.
    network: Option<Network>,
    started: Instant,
    _lock: Lock,
}

/// Enters the network of a swarm, or returns the one that the node directory belongs to without a swarm.
async fn enter(
    network: Option<Network>,
    options: &Options,
    store: Store,
) -> Result<Option<Network>, Failure> {
    let (dir, change) = (options.data_dir.clone(), options.change_network);
    let enter = move || match network {
        Some(network) => network.enter(&dir, change, &store).map(|()| Some(network)),
        None => network::recorded(&dir),
    };
    tokio::task::spawn_blocking(enter).await.map_err(Failure::new)?
}

/// Opens the names that content is found and published by.
async fn open_names(
    content: Content,
    repositories: Repositories,
    naming: Naming,
    policy: Arc<RetentionPolicy>,
) -> Result<(Resolver, Publisher), Failure> {
    let Naming { share, follow, prefetch, publish_key } = naming;
    let node = content.node();
    sweeper::release_when_full(&repositories, &content, policy);
    let key = node.find_key(&publish_key).await.map_err(publish_key_failure)?;
    let followed = Followed::open(node, repositories.database().clone(), follow, prefetch);
    let followed = followed.await.map_err(Failure::new)?;
    let publisher = Publisher::new(content.clone(), repositories.clone(), key, share);
    Ok((Resolver::new(content, repositories, followed), publisher))
}

/// Takes notes on the way to a reply.
pub type Notes = UnboundedSender<Note>;

impl Instance {
    /// Locks the node directory and opens what is in it.
    pub async fn open(options: Options) -> Result<Self, Failure> {
        let lock = lock::lock(&options.data_dir)?;
        let network = options.swarm.as_ref().map(Network::of);
        let dir = options.data_dir.clone();
        let open = move || {
            let store = Store::open(&dir)?;
            Ok((store.clone(), Repositories::open(&store)?))
        };
        let opened = tokio::task::spawn_blocking(open).await.map_err(Failure::new)?;
        let (store, repositories) = opened.map_err(store_failure)?;
        let network = enter(network, &options, store.clone()).await?;
        let tokens = IssuedTokens::open(&options.data_dir).map_err(token_failure)?;
        let readable = Readable { rules: options.access_rules, policies: options.policies };
        readers::install(&store, &repositories, &readable, options.shares_restricted);
        let shared = Shared { store: store.clone(), share: options.naming.share };
        let online = options.swarm.is_some();
        let node = match options.swarm {
            Some(swarm) => Node::start(options.naming.in_swarm(swarm), Arc::new(shared)).await,
            None => Node::offline(&options.data_dir),
        };
        let node = node.map_err(start_failure)?;
        let (prefetch, policy) = (options.naming.prefetch, Arc::new(options.policy));
        let settings = Settings { share: options.naming.share, ..options.content };
        let content = Content::new(store, node.clone(), settings).map_err(content_failure);
        let names = async { open_names(content?, repositories, options.naming, policy.clone()).await };
        let (resolver, publisher) = match names.await {
            Ok(parts) => parts,
            Err(failure) => {
                node.shutdown().await;
                return Err(failure);
            }
        };
        let resolver = resolver.with_policies(readable.policies());
        let (registry, tls) = (options.registry, options.tls);
        let (started, stop) = (Instant::now(), CancellationToken::new());
        let (tasks, _lock) = (TaskTracker::new(), lock);
        let instance = Inner {
            resolver,
            publisher,
            prefetch,
            policy,
            stop,
            tasks,
            registry,
            tls,
            tokens,
            readable,
            network,
            started,
            _lock,
        };
        let instance = Self(Arc::new(instance));
        if online {
            instance.spawn_tasks();
        }
        Ok(instance)
    }

    fn spawn_tasks(&self) {
        let Inner { resolver, publisher, prefetch, policy, stop, tasks, readable, .. } = &*self.0;
        tasks.spawn(publisher.clone().run(stop.clone()));
        let (repositories, content) = (resolver.repositories().clone(), resolver.content().clone());
        tasks.spawn(sweeper::run(repositories, content, policy.clone(), stop.clone()));
        tasks.spawn(prefetch::run(resolver.clone(), *prefetch, stop.clone()));
        if readable.is_set() {
            tasks.spawn(readers::watch(readable.clone(), publisher.clone(), stop.clone()));
        }
    }

    /// Returns the registry's address as references show it.
    pub fn registry(&self) -> &str {
        &self.0.registry
    }

    /// Returns the publisher.
    pub fn publisher(&self) -> &Publisher {
        &self.0.publisher
    }

    /// Returns the resolver of repository names.
    pub fn resolver(&self) -> &Resolver {
        &self.0.resolver
    }

    /// The bytes behind it all.
    pub fn content(&self) -> &Content {
        self.0.resolver.content()
    }

    /// Closes the swarm, and ends what goes on in the background.
    pub async fn close(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.content().close().await;
        self.content().node().shutdown().await;
    }

    /// Answers a command that attaches nothing.
    pub async fn handle(&self, request: Request, notes: Notes) -> Result<Reply, Failure> {
        self.handle_with(request, Attachment::Nothing.into(), notes).await
    }

    /// Answers a command.
    pub(super) async fn handle_with(
        &self,
        request: Request,
        received: Received,
        notes: Notes,
    ) -> Result<Reply, Failure> {
        match request {
            Request::Layer(request) => self.layer(request, received, notes).await,
            Request::Image(request) => self.image(request, received.attachment, notes).await,
            Request::Bundle(request) => {
                Ok(Reply::Bundle(self.bundle(request, received.attachment, notes).await?))
            }
            Request::SwarmId => Ok(Reply::Identity(self.identity().await)),
            Request::SwarmPeers => Ok(Reply::Peers { peers: self.peers() }),
            Request::SwarmExportPeers => {
                let addresses = self.content().node().export_peers().await;
                Ok(Reply::ExportedPeers { addresses: addresses.iter().map(ToString::to_string).collect() })
            }
            Request::SwarmInvite { follow, seconds } => self.invite(follow.as_deref(), seconds).await,
            Request::Members(request) => Ok(Reply::Members(self.members(request).await?)),
            Request::SwarmConnect { address } => self.connect(&address).await,
            Request::Name(request) => self.name(request, notes).await,
            Request::Repo(request) => Ok(Reply::Repo(self.repo(request).await?)),
            Request::Store(request) => Ok(Reply::Store(self.store(request, notes).await?)),
            Request::Token(request) => Ok(Reply::Token(self.token(request).await?)),
            Request::Status => self.status().await,
        }
    }
}

#[cfg(test)]
mod tests;
