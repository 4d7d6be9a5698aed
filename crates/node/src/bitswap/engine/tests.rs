use libp2p::multihash::Multihash;

use super::*;
use crate::bitswap::budget::{BlockMemory, Budget};

const LEAF: u64 = 1 << 20;

fn cid(n: u32) -> Cid {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&n.to_be_bytes());
    Cid::new_v1(0x55, Multihash::wrap(0x12, &hash).unwrap())
}

fn wanted(numbers: std::ops::Range<u32>) -> Vec<Wanted> {
    numbers.map(|n| Wanted { cid: cid(n), size: LEAF }).collect()
}

/// An engine with one peer, and what that peer is told.
struct Scene {
    engine: Engine,
    peer: PeerId,
    told: mpsc::Receiver<Message>,
    room: Arc<Room>,
}

impl Scene {
    fn new() -> Self {
        let mut engine = Engine::new(Arc::default());
        let (wants, told) = mpsc::channel(100);
        let (peer, connection) = (PeerId::random(), ConnectionId::new_unchecked(1));
        let (version, heard) = (Version::V1_2, Arc::new(Heard::new()));
        let share = Budget::new(BlockMemory::default()).0.share(peer);
        engine.on_event(Event::Opened(Peer { peer, connection, wants, version, heard, share }));
        Self { engine, peer, told, room: Arc::default() }
    }

    fn begin(&mut self, id: u64, numbers: std::ops::Range<u32>) -> mpsc::UnboundedReceiver<Fetched> {
        let (out, blocks) = mpsc::unbounded_channel();
        self.engine.on_event(Event::Begin(id, out));
        self.engine.on_event(Event::Want(id, wanted(numbers)));
        blocks
    }

    fn came(&mut self, n: u32) {
        let block = Block { cid: cid(n), data: vec![0; LEAF as usize].into() };
        assert_eq!(self.engine.on_block(&self.peer, block, &self.room), None);
    }

    /// The blocks that the peer is asked for now, and with what priority.
    fn asks(&mut self) -> Vec<(Cid, i32)> {
        self.engine.plan();
        self.engine.flush();
        let mut asks = Vec::new();
        while let Ok(message) = self.told.try_recv() {
            let blocks = message.wants.into_iter().filter(|entry| !entry.cancel && entry.kind == Kind::Block);
            asks.extend(blocks.map(|entry| (entry.cid, entry.priority)));
        }
        asks
    }
}

#[tokio::test]
async fn what_was_asked_for_before_stays_before() {
    let mut scene = Scene::new();
    let _blocks = scene.begin(1, 0..200);
    let mut asked = scene.asks();
    for n in 0..50 {
        scene.came(n);
        asked.extend(scene.asks());
    }
    let _more = scene.begin(2, 1000..1010);
    asked.extend(scene.asks());
    let later: Vec<i32> = asked.iter().map(|(_, priority)| *priority).filter(|p| *p != URGENT).collect();
    assert!(later.len() > 60, "{}", later.len());
    assert!(later.is_sorted_by(|before, after| before > after), "{later:?}");
}

#[tokio::test]
async fn who_sent_the_path_to_a_file_is_asked_for_more_than_its_first_block_at_once() {
    let mut scene = Scene::new();
    let _path = scene.begin(1, 0..1);
    assert_eq!(scene.asks().len(), 1);
    scene.came(0);
    let _file = scene.begin(2, 1..100);
    assert!(scene.asks().len() > 10);
}

#[tokio::test]
async fn what_comes_along_with_what_was_asked_for_is_there_when_it_is_wanted() {
    let mut scene = Scene::new();
    let mut blocks = scene.begin(1, 0..1);
    scene.asks();
    let block = |n, length| Block { cid: cid(n), data: vec![0; length].into() };
    let verified = |scene: &Scene, blocks| Verified {
        peer: scene.peer,
        presences: Vec::new(),
        blocks,
        unusable: 0,
        room: scene.room.clone(),
    };
    scene.engine.on_verified(verified(&scene, vec![block(0, 10), block(7, ahead::LONGEST)]));
    assert_eq!(blocks.try_recv().unwrap().block.cid, cid(0));
    scene.engine.on_event(Event::Want(1, wanted(7..8)));
    assert_eq!(blocks.try_recv().unwrap().block.cid, cid(7));
    assert!(!scene.engine.is_liar(&scene.peer) && scene.asks().is_empty());
    // But not alone, and nothing long.
    scene.engine.on_event(Event::Want(1, wanted(1..2)));
    scene.asks();
    scene.engine.on_verified(verified(&scene, vec![block(1, 10), block(8, ahead::LONGEST + 1)]));
    assert!(scene.engine.is_liar(&scene.peer));
}

#[tokio::test]
async fn blocks_count_as_requested_while_they_are_wanted_and_a_moment_longer() {
    let mut scene = Scene::new();
    let owes = |scene: &Scene| scene.engine.remotes[&scene.peer].share.owes();
    assert!(!owes(&scene), "it was asked for nothing");
    let _blocks = scene.begin(1, 0..1);
    scene.asks();
    assert!(owes(&scene));
    scene.engine.on_event(Event::End(1));
    scene.asks();
    assert!(owes(&scene), "what was on its way may still come");
    scene.engine.remotes[&scene.peer].share.forget_late_blocks();
    assert!(!owes(&scene));
}

#[tokio::test]
async fn blocks_of_a_liar_are_not_hashed_even_a_moment_later() {
    let mut scene = Scene::new();
    let _blocks = scene.begin(1, 0..10);
    scene.asks();
    let block = Block { cid: cid(77), data: vec![0; 100_000].into() };
    let (peer, room) = (scene.peer, scene.room.clone());
    let wrong = Verified { peer, presences: Vec::new(), blocks: vec![block], unusable: 0, room };
    scene.engine.on_verified(wrong);
    scene.engine.on_event(Event::End(1));
    scene.asks();
    assert!(!scene.engine.remotes[&peer].share.owes());
}

#[tokio::test]
async fn a_peer_that_does_not_read_what_it_is_asked_for_is_asked_for_nothing_more() {
    let mut scene = Scene::new();
    for session in 0..100 {
        scene.begin(session, 0..1);
        scene.engine.on_event(Event::End(session));
        let _blocks = scene.begin(1000 + session, session as u32..session as u32 + 1);
        scene.engine.plan();
        scene.engine.flush();
    }
    assert!(scene.engine.remotes[&scene.peer].connections.len() == 1, "a hundred messages are kept for it");
    let _blocks = scene.begin(5000, 5000..5001);
    scene.engine.plan();
    scene.engine.flush();
    assert!(scene.engine.remotes[&scene.peer].connections.is_empty());
}
