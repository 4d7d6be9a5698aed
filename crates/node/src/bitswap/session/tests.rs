mod crowds;

use libp2p::multihash::Multihash;

use super::*;

const MIB: u64 = 1 << 20;

fn cid(n: u32) -> Cid {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&n.to_be_bytes());
    Cid::new_v1(0x55, Multihash::wrap(0x12, &hash).unwrap())
}

/// (peer, block) by their numbers.
type Numbered = Vec<(usize, u32)>;

/// A session, its peers and the time, which passes only where a test says so.
struct Scene {
    session: Session,
    now: Instant,
    peers: Vec<PeerId>,
    heard: HashMap<PeerId, Instant>,
    room: usize,
    cancelled: Vec<(usize, u32)>,
}

impl Scene {
    /// `leaves` blocks of 1 MiB are wanted, and so many peers are connected.
    fn new(peers: usize, leaves: u32) -> Self {
        let peers: Vec<PeerId> = (0..peers).map(|_| PeerId::random()).collect();
        let mut session = Session::default();
        session.want((0..leaves).map(|n| Wanted { cid: cid(n), size: MIB }));
        for (rank, peer) in peers.iter().enumerate() {
            session.joined(*peer, rank as u64, true);
        }
        Self { session, now: Instant::now(), peers, heard: HashMap::new(), room: 1000, cancelled: Vec::new() }
    }

    /// What is asked now: (peer, block) and (peer, presence) by their numbers.
    fn plan(&mut self) -> (Numbered, Numbered) {
        let (heard, room) = (self.heard.clone(), self.room);
        let reach = |peer: &PeerId| Reach { heard: heard.get(peer).copied(), room };
        let (mut blocks, mut haves) = (Vec::new(), Vec::new());
        for ask in self.session.plan(self.now, &reach) {
            let (list, peer, cid) = match ask {
                Ask::Block { peer, cid, .. } => (&mut blocks, peer, cid),
                Ask::Have { peer, cid } => (&mut haves, peer, cid),
                Ask::Cancel { peer, cid } => (&mut self.cancelled, peer, cid),
            };
            let index = self.peers.iter().position(|known| *known == peer).unwrap();
            list.push((index, u32::from_be_bytes(cid.hash().digest()[..4].try_into().unwrap())));
        }
        (blocks, haves)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn came(&mut self, peer: usize, n: u32) -> bool {
        self.heard.insert(self.peers[peer], self.now);
        self.session.came(&self.peers[peer], &cid(n), MIB, self.now)
    }

    fn has(&mut self, peer: usize, n: u32) {
        self.session.has(&self.peers[peer], &cid(n));
    }

    fn lacks(&mut self, peer: usize, n: u32) {
        self.session.lacks(&self.peers[peer], &cid(n));
    }
}

fn numbers(asks: &[(usize, u32)]) -> Vec<u32> {
    asks.iter().map(|(_, n)| *n).collect()
}

const MOMENT: Duration = Duration::from_millis(50);

#[test]
fn the_only_peer_is_asked_for_the_first_block_at_once_and_then_for_a_window_in_order() {
    let mut scene = Scene::new(1, 100);
    assert_eq!(scene.plan().0, [(0, 0)], "nothing is known of it yet");
    scene.pass(MOMENT);
    assert!(scene.came(0, 0));
    assert_eq!(
        numbers(&scene.plan().0),
        (1..18).collect::<Vec<_>>(),
        "sixteen MiB, and one that came quickly"
    );
    assert_eq!(scene.plan().0, [], "the window is full");
}

#[test]
fn who_is_presumed_to_have_all_is_asked_for_a_window_at_once_until_it_says_otherwise() {
    let mut scene = Scene::new(2, 40);
    scene.session.presume(&scene.peers[1]);
    let (blocks, _) = scene.plan();
    assert!(blocks.len() > 10 && blocks.iter().all(|(peer, _)| *peer == 1), "{blocks:?}");
    scene.lacks(1, 0);
    scene.has(0, 0);
    assert_eq!(scene.plan().0, [(0, 0)]);
}

#[test]
fn the_window_grows_while_blocks_come_quickly_and_no_further_than_its_bound() {
    let mut scene = Scene::new(1, 10_000);
    let mut flying: Vec<u32> = numbers(&scene.plan().0);
    for _ in 0..7 {
        scene.pass(MOMENT);
        for n in std::mem::take(&mut flying) {
            scene.came(0, n);
        }
        flying = numbers(&scene.plan().0);
    }
    assert_eq!(flying.len(), 32);
}

#[test]
fn of_many_unknown_peers_the_best_is_asked_for_the_block_and_the_others_whether_they_have_it() {
    let mut scene = Scene::new(5, 10);
    let (blocks, mut haves) = scene.plan();
    haves.retain(|(_, n)| *n == 0);
    haves.sort();
    assert_eq!(blocks, [(0, 0)]);
    assert_eq!(haves, [(1, 0), (2, 0), (3, 0), (4, 0)]);
    // A root, whose length nobody knows, is small.
    let mut scene = Scene::new(5, 0);
    scene.session.want([Wanted { cid: cid(0), size: 0 }]);
    assert_eq!(scene.plan().0, [(0, 0), (1, 0), (2, 0)]);
}

#[test]
fn a_peer_that_has_parts_is_asked_for_them_before_one_that_has_all() {
    let mut scene = Scene::new(2, 3);
    scene.plan();
    scene.pass(MOMENT);
    scene.came(0, 0);
    scene.has(1, 2);
    let (mut blocks, haves) = scene.plan();
    blocks.sort();
    assert_eq!(blocks, [(0, 1), (1, 2)]);
    assert_eq!(haves, [], "it was asked ahead already");
}

#[test]
fn a_presence_that_another_session_asked_for_changes_nothing() {
    let mut scene = Scene::new(2, 3);
    scene.plan();
    let peer = scene.peers[1];
    assert!(!scene.session.has(&peer, &cid(77)) && !scene.session.lacks(&peer, &cid(78)));
    assert_eq!(scene.session.sources.get(&peer).unwrap().role, Role::Unknown);
    scene.pass(MOMENT);
    scene.came(0, 0);
    assert!(scene.session.has(&peer, &cid(0)), "its answer to the first question counts however late it is");
    assert_eq!(scene.session.sources.get(&peer).unwrap().role, Role::Parts);
}

#[test]
fn what_a_peer_has_not_got_is_asked_of_another() {
    let mut scene = Scene::new(2, 3);
    scene.plan();
    scene.lacks(0, 0);
    scene.has(1, 0);
    assert_eq!(scene.plan().0, [(1, 0)]);
    scene.pass(MOMENT);
    scene.came(1, 0);
    let (blocks, mut haves) = scene.plan();
    haves.sort();
    assert_eq!((blocks, haves), (vec![], vec![]), "both were asked ahead already");
    scene.has(1, 1);
    scene.has(1, 2);
    assert_eq!(scene.plan().0, [(1, 1), (1, 2)]);
    scene.lacks(1, 1);
    assert_eq!(scene.plan().0, [], "nobody has it");
    scene.has(0, 1);
    assert_eq!(scene.plan().0, [(0, 1)], "until somebody says so");
}

#[test]
fn wants_of_a_peer_that_left_are_asked_of_another() {
    let mut scene = Scene::new(2, 4);
    scene.plan();
    scene.pass(MOMENT);
    scene.came(0, 0);
    scene.plan();
    scene.has(1, 2);
    let gone = scene.peers[0];
    scene.session.left(&gone);
    scene.pass(MOMENT);
    assert_eq!(scene.plan(), (vec![(1, 2)], vec![]));
}

#[test]
fn a_silent_peer_is_given_up_for_another_and_asked_again_where_there_is_none() {
    let mut scene = Scene::new(2, 2);
    scene.plan();
    scene.has(1, 0);
    scene.pass(STALL);
    assert_eq!(scene.plan().0, [(1, 0)]);
    let mut alone = Scene::new(1, 1);
    assert_eq!(alone.plan().0, [(0, 0)]);
    alone.pass(STALL);
    assert_eq!(alone.plan().0, [(0, 0)]);
}

#[test]
fn a_slow_peer_that_is_heard_is_not_given_up() {
    let mut scene = Scene::new(1, 1);
    scene.plan();
    for _ in 0..14 {
        scene.pass(Duration::from_secs(2));
        scene.heard.insert(scene.peers[0], scene.now);
        assert_eq!(scene.plan().0, []);
    }
    scene.pass(Duration::from_secs(2));
    scene.heard.insert(scene.peers[0], scene.now);
    assert_eq!(scene.plan().0, [(0, 0)], "but this block it seems to have forgotten");
}

#[test]
fn what_the_reader_waits_for_is_asked_of_a_second_peer_where_the_first_is_slow() {
    let mut scene = Scene::new(2, 3);
    scene.plan();
    scene.pass(MOMENT);
    scene.came(0, 0);
    assert_eq!(numbers(&scene.plan().0), [1, 2]);
    scene.has(1, 1);
    scene.pass(RESCUE_AFTER);
    scene.heard.insert(scene.peers[0], scene.now);
    assert_eq!(scene.plan().0, [(1, 1)]);
    scene.pass(RESCUE_AFTER);
    scene.heard.insert(scene.peers[0], scene.now);
    assert_eq!(scene.plan().0, [], "and of no third");
    assert!(scene.came(1, 1));
    assert!(!scene.came(0, 1), "the second copy is no news");
}

#[test]
fn a_peer_that_has_all_is_spared_what_one_with_parts_has_by_now() {
    let mut scene = Scene::new(2, 10);
    scene.plan();
    scene.pass(MOMENT);
    scene.came(0, 0);
    assert_eq!(numbers(&scene.plan().0), (1..10).collect::<Vec<_>>());
    scene.has(1, 1);
    scene.has(1, 5);
    assert_eq!(scene.plan().0, [(1, 5)], "the front stays where it is");
    assert_eq!(scene.cancelled, [(0, 5)]);
    scene.lacks(1, 5);
    assert_eq!(scene.plan().0, [(0, 5)], "and comes back where it was an error");
}

#[test]
fn what_is_preferred_goes_before_all_others() {
    let mut scene = Scene::new(1, 50);
    scene.plan();
    scene.pass(MOMENT);
    scene.came(0, 0);
    scene.session.prefer(&cid(40));
    assert_eq!(numbers(&scene.plan().0)[..2], [40, 1]);
}

#[test]
fn what_is_no_longer_wanted_makes_room() {
    let mut scene = Scene::new(1, 40);
    scene.plan();
    scene.pass(MOMENT);
    scene.came(0, 0);
    assert_eq!(numbers(&scene.plan().0), (1..18).collect::<Vec<_>>());
    assert_eq!(scene.session.told(&cid(2)), HashSet::from([scene.peers[0]]));
    scene.session.unwant(&[cid(1), cid(2), cid(39)]);
    assert_eq!(numbers(&scene.plan().0), [18, 19]);
    assert!(!scene.came(0, 39));
}

#[test]
fn no_peer_is_sent_more_wants_than_it_keeps() {
    let mut scene = Scene::new(1, 100);
    scene.plan();
    scene.pass(MOMENT);
    scene.came(0, 0);
    scene.room = 2;
    assert_eq!(numbers(&scene.plan().0), [1, 2]);
}

#[test]
fn a_peer_of_an_old_version_is_asked_for_blocks_only() {
    let mut scene = Scene::new(0, 3);
    scene.peers.push(PeerId::random());
    scene.session.joined(scene.peers[0], 0, false);
    assert_eq!(scene.plan(), (vec![(0, 0)], vec![]));
    scene.pass(MOMENT);
    scene.came(0, 0);
    assert_eq!(scene.plan(), (vec![(0, 1), (0, 2)], vec![]));
}

#[test]
fn peers_that_pull_the_same_at_once_ask_in_different_orders_but_for_the_front() {
    let order = || {
        let mut scene = Scene::new(2, 200);
        scene.plan();
        scene.pass(MOMENT);
        scene.came(0, 0);
        scene.has(1, 0);
        scene.has(1, 199);
        let asked = numbers(&scene.plan().0);
        assert_eq!(asked[..FRONT], [1, 2]);
        asked
    };
    assert_ne!(order(), order(), "two of two hundred in an order of their own");
}

/// Peers that are looked at in the plans of a second, while so many connected peers have nothing of what two others send.
fn looks(peers: usize) -> usize {
    let mut scene = Scene::new(peers, 600);
    for n in 0..peers {
        match n {
            0 | 1 => scene.session.presume(&scene.peers[n]),
            _ => scene.lacks(n, 599),
        }
    }
    for _ in 0..2 * peers / 64 {
        scene.heard.extend(scene.peers[..2].iter().map(|peer| (*peer, scene.now)));
        scene.plan();
        scene.pass(MOMENT);
    }
    scene.session.sources.looks.set(0);
    for n in 0..20 {
        scene.came(n as usize % 2, n);
        scene.plan();
        scene.pass(MOMENT);
    }
    scene.session.sources.looks.get()
}

#[test]
fn a_plan_looks_at_no_more_peers_where_a_thousand_others_are_connected() {
    let (few, many) = (looks(100), looks(1000));
    assert!(many <= few + few / 2, "{few} peers looked at of 100, {many} of 1,000");
}
