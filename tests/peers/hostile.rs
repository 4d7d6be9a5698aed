//! A peer that speaks Bitswap as a test decides: what it answers to a want, and what it says unasked.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm, identify,
    identity::Keypair,
    kad::{self, ProviderRecord, RecordKey, store::MemoryStore, store::RecordStore},
    multiaddr::Protocol,
    noise,
    swarm::{
        NetworkBehaviour, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
    tcp, yamux,
};
use libp2p_stream::{Control, IncomingStreams};
use ocipfs_bitswap::wire::{Kind, Message, Payload, Prefix, Version, WantlistEntry};
use ocipfs_node::Cid;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time,
};

use super::bitswap::{self, BITSWAP};

const PUBSUB: StreamProtocol = StreamProtocol::new("/meshsub/1.1.0");
const PARTS: StreamProtocol = StreamProtocol::new("/ocipfs/bitswap-parts/1.0.0");
const SOON: Duration = Duration::from_secs(30);

/// Blocks by their CIDs.
pub type Blocks = HashMap<Cid, Bytes>;

/// Function that returns the bytes to write to a stream after a want; none leaves it unanswered.
pub type Answer = Box<dyn FnMut(&WantlistEntry) -> Vec<Bytes> + Send>;

#[derive(NetworkBehaviour)]
struct Parts {
    identify: identify::Behaviour,
    kad: kad::Behaviour<MemoryStore>,
    stream: libp2p_stream::Behaviour,
}

/// Blocks and presences that other peers sent it.
#[derive(Default)]
pub struct Answered {
    /// The bytes of blocks.
    pub blocks: Vec<Bytes>,
    /// Whether peers said that they have a block.
    pub presences: Vec<(Cid, bool)>,
}

/// Runs until it is dropped.
pub struct Hostile {
    address: String,
    control: Control,
    asked: Arc<AtomicUsize>,
    answered: Arc<Mutex<Answered>>,
    /// The connections of each peer.
    connected: watch::Receiver<HashMap<PeerId, usize>>,
    dial: mpsc::UnboundedSender<DialOpts>,
    tasks: JoinSet<()>,
}

impl Hostile {
    /// Starts one that calls itself a provider of `roots`, and answers.
    pub async fn start(roots: &[Cid], answer: Answer) -> Self {
        Self::start_as(Keypair::generate_ed25519(), roots, answer).await
    }

    /// Starts one that answers nothing, and whose peer id is smaller than another's.
    pub async fn silent_before(peer: &str) -> Self {
        let peer: PeerId = peer.parse().expect("a peer id");
        let mut keys = std::iter::repeat_with(Keypair::generate_ed25519);
        let key = keys.find(|key| key.public().to_peer_id() < peer).expect("a smaller id");
        Self::start_as(key, &[], Box::new(|_| vec![])).await
    }

    async fn start_as(key: Keypair, roots: &[Cid], answer: Answer) -> Self {
        let (mut hostile, mut incoming) = Self::listen(key, roots).await;
        let (asked, control) = (hostile.asked.clone(), hostile.control.clone());
        let answered = hostile.answered.clone();
        hostile.tasks.spawn(async move {
            let answer = Arc::new(Mutex::new(answer));
            while let Some((peer, stream)) = incoming.next().await {
                let (answers, queue) = mpsc::channel(16);
                tokio::spawn(write_all(control.clone(), peer, queue));
                let heard = (asked.clone(), answered.clone());
                tokio::spawn(read_all(stream, heard, answer.clone(), answers));
            }
        });
        hostile
    }

    /// Starts one that takes what is said to it, and never reads it.
    pub async fn deaf() -> Self {
        let (mut hostile, incoming) = Self::listen(Keypair::generate_ed25519(), &[]).await;
        hostile.tasks.spawn(never_read(incoming));
        hostile
    }

    /// Starts one that speaks pubsub, and never reads it.
    pub async fn of_pubsub() -> Self {
        let (mut hostile, _) = Self::listen(Keypair::generate_ed25519(), &[]).await;
        hostile.take_pubsub();
        hostile
    }

    /// Lets it speak pubsub, too, and never read it: before anybody is connected.
    pub fn take_pubsub(&mut self) {
        let incoming = self.control.accept(PUBSUB).expect("only this accepts it");
        self.tasks.spawn(never_read(incoming));
    }

    async fn listen(key: Keypair, roots: &[Cid]) -> (Self, IncomingStreams) {
        let mut swarm = swarm(key);
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().expect("a multiaddr")).expect("it listens");
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        let me = *swarm.local_peer_id();
        for root in roots {
            let key = RecordKey::from(root.hash().to_bytes());
            let record = ProviderRecord::new(key, me, vec![address.clone()]);
            swarm.behaviour_mut().kad.store_mut().add_provider(record).expect("room for a record");
        }
        let mut control = swarm.behaviour().stream.new_control();
        let incoming = control.accept(BITSWAP).expect("only this accepts it");
        let (count, connected) = watch::channel(HashMap::new());
        let (dial, dials) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(run(swarm, count, dials));
        let address = format!("{address}/p2p/{me}");
        let (asked, answered) = Default::default();
        (Self { address, control, asked, answered, connected, dial, tasks }, incoming)
    }

    /// Where it listens, with its peer id.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How many wants it was told of.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// Takes the answers received since the last call.
    pub fn take_answered(&self) -> Answered {
        std::mem::take(&mut self.answered.lock().expect("no answer panicked"))
    }

    /// Opens a stream to a peer that has dialled it, to say there what the test likes.
    pub async fn open(&self, peer: &str) -> Stream {
        self.open_as(peer, BITSWAP).await
    }

    /// Opens a pubsub stream to a peer that has dialed it.
    pub async fn open_pubsub(&self, peer: &str) -> Stream {
        self.open_as(peer, PUBSUB).await
    }

    async fn open_as(&self, peer: &str, protocol: StreamProtocol) -> Stream {
        let peer = peer.parse().expect("a peer id");
        self.has_connections(peer, 1).await;
        open(&mut self.control.clone(), peer, protocol).await.expect("a stream")
    }

    /// Opens so many connections to the peer at an address that ends in its peer id.
    pub async fn connect(&self, address: &str, connections: usize) {
        let address: Multiaddr = address.parse().expect("a multiaddr");
        let Some(Protocol::P2p(peer)) = address.iter().last() else { panic!("no peer id: {address}") };
        for _ in 0..connections {
            let dial = DialOpts::peer_id(peer).condition(PeerCondition::Always);
            self.dial.send(dial.addresses(vec![address.clone()]).build()).expect("it runs");
        }
        self.has_connections(peer, connections).await;
    }

    async fn has_connections(&self, peer: PeerId, connections: usize) {
        let mut connected = self.connected.clone();
        let are_open = connected.wait_for(|open| open.get(&peer) >= Some(&connections));
        time::timeout(SOON, are_open).await.expect("it is connected").expect("it runs");
    }

    /// Opens a stream to a peer, unless it is disconnected.
    pub async fn try_open(&self, peer: &str) -> Option<Stream> {
        self.try_open_as(peer, BITSWAP).await
    }

    /// Opens a pubsub stream to a peer, unless it is disconnected.
    pub async fn try_open_pubsub(&self, peer: &str) -> Option<Stream> {
        self.try_open_as(peer, PUBSUB).await
    }

    /// Opens a stream for messages in parts to a peer, unless it is disconnected.
    pub async fn try_open_parts(&self, peer: &str) -> Option<Stream> {
        self.try_open_as(peer, PARTS).await
    }

    async fn try_open_as(&self, peer: &str, protocol: StreamProtocol) -> Option<Stream> {
        open(&mut self.control.clone(), peer.parse().expect("a peer id"), protocol).await
    }
}

/// Drives a swarm, and counts the connections of each peer.
async fn run(
    mut swarm: Swarm<Parts>,
    count: watch::Sender<HashMap<PeerId, usize>>,
    mut dials: mpsc::UnboundedReceiver<DialOpts>,
) {
    loop {
        let (peer, open) = tokio::select! {
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, num_established, .. } => (peer_id, num_established.get()),
                SwarmEvent::ConnectionClosed { peer_id, num_established, .. } => (peer_id, num_established),
                _ => continue,
            },
            Some(dial) = dials.recv() => {
                let _ = swarm.dial(dial);
                continue;
            }
        };
        count.send_modify(|connected| {
            connected.insert(peer, open as usize);
        });
    }
}

/// Holds streams, and never reads them.
async fn never_read(mut incoming: IncomingStreams) {
    let mut unread = Vec::new();
    while let Some((_, stream)) = incoming.next().await {
        unread.push(stream);
    }
}

async fn open(control: &mut Control, peer: PeerId, protocol: StreamProtocol) -> Option<Stream> {
    time::timeout(SOON, control.open_stream(peer, protocol)).await.ok()?.ok()
}

fn swarm(key: Keypair) -> Swarm<Parts> {
    libp2p::SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("noise")
        .with_behaviour(|key| {
            let id = key.public().to_peer_id();
            let config = kad::Config::new(StreamProtocol::new("/ipfs/kad/1.0.0"));
            let mut kad = kad::Behaviour::with_config(id, MemoryStore::new(id), config);
            kad.set_mode(Some(kad::Mode::Server));
            let identify = identify::Config::new("ipfs/0.1.0".into(), key.public());
            Parts {
                identify: identify::Behaviour::new(identify),
                kad,
                stream: libp2p_stream::Behaviour::new(),
            }
        })
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build()
}

/// Takes the wants on a stream and queues what is answered.
async fn read_all(
    mut stream: Stream,
    (asked, answered): (Arc<AtomicUsize>, Arc<Mutex<Answered>>),
    answer: Arc<Mutex<Answer>>,
    answers: mpsc::Sender<Bytes>,
) {
    while let Some(message) = bitswap::read(&mut stream).await {
        {
            let mut answered = answered.lock().expect("no answer panicked");
            answered.blocks.extend(message.blocks.iter().map(|block| block.data.clone()));
            answered.presences.extend(&message.presences);
        }
        for want in message.wants.iter().filter(|want| !want.cancel) {
            asked.fetch_add(1, Ordering::Relaxed);
            let pieces = answer.lock().expect("no answer panicked")(want);
            for piece in pieces {
                if answers.send(piece).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Writes to a stream of its own, and to another where that one breaks.
async fn write_all(mut control: Control, peer: PeerId, mut queue: mpsc::Receiver<Bytes>) {
    let mut stream = None;
    while let Some(piece) = queue.recv().await {
        if stream.is_none() {
            stream = open(&mut control, peer, BITSWAP).await;
        }
        let Some(writer) = &mut stream else { return };
        if bitswap::write(writer, &[piece]).await.is_err() {
            stream = None;
        }
    }
}

/// A message with one block, said to be `cid` but for its hash.
pub fn block(cid: &Cid, data: Bytes) -> Vec<Bytes> {
    let blocks = vec![Payload { prefix: Prefix::of(cid), data }];
    Message { blocks, ..Message::default() }.encode(Version::V1_2)
}

/// A message that says whether there is a block.
pub fn presence(cid: &Cid, have: bool) -> Vec<Bytes> {
    bitswap::presences(vec![(*cid, have)])
}

/// Returns the answer of an honest peer that has these blocks.
pub fn honest(blocks: &Blocks, want: &WantlistEntry) -> Vec<Bytes> {
    match (blocks.get(&want.cid), want.kind) {
        (Some(data), Kind::Block) => block(&want.cid, data.clone()),
        (found, _) => presence(&want.cid, found.is_some()),
    }
}

/// A want for a block.
pub fn want(cid: Cid) -> WantlistEntry {
    WantlistEntry { cid, priority: 1, cancel: false, kind: Kind::Block, send_dont_have: true }
}
