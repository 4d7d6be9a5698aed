use libp2p::multihash::Multihash;

use super::*;
use crate::{
    Block,
    budget::{BlockMemory, Budget, MemoryLease},
    link::Activity,
    unsolicited,
    wire::Version,
};

const LEAF: u64 = 1 << 20;

fn cid(n: u32) -> Cid {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&n.to_be_bytes());
    Cid::new_v1(0x55, Multihash::wrap(0x12, &hash).unwrap())
}

fn wanted(numbers: std::ops::Range<u32>) -> Vec<WantedBlock> {
    numbers.map(|n| WantedBlock::new(cid(n), LEAF)).collect()
}

/// A client with one peer, and the messages sent to that peer.
struct Scene {
    client: Client,
    peer: PeerId,
    notified: mpsc::Receiver<Message>,
    memory: Arc<MemoryLease>,
}

impl Scene {
    fn new() -> Self {
        let mut client = Client::new(Arc::default());
        let (wants, notified) = mpsc::channel(100);
        let (peer, connection) = (PeerId::random(), ConnectionId::new_unchecked(1));
        let (version, activity) = (Version::V1_2, Arc::new(Activity::new()));
        let share = Budget::new(BlockMemory::default()).0.share(peer);
        client.on_event(Event::Opened(PeerConnection { peer, connection, wants, version, activity, share }));
        Self { client, peer, notified, memory: Arc::default() }
    }

    fn begin(&mut self, id: u64, numbers: std::ops::Range<u32>) -> mpsc::UnboundedReceiver<FetchedBlock> {
        let (out, blocks) = mpsc::unbounded_channel();
        self.client.on_event(Event::Begin(id, out));
        self.client.on_event(Event::Want(id, wanted(numbers)));
        blocks
    }

    fn came(&mut self, n: u32) {
        let block = Block { cid: cid(n), data: vec![0; LEAF as usize].into() };
        assert_eq!(self.client.on_block(&self.peer, block, &self.memory), None);
    }

    /// Returns the blocks that the peer is asked for now, with their priorities.
    fn requests(&mut self) -> Vec<(Cid, i32)> {
        self.client.plan();
        self.client.flush();
        let mut requests = Vec::new();
        while let Ok(message) = self.notified.try_recv() {
            let blocks = message.wants.into_iter().filter(|entry| !entry.cancel && entry.kind == Kind::Block);
            requests.extend(blocks.map(|entry| (entry.cid, entry.priority)));
        }
        requests
    }
}

#[tokio::test(start_paused = true)]
async fn earlier_wants_keep_a_higher_priority() {
    let mut scene = Scene::new();
    let _blocks = scene.begin(1, 0..200);
    let mut asked = scene.requests();
    for n in 0..50 {
        scene.came(n);
        asked.extend(scene.requests());
    }
    let _more = scene.begin(2, 1000..1010);
    asked.extend(scene.requests());
    let later: Vec<i32> = asked.iter().map(|(_, priority)| *priority).filter(|p| *p != URGENT).collect();
    assert!(later.len() > 60, "{}", later.len());
    assert!(later.is_sorted_by(|before, after| before > after), "{later:?}");
}

#[tokio::test(start_paused = true)]
async fn a_recent_sender_is_asked_for_a_window_at_once() {
    let mut scene = Scene::new();
    let _path = scene.begin(1, 0..1);
    assert_eq!(scene.requests().len(), 1);
    scene.came(0);
    let _file = scene.begin(2, 1..100);
    assert!(scene.requests().len() > 10);
}

#[tokio::test(start_paused = true)]
async fn a_short_unsolicited_block_is_kept_until_it_is_wanted() {
    let mut scene = Scene::new();
    let mut blocks = scene.begin(1, 0..1);
    scene.requests();
    let block = |n, length| Block { cid: cid(n), data: vec![0; length].into() };
    let verified = |scene: &Scene, blocks| Verified {
        peer: scene.peer,
        presences: Vec::new(),
        blocks,
        unusable: 0,
        memory: scene.memory.clone(),
    };
    scene.client.on_verified(verified(&scene, vec![block(0, 10), block(7, unsolicited::MAX_BLOCK_BYTES)]));
    assert_eq!(blocks.try_recv().unwrap().block.cid, cid(0));
    scene.client.on_event(Event::Want(1, wanted(7..8)));
    assert_eq!(blocks.try_recv().unwrap().block.cid, cid(7));
    assert!(!scene.client.is_banned(&scene.peer) && scene.requests().is_empty());
    // Not without a requested block, and not if it is too long.
    scene.client.on_event(Event::Want(1, wanted(1..2)));
    scene.requests();
    scene
        .client
        .on_verified(verified(&scene, vec![block(1, 10), block(8, unsolicited::MAX_BLOCK_BYTES + 1)]));
    assert!(scene.client.is_banned(&scene.peer));
}

#[tokio::test(start_paused = true)]
async fn late_blocks_count_as_requested_for_a_while() {
    let mut scene = Scene::new();
    let owes = |scene: &Scene| scene.client.remotes[&scene.peer].share.has_open_requests();
    assert!(!owes(&scene), "it was asked for nothing");
    let _blocks = scene.begin(1, 0..1);
    scene.requests();
    assert!(owes(&scene));
    scene.client.on_event(Event::End(1));
    scene.requests();
    assert!(owes(&scene), "late blocks may still arrive");
    scene.client.remotes[&scene.peer].share.forget_late_blocks();
    assert!(!owes(&scene));
}

#[tokio::test(start_paused = true)]
async fn blocks_of_a_banned_peer_are_not_hashed() {
    let mut scene = Scene::new();
    let _blocks = scene.begin(1, 0..10);
    scene.requests();
    let block = Block { cid: cid(77), data: vec![0; 100_000].into() };
    let (peer, memory) = (scene.peer, scene.memory.clone());
    let wrong = Verified { peer, presences: Vec::new(), blocks: vec![block], unusable: 0, memory };
    scene.client.on_verified(wrong);
    scene.client.on_event(Event::End(1));
    scene.requests();
    assert!(!scene.client.remotes[&peer].share.has_open_requests());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_its_wants_is_not_asked_any_more() {
    let mut scene = Scene::new();
    for session in 0..100 {
        scene.begin(session, 0..1);
        scene.client.on_event(Event::End(session));
        let _blocks = scene.begin(1000 + session, session as u32..session as u32 + 1);
        scene.client.plan();
        scene.client.flush();
    }
    assert!(scene.client.remotes[&scene.peer].connections.len() == 1, "up to 100 messages are queued");
    let _blocks = scene.begin(5000, 5000..5001);
    scene.client.plan();
    scene.client.flush();
    assert!(scene.client.remotes[&scene.peer].connections.is_empty());
}
