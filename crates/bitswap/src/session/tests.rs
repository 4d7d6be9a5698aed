mod crowds;
mod moving;

use libp2p::multihash::Multihash;

use super::*;

const MIB: u64 = 1 << 20;

fn cid(n: u32) -> Cid {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&n.to_be_bytes());
    Cid::new_v1(0x55, Multihash::wrap(0x12, &hash).unwrap())
}

/// (peer, block) by number.
type Numbered = Vec<(usize, u32)>;

/// A session, its peers, and a clock that the test advances.
struct Scene {
    session: Session,
    now: Instant,
    peers: Vec<PeerId>,
    heard: HashMap<PeerId, Instant>,
    free_wants: usize,
    cancelled: Vec<(usize, u32)>,
}

impl Scene {
    /// Wants `leaves` blocks of 1 MiB from `peers` connected peers.
    fn new(peers: usize, leaves: u32) -> Self {
        let peers: Vec<PeerId> = (0..peers).map(|_| PeerId::random()).collect();
        let mut session = Session::default();
        session.want((0..leaves).map(|n| WantedBlock::new(cid(n), MIB)));
        for (rank, peer) in peers.iter().enumerate() {
            session.add_peer(*peer, rank as u64, true);
        }
        Self {
            session,
            now: Instant::now(),
            peers,
            heard: HashMap::new(),
            free_wants: 1000,
            cancelled: Vec::new(),
        }
    }

    /// Returns the requests of one plan: (peer, block) and (peer, presence) by number.
    fn plan(&mut self) -> (Numbered, Numbered) {
        let (heard, free_wants) = (self.heard.clone(), self.free_wants);
        let peer_state = |peer: &PeerId| PeerState { last_activity: heard.get(peer).copied(), free_wants };
        let (mut blocks, mut haves) = (Vec::new(), Vec::new());
        for request in self.session.plan(self.now, &peer_state) {
            let (list, peer, cid) = match request {
                Request::Block { peer, cid, .. } => (&mut blocks, peer, cid),
                Request::Have { peer, cid } => (&mut haves, peer, cid),
                Request::Cancel { peer, cid } => (&mut self.cancelled, peer, cid),
            };
            let index = self.peers.iter().position(|known| *known == peer).unwrap();
            list.push((index, u32::from_be_bytes(cid.hash().digest()[..4].try_into().unwrap())));
        }
        (blocks, haves)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn on_block(&mut self, peer: usize, n: u32) -> bool {
        self.heard.insert(self.peers[peer], self.now);
        self.session.on_block(&self.peers[peer], &cid(n), MIB, self.now)
    }

    fn on_have(&mut self, peer: usize, n: u32) {
        self.session.on_have(&self.peers[peer], &cid(n));
    }

    fn on_dont_have(&mut self, peer: usize, n: u32) {
        self.session.on_dont_have(&self.peers[peer], &cid(n));
    }
}

fn numbers(requests: &[(usize, u32)]) -> Vec<u32> {
    requests.iter().map(|(_, n)| *n).collect()
}

const MOMENT: Duration = Duration::from_millis(50);

#[test]
fn a_single_peer_is_asked_for_the_first_block_and_then_for_a_window_in_order() {
    let mut scene = Scene::new(1, 100);
    assert_eq!(scene.plan().0, [(0, 0)], "nothing is known of it yet");
    scene.pass(MOMENT);
    assert!(scene.on_block(0, 0));
    assert_eq!(
        numbers(&scene.plan().0),
        (1..18).collect::<Vec<_>>(),
        "sixteen MiB, and one that came quickly"
    );
    assert_eq!(scene.plan().0, [], "the window is full");
}

#[test]
fn a_peer_presumed_complete_is_asked_for_a_window_until_it_sends_dont_have() {
    let mut scene = Scene::new(2, 40);
    scene.session.presume_complete(&scene.peers[1]);
    let (blocks, _) = scene.plan();
    assert!(blocks.len() > 10 && blocks.iter().all(|(peer, _)| *peer == 1), "{blocks:?}");
    scene.on_dont_have(1, 0);
    scene.on_have(0, 0);
    assert_eq!(scene.plan().0, [(0, 0)]);
}

#[test]
fn the_window_grows_while_blocks_arrive_quickly_up_to_its_maximum() {
    let mut scene = Scene::new(1, 10_000);
    let mut in_flight: Vec<u32> = numbers(&scene.plan().0);
    for _ in 0..7 {
        scene.pass(MOMENT);
        for n in std::mem::take(&mut in_flight) {
            scene.on_block(0, n);
        }
        in_flight = numbers(&scene.plan().0);
    }
    assert_eq!(in_flight.len(), 32);
}

#[test]
fn of_many_unproven_peers_the_best_gets_want_block_and_the_others_want_have() {
    let mut scene = Scene::new(5, 10);
    let (blocks, mut haves) = scene.plan();
    haves.retain(|(_, n)| *n == 0);
    haves.sort();
    assert_eq!(blocks, [(0, 0)]);
    assert_eq!(haves, [(1, 0), (2, 0), (3, 0), (4, 0)]);
    // A root of unknown length counts as small.
    let mut scene = Scene::new(5, 0);
    scene.session.want([WantedBlock::new(cid(0), 0)]);
    assert_eq!(scene.plan().0, [(0, 0), (1, 0), (2, 0)]);
}

#[test]
fn a_partial_peer_is_asked_before_a_complete_one() {
    let mut scene = Scene::new(2, 3);
    scene.plan();
    scene.pass(MOMENT);
    scene.on_block(0, 0);
    scene.on_have(1, 2);
    let (mut blocks, haves) = scene.plan();
    blocks.sort();
    assert_eq!(blocks, [(0, 1), (1, 2)]);
    assert_eq!(haves, [], "it was asked ahead already");
}

#[test]
fn a_presence_requested_by_another_session_is_ignored() {
    let mut scene = Scene::new(2, 3);
    scene.plan();
    let peer = scene.peers[1];
    assert!(!scene.session.on_have(&peer, &cid(77)) && !scene.session.on_dont_have(&peer, &cid(78)));
    assert_eq!(scene.session.peers.get(&peer).unwrap().availability, Availability::Unknown);
    scene.pass(MOMENT);
    scene.on_block(0, 0);
    assert!(
        scene.session.on_have(&peer, &cid(0)),
        "its answer to the first question counts however late it is"
    );
    assert_eq!(scene.session.peers.get(&peer).unwrap().availability, Availability::Partial);
}

#[test]
fn a_peer_that_lacks_only_what_is_fetched_ahead_still_counts_as_complete() {
    for is_ahead in [true, false] {
        let mut scene = Scene::new(1, 2);
        scene.plan();
        scene.pass(MOMENT);
        scene.on_block(0, 0);
        let availability = |scene: &Scene| scene.session.peers.get(&scene.peers[0]).unwrap().availability;
        assert_eq!(availability(&scene), Availability::Complete);
        scene.session.want([WantedBlock { is_ahead: true, ..WantedBlock::new(cid(9), 0) }]);
        if !is_ahead {
            // It is needed by now.
            scene.session.want([WantedBlock::new(cid(9), 0)]);
        }
        scene.plan();
        scene.on_dont_have(0, 9);
        let expected = if is_ahead { Availability::Complete } else { Availability::Partial };
        assert_eq!(availability(&scene), expected);
    }
}

#[test]
fn what_is_needed_comes_before_what_is_fetched_ahead() {
    let mut scene = Scene::new(1, 1);
    scene.plan();
    scene.pass(MOMENT);
    scene.on_block(0, 0);
    let ahead = |n| WantedBlock { is_ahead: true, ..WantedBlock::new(cid(n), 0) };
    scene.session.want([ahead(7), ahead(8)]);
    assert_eq!(scene.plan().0, [(0, 7), (0, 8)]);
    scene.session.want([WantedBlock::new(cid(9), MIB)]);
    let now = scene.now;
    let state = |_: &PeerId| PeerState { last_activity: Some(now), free_wants: 9 };
    let urgent = |requests: Vec<Request>| -> Vec<(Cid, bool)> {
        let of = |request| match request {
            Request::Block { cid, urgent, .. } => Some((cid, urgent)),
            _ => None,
        };
        requests.into_iter().filter_map(of).collect()
    };
    assert_eq!(urgent(scene.session.plan(now, &state)), [(cid(9), true)], "though it was wanted last");
    let order = |scene: &Scene, n| scene.session.wants[&cid(n)].order;
    assert!(order(&scene, 9) < order(&scene, 7));
    scene.session.want([WantedBlock::new(cid(8), 0), ahead(9)]);
    assert!(
        order(&scene, 9) < order(&scene, 8) && order(&scene, 8) < order(&scene, 7),
        "it is needed by now"
    );
}

#[test]
fn a_block_that_a_peer_lacks_is_requested_from_another() {
    let mut scene = Scene::new(2, 3);
    scene.plan();
    scene.on_dont_have(0, 0);
    scene.on_have(1, 0);
    assert_eq!(scene.plan().0, [(1, 0)]);
    scene.pass(MOMENT);
    scene.on_block(1, 0);
    let (blocks, mut haves) = scene.plan();
    haves.sort();
    assert_eq!((blocks, haves), (vec![], vec![]), "both were asked ahead already");
    scene.on_have(1, 1);
    scene.on_have(1, 2);
    assert_eq!(scene.plan().0, [(1, 1), (1, 2)]);
    scene.on_dont_have(1, 1);
    assert_eq!(scene.plan().0, [], "no peer has it");
    scene.on_have(0, 1);
    assert_eq!(scene.plan().0, [(0, 1)], "until a peer sends HAVE");
}

#[test]
fn requests_of_a_disconnected_peer_are_sent_to_another() {
    let mut scene = Scene::new(2, 4);
    scene.plan();
    scene.pass(MOMENT);
    scene.on_block(0, 0);
    scene.plan();
    scene.on_have(1, 2);
    let gone = scene.peers[0];
    scene.session.remove_peer(&gone);
    scene.pass(MOMENT);
    assert_eq!(scene.plan(), (vec![(1, 2)], vec![]));
}

#[test]
fn requests_of_a_silent_peer_move_to_another_or_are_repeated() {
    let mut scene = Scene::new(2, 2);
    scene.plan();
    scene.on_have(1, 0);
    scene.pass(STALL_TIMEOUT);
    assert_eq!(scene.plan().0, [(1, 0)]);
    let mut alone = Scene::new(1, 1);
    assert_eq!(alone.plan().0, [(0, 0)]);
    alone.pass(STALL_TIMEOUT);
    assert_eq!(alone.plan().0, [(0, 0)]);
}

#[test]
fn requests_stay_with_a_slow_but_active_peer() {
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
fn an_urgent_block_is_hedged_with_a_second_peer_if_the_first_is_slow() {
    let mut scene = Scene::new(2, 3);
    scene.plan();
    scene.pass(MOMENT);
    scene.on_block(0, 0);
    assert_eq!(numbers(&scene.plan().0), [1, 2]);
    scene.on_have(1, 1);
    scene.pass(HEDGE_DELAY);
    scene.heard.insert(scene.peers[0], scene.now);
    assert_eq!(scene.plan().0, [(1, 1)]);
    scene.pass(HEDGE_DELAY);
    scene.heard.insert(scene.peers[0], scene.now);
    assert_eq!(scene.plan().0, [], "and of no third");
    assert!(scene.on_block(1, 1));
    assert!(!scene.on_block(0, 1), "the second copy is not wanted");
}

#[test]
fn a_preferred_want_has_the_highest_priority() {
    let mut scene = Scene::new(1, 50);
    scene.plan();
    scene.pass(MOMENT);
    scene.on_block(0, 0);
    scene.session.prefer(&cid(40));
    assert_eq!(numbers(&scene.plan().0)[..2], [40, 1]);
}

#[test]
fn cancelled_wants_free_the_window() {
    let mut scene = Scene::new(1, 40);
    scene.plan();
    scene.pass(MOMENT);
    scene.on_block(0, 0);
    assert_eq!(numbers(&scene.plan().0), (1..18).collect::<Vec<_>>());
    assert_eq!(scene.session.notified_peers(&cid(2)), HashSet::from([scene.peers[0]]));
    scene.session.unwant(&[cid(1), cid(2), cid(39)]);
    assert_eq!(numbers(&scene.plan().0), [18, 19]);
    assert!(!scene.on_block(0, 39));
}

#[test]
fn no_peer_is_sent_more_wants_than_its_limit() {
    let mut scene = Scene::new(1, 100);
    scene.plan();
    scene.pass(MOMENT);
    scene.on_block(0, 0);
    scene.free_wants = 2;
    assert_eq!(numbers(&scene.plan().0), [1, 2]);
}

#[test]
fn a_peer_without_presences_is_asked_for_blocks_only() {
    let mut scene = Scene::new(0, 3);
    scene.peers.push(PeerId::random());
    scene.session.add_peer(scene.peers[0], 0, false);
    assert_eq!(scene.plan(), (vec![(0, 0)], vec![]));
    scene.pass(MOMENT);
    scene.on_block(0, 0);
    assert_eq!(scene.plan(), (vec![(0, 1), (0, 2)], vec![]));
}

#[test]
fn concurrent_downloaders_request_blocks_in_different_orders_except_the_first_ones() {
    let order = || {
        let mut scene = Scene::new(2, 200);
        scene.plan();
        scene.pass(MOMENT);
        scene.on_block(0, 0);
        scene.on_have(1, 0);
        scene.on_have(1, 199);
        let asked = numbers(&scene.plan().0);
        assert_eq!(asked[..ORDERED_WANTS], [1, 2]);
        asked
    };
    assert_ne!(order(), order(), "two of two hundred in an order of their own");
}

/// Returns how many peers are scanned in the plans of a second, where two peers send and the others have nothing.
fn looks(peers: usize) -> usize {
    let mut scene = Scene::new(peers, 600);
    for n in 0..peers {
        match n {
            0 | 1 => scene.session.presume_complete(&scene.peers[n]),
            _ => scene.on_dont_have(n, 599),
        }
    }
    for _ in 0..2 * peers / 64 {
        scene.heard.extend(scene.peers[..2].iter().map(|peer| (*peer, scene.now)));
        scene.plan();
        scene.pass(MOMENT);
    }
    scene.session.peers.looks.set(0);
    for n in 0..20 {
        scene.on_block(n as usize % 2, n);
        scene.plan();
        scene.pass(MOMENT);
    }
    scene.session.peers.looks.get()
}

#[test]
fn the_cost_of_a_plan_does_not_grow_with_idle_peers() {
    let (few, many) = (looks(100), looks(1000));
    assert!(many <= few + few / 2, "{few} peers looked at of 100, {many} of 1,000");
}
