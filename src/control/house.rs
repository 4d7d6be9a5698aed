mod export;
mod image;

use std::{path::PathBuf, str::FromStr, sync::Arc, time::Instant};

use ocipfs_node::{Bootstrap, Cid, Multiaddr, Node};
use ocipfs_oci::{Platform, Tag};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Added, Failure, Identity, Inspected, Note, PeerInfo, Reply, Request, Status, Stored,
    input::Input,
    lock::{self, Lock},
    message::Source,
};
use crate::{
    content::{self, CidPath, Content, Profile, Settings, Store},
    images::layer::{self, Image, LayerManifest, add},
    names::Resolver,
};

const OLD_DOCKER: &str = "the layer is compressed with zstd, which Docker before 23 does not unpack; use gzip where such clients pull";

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

    /// Closes the swarm.
    pub async fn close(&self) {
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
            Request::LayerAdd { source, platform, epoch, profile } => {
                let profile = profile.map_or(Ok(self.content().profile()), |text| Profile::from_str(&text));
                let options = add::Options {
                    platform: platform
                        .map(|text| Platform::from_str(&text))
                        .transpose()
                        .map_err(Failure::new)?,
                    epoch,
                    profile: profile.map_err(Failure::new)?,
                };
                self.layer_add(source, options, notes).await
            }
            Request::LayerInspect { reference } => self.layer_inspect(&reference).await,
            Request::LayerRm { reference } => self.layer_rm(&reference).await,
            Request::Image(request) => self.image(request, input, notes).await,
            Request::SwarmId => Ok(Reply::Identity(self.identity().await)),
            Request::SwarmPeers => Ok(Reply::Peers { peers: self.peers() }),
            Request::SwarmConnect { address } => self.connect(&address).await,
            Request::Name(request) => self.name(request).await,
            Request::StoreStat => self.store_stat().await,
            Request::Status => self.status().await,
        }
    }

    fn reference(&self, cid: &Cid, manifest: &LayerManifest) -> String {
        let tag = manifest.file_name().and_then(Tag::from_file_name);
        let tag = tag.map(|tag| format!(":{tag}")).unwrap_or_default();
        format!("{}/layer/{cid}{tag}", self.0.registry)
    }

    async fn layer_add(&self, source: Source, options: add::Options, notes: Notes) -> Result<Reply, Failure> {
        let source = match source {
            Source::Path(path) => add::Source::Path(path),
            Source::Ipfs(text) => add::Source::Ipfs(parse_path(&text)?),
        };
        let total = match &source {
            add::Source::Path(path) => {
                std::fs::metadata(path).ok().filter(|meta| meta.is_file()).map(|meta| meta.len())
            }
            add::Source::Ipfs(_) => None,
        };
        let progress = {
            let notes = notes.clone();
            Box::new(move |done| drop(notes.send(Note::Progress { done, total })))
        };
        let added = add::add(self.content(), source, options, progress).await.map_err(add_failure)?;
        if added.compression == crate::images::pack::meter::Compression::Zstd {
            let _ = notes.send(Note::Warning(OLD_DOCKER.into()));
        }
        let LayerManifest { digest, diff_id, size, media_type, at, .. } = &added.manifest;
        Ok(Reply::Added(Added {
            reference: self.reference(&added.cid, &added.manifest),
            cid: added.cid.to_string(),
            layer: at.to_string(),
            digest: digest.to_string(),
            diff_id: diff_id.to_string(),
            size: *size,
            media_type: media_type.to_string(),
        }))
    }

    async fn layer_inspect(&self, reference: &str) -> Result<Reply, Failure> {
        let cid = parse_reference(reference)?;
        let bytes = self.content().read(&cid.into(), layer::MAX_BYTES).await.map_err(content_failure)?;
        let manifest = LayerManifest::parse(&bytes).map_err(|e| {
            Failure::new(format!("{cid} is {e}")).hint(
                "give a reference as `layer add` printed it; a layer's own CID is added with ipfs://<cid>",
            )
        })?;
        let held = self.content().held(&cid).await.map_err(content_failure)?;
        Ok(Reply::Inspected(Box::new(Inspected {
            reference: self.reference(&cid, &manifest),
            cid: cid.to_string(),
            image_digest: Image::of(&manifest).manifest_digest.to_string(),
            local: self.content().has(&manifest.digest).await.map_err(content_failure)?,
            owned: held.is_some_and(|held| held.owned),
            manifest: serde_json::from_slice(&bytes).map_err(Failure::new)?,
        })))
    }

    async fn layer_rm(&self, reference: &str) -> Result<Reply, Failure> {
        let cid = parse_reference(reference)?;
        match self.content().release(&cid).await.map_err(content_failure)? {
            true => Ok(Reply::Removed { cid: cid.to_string() }),
            false => Err(Failure::new(format!("no layer {cid} is kept here"))
                .hint("`ocipfs layer inspect` tells what a reference means and whether it is kept")),
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

    async fn store_stat(&self) -> Result<Reply, Failure> {
        let stat = self.content().store_stat().await.map_err(content_failure)?;
        let content::StoreStat { blobs, bytes, layouts, blocks, arriving, arriving_bytes } = stat;
        Ok(Reply::Stored(Stored { blobs, bytes, layouts, blocks, arriving, arriving_bytes }))
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
            seconds: self.0.started.elapsed().as_secs(),
        })))
    }
}

fn parse_path(text: &str) -> Result<CidPath, Failure> {
    text.parse().map_err(|e: content::PathError| {
        Failure::new(e).hint("a layer on IPFS is given as ipfs://<cid> or ipfs://<cid>/<file>")
    })
}

/// Takes `[registry/]layer/<cid>[:tag][@digest]`, or the CID alone.
fn parse_reference(text: &str) -> Result<Cid, Failure> {
    let name = text.split_once("layer/").map_or(text, |(_, name)| name);
    let cid = name.split([':', '@']).next().unwrap_or_default();
    let cid = Cid::from_str(cid).map_err(|e| {
        Failure::new(format!("{text:?} is no layer: {e}"))
            .hint("give a reference as `layer add` printed it, or its CID")
    })?;
    Ok(Cid::new_v1(cid.codec(), *cid.hash()))
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

fn add_failure(error: add::Error) -> Failure {
    match error {
        add::Error::Content(error) => content_failure(error),
        add::Error::Read { .. } => {
            Failure::new(error).hint("give a tar, a tar.gz, a tar.zst, a folder or ipfs://<cid>/<file>")
        }
        add::Error::NoLayer { .. } => Failure::new(error)
            .hint("a layer is a tar, plain or compressed with gzip or zstd; a folder is packed"),
        add::Error::Name(_) => {
            Failure::new(error).hint("move or link it to a path whose last component is its name")
        }
        add::Error::Pack(_) => {
            Failure::new(error).hint("a folder is packed when all in it can be read, and holds no socket")
        }
        add::Error::BrokenOff => Failure::new(error),
    }
}
