//! A node of the simulated swarm.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use libp2p::{PeerId, multihash::Multihash, swarm::ConnectionId};
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    BLOCK_BYTES, Link, Manner,
    links::{Downlink, Uplink},
};
use crate::{
    Blocks, Cid, as_v1,
    budget::{BlockMemory, Budget},
    client::Client,
    link::{Activity, Event, FetchedBlock, PeerConnection},
    locked,
    server::Server,
    session::{STALL_TIMEOUT, WantedBlock},
    wire::{Message, Version},
};

/// The blocks of one file; all are slices of one buffer of zeros that hold their number.
#[derive(Clone)]
pub struct File {
    blocks: Vec<Bytes>,
}

impl File {
    pub fn new(blocks: u32) -> Self {
        let mut bytes = vec![0; blocks as usize * BLOCK_BYTES];
        for n in 0..blocks {
            bytes[n as usize * BLOCK_BYTES..][..4].copy_from_slice(&n.to_be_bytes());
        }
        let bytes = Bytes::from(bytes);
        let slice = |n| bytes.slice(n * BLOCK_BYTES..(n + 1) * BLOCK_BYTES);
        Self { blocks: (0..blocks as usize).map(slice).collect() }
    }

    pub fn len(&self) -> u32 {
        self.blocks.len() as u32
    }

    pub fn block(&self, cid: &Cid) -> Bytes {
        self.blocks[number(cid) as usize].clone()
    }
}

/// The CID of a block; its hash is its number, since the simulation hashes nothing.
pub fn cid(n: u32) -> Cid {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&n.to_be_bytes());
    Cid::new_v1(0x55, Multihash::wrap(0x12, &hash).expect("it is short"))
}

pub fn number(cid: &Cid) -> u32 {
    u32::from_be_bytes(cid.hash().digest()[..4].try_into().expect("it is long enough"))
}

/// The stored blocks of a node.
struct Stored {
    file: File,
    cids: Mutex<HashSet<Cid>>,
}

impl Blocks for Stored {
    fn size(&self, cid: &Cid) -> io::Result<Option<u64>> {
        Ok(locked(&self.cids).contains(&as_v1(cid)).then_some(BLOCK_BYTES as u64))
    }

    fn get(&self, cid: &Cid) -> io::Result<Option<Bytes>> {
        Ok(locked(&self.cids).contains(&as_v1(cid)).then(|| self.file.block(cid)))
    }
}

/// A connection, as this side of it sees it.
pub struct Connection {
    pub wants: mpsc::Receiver<Message>,
    activity: Arc<Activity>,
    /// When the other side sent something again after it was silent for [`STALL_TIMEOUT`].
    resumed: Option<Instant>,
}

impl Connection {
    /// Records that bytes arrive.
    pub fn receive(&mut self) {
        self.resumed = self.last_silence();
        self.activity.record_received();
    }

    /// Returns the end of the last time in which the other side was silent for so long that it may have lost its wants.
    pub fn last_silence(&self) -> Option<Instant> {
        let now = Instant::now();
        if now - self.activity.last_received() >= STALL_TIMEOUT { Some(now) } else { self.resumed }
    }
}

/// A client and a server, their links and connections.
pub struct Node {
    pub id: PeerId,
    pub manner: Manner,
    pub client: Client,
    pub server: Server,
    pub link: Link,
    pub uplink: Uplink,
    pub downlink: Downlink,
    pub connections: BTreeMap<usize, Connection>,
    stored: Arc<Stored>,
    fetching: Option<mpsc::UnboundedReceiver<FetchedBlock>>,
    budget: Arc<Budget>,
    /// Blocks that it received, copies included.
    pub received_blocks: usize,
    /// When the last wanted block arrived.
    pub done_at: Option<Instant>,
}

impl Node {
    pub fn new(index: usize, seed: u64, manner: Manner, link: Link, file: &File) -> Self {
        let stored = Arc::new(Stored { file: file.clone(), cids: Mutex::default() });
        let read_ahead = Arc::new(Semaphore::new(1));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let server = Server::new(stored.clone(), read_ahead, Arc::default(), tasks, stop);
        Self {
            id: peer_id(index, seed),
            manner,
            client: Client::seeded(Arc::default(), seed ^ (index as u64) << 32),
            server,
            link,
            uplink: Uplink::new(link),
            downlink: Downlink::new(link, Instant::now()),
            connections: BTreeMap::new(),
            stored,
            fetching: None,
            budget: Budget::new(BlockMemory::default()).0,
            received_blocks: 0,
            done_at: None,
        }
    }

    /// Stores blocks that no session fetched.
    pub fn store(&mut self, numbers: impl IntoIterator<Item = u32>) {
        locked(&self.stored.cids).extend(numbers.into_iter().map(cid));
    }

    pub fn has(&self, cid: &Cid) -> bool {
        locked(&self.stored.cids).contains(cid)
    }

    pub fn stored_blocks(&self) -> usize {
        locked(&self.stored.cids).len()
    }

    /// Opens this side of a connection.
    pub fn connect(&mut self, to: usize, peer: PeerId) {
        let (sender, wants) = mpsc::channel(4096);
        let activity = Arc::new(Activity::new());
        self.server.add_simulated(peer);
        self.client.on_event(Event::Opened(PeerConnection {
            peer,
            connection: ConnectionId::new_unchecked(0),
            wants: sender,
            version: Version::V1_2,
            activity: activity.clone(),
            share: self.budget.share(peer),
        }));
        self.connections.insert(to, Connection { wants, activity, resumed: None });
    }

    /// Closes this side of a connection.
    pub fn disconnect(&mut self, to: usize, peer: PeerId) {
        self.connections.remove(&to);
        self.uplink.close(to);
        self.server.closed(&peer, ConnectionId::new_unchecked(0));
        self.client.on_event(Event::Closed(peer, ConnectionId::new_unchecked(0)));
    }

    /// Wants the whole file, in order.
    pub fn fetch(&mut self) {
        let (out, blocks) = mpsc::unbounded_channel();
        self.fetching = Some(blocks);
        let missing = (0..self.stored.file.len()).map(cid).filter(|cid| !self.has(cid));
        let wanted: Vec<_> = missing.map(|cid| WantedBlock::new(cid, BLOCK_BYTES as u64)).collect();
        self.client.on_event(Event::Begin(0, out));
        self.client.on_event(Event::Want(0, wanted));
    }

    pub fn is_fetching(&self) -> bool {
        self.fetching.is_some() && self.done_at.is_none()
    }

    /// Stores the blocks that arrived, and tells the server. Returns whether there were any.
    pub fn store_fetched(&mut self, now: Instant) -> bool {
        let Some(blocks) = &mut self.fetching else { return false };
        let mut arrived = Vec::new();
        while let Ok(fetched) = blocks.try_recv() {
            arrived.push(fetched.block.cid);
        }
        if arrived.is_empty() {
            return false;
        }
        locked(&self.stored.cids).extend(arrived.iter().map(as_v1));
        self.server.arrived(&arrived);
        if self.stored_blocks() == self.stored.file.len() as usize {
            self.done_at = Some(now);
        }
        true
    }
}

fn peer_id(index: usize, seed: u64) -> PeerId {
    let mut hash = [0; 32];
    // The seed comes first, so that the order of the ids is not the order of the nodes.
    hash[..8].copy_from_slice(&(seed ^ index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    hash[8..16].copy_from_slice(&(index as u64).to_be_bytes());
    PeerId::from_multihash(Multihash::wrap(0x12, &hash).expect("it is short")).expect("it is a SHA-256 hash")
}
