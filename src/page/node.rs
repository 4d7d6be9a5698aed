//! The node's own data: what `status`, `swarm peers`, `store stat`, `store gc --dry-run` and `image ls` say, and the transfers
//! in progress.

use std::time::Instant;

use axum::{
    body::Bytes,
    http::{HeaderName, header},
};
use ocipfs_node::{Peer, PeerId};
use serde::Serialize;
use tokio::sync::mpsc::unbounded_channel;

use super::{
    Answer, Extension, GARBAGE_AGE, Page, PageVisitor, Refusal, STATUS_AGE, STORE_AGE, Shown, State, answer,
};
use crate::control::{
    Failure, Identity, ImageInfo, ImageReply, ImageRequest, Instance, Reply, Request, StoreReply,
    StoreRequest,
};

/// Peers that are listed, the oldest connection first.
const MAX_PEERS: usize = 200;
/// Downloads, and uploads, that are listed.
const MAX_TRANSFERS: usize = 100;
/// Repositories that are listed of each followed name.
const MAX_FOLLOWED_REPOSITORIES: usize = 100;
/// Imported images that are listed.
const MAX_IMAGES: usize = 500;

#[derive(Debug, Serialize)]
pub struct Swarm {
    identity: Identity,
    /// When this was read, in milliseconds of a clock that only goes forward: rates are differences.
    at_ms: u64,
    sent_bytes: u64,
    received_bytes: u64,
    peers: Vec<PeerTraffic>,
    /// How many there are, listed or not.
    peer_count: usize,
    downloads: Vec<Download>,
    download_count: usize,
    uploads: Vec<Upload>,
    upload_count: usize,
}

#[derive(Debug, Serialize)]
struct PeerTraffic {
    peer: String,
    address: String,
    outbound: bool,
    relayed: bool,
    agent: Option<String>,
    seconds: u64,
    sent_bytes: u64,
    received_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Download {
    root: String,
    digest: Option<String>,
    bytes: u64,
    done: u64,
    readers: usize,
}

#[derive(Debug, Serialize)]
struct Upload {
    repository: String,
    done: u64,
}

pub async fn swarm((State(page), Extension(visitor)): Shown) -> Answer<Swarm> {
    let instance = node_of(&page, &visitor)?;
    let (content, node) = (instance.content(), instance.content().node());
    let mut peers = node.peers();
    let peer_count = peers.len();
    peers.truncate(MAX_PEERS);
    let ids: Vec<PeerId> = peers.iter().map(|peer| peer.id).collect();
    let traffic = node.traffic();
    let by_peer = node.traffic_with(&ids);
    let (downloads, download_count) = content.downloads_in_flight(MAX_TRANSFERS);
    let (uploads, upload_count) = content.uploads().in_flight(MAX_TRANSFERS);
    let Reply::Identity(identity) = ask(instance, Request::SwarmId).await? else { return Err(unexpected()) };
    answer(Swarm {
        identity,
        at_ms: page.0.started.get_or_init(Instant::now).elapsed().as_millis() as u64,
        sent_bytes: traffic.sent_bytes,
        received_bytes: traffic.received_bytes,
        peers: peers.into_iter().zip(by_peer).map(|(peer, traffic)| peer_traffic(peer, traffic)).collect(),
        peer_count,
        downloads: downloads.into_iter().map(Download::from).collect(),
        download_count,
        uploads: uploads.into_iter().map(|one| Upload { repository: one.owner, done: one.done }).collect(),
        upload_count,
    })
}

fn peer_traffic(peer: Peer, traffic: ocipfs_node::Traffic) -> PeerTraffic {
    let address = peer.address.to_string();
    PeerTraffic {
        peer: peer.id.to_string(),
        relayed: address.contains("/p2p-circuit"),
        address,
        outbound: peer.dialled,
        agent: peer.agent,
        seconds: peer.since.elapsed().as_secs(),
        sent_bytes: traffic.sent_bytes,
        received_bytes: traffic.received_bytes,
    }
}

impl From<crate::content::DownloadProgress> for Download {
    fn from(progress: crate::content::DownloadProgress) -> Self {
        let crate::content::DownloadProgress { root, digest, size, done, readers } = progress;
        let digest = digest.map(|digest| digest.to_string());
        Self { root: root.to_string(), digest, bytes: size, done, readers }
    }
}

/// An answer that was made before, as text.
type Rendered = Result<([(HeaderName, &'static str); 1], Bytes), Refusal>;

fn rendered(json: Bytes) -> Rendered {
    Ok(([(header::CONTENT_TYPE, "application/json")], json))
}

fn render(value: &impl Serialize) -> Result<Bytes, Refusal> {
    Ok(serde_json::to_vec(value).map_err(Failure::new)?.into())
}

pub async fn status((State(page), Extension(visitor)): Shown) -> Rendered {
    let instance = node_of(&page, &visitor)?;
    let status = page.0.status.get(STATUS_AGE, async {
        let Reply::Status(mut status) = ask(instance, Request::Status).await? else {
            return Err(unexpected());
        };
        status.followed.iter_mut().for_each(|name| name.repositories.truncate(MAX_FOLLOWED_REPOSITORIES));
        render(&status)
    });
    rendered(status.await?)
}

pub async fn store((State(page), Extension(visitor)): Shown) -> Rendered {
    let instance = node_of(&page, &visitor)?;
    let store = page.0.store.get(STORE_AGE, async {
        match ask(instance, Request::Store(StoreRequest::Stat)).await? {
            Reply::Store(StoreReply::Stored(stored)) => render(&stored),
            _ => Err(unexpected()),
        }
    });
    rendered(store.await?)
}

/// What a collection would delete now. It marks the whole store, so the page asks for it only where it shows it.
pub async fn garbage((State(page), Extension(visitor)): Shown) -> Rendered {
    let instance = node_of(&page, &visitor)?;
    let garbage = page.0.garbage.get(GARBAGE_AGE, async {
        match ask(instance, Request::Store(StoreRequest::Collect { dry: true, uploads: false })).await? {
            Reply::Store(StoreReply::Collected(collected)) => render(&collected),
            _ => Err(unexpected()),
        }
    });
    rendered(garbage.await?)
}

/// The images that were imported, which have a CID and no repository.
pub async fn images((State(page), Extension(visitor)): Shown) -> Answer<Vec<ImageInfo>> {
    let instance = node_of(&page, &visitor)?;
    match ask(instance, Request::Image(ImageRequest::Ls)).await? {
        Reply::Image(ImageReply::Listed { mut images }) => {
            images.truncate(MAX_IMAGES);
            answer(images)
        }
        _ => Err(unexpected()),
    }
}

/// Returns the node where its data is shown to the visitor.
fn node_of<'a>(page: &'a Page, visitor: &PageVisitor) -> Result<&'a Instance, Refusal> {
    match visitor.sees_node {
        true => page.instance(),
        false => Err(Refusal::of_node(visitor)),
    }
}

async fn ask(instance: &Instance, request: Request) -> Result<Reply, Failure> {
    // Notes are for people who wait at a terminal.
    let (notes, _) = unbounded_channel();
    instance.handle(request, notes).await
}

fn unexpected() -> Refusal {
    Failure::new("the node gave an answer of another kind").into()
}
