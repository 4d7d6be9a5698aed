use super::*;

const NOW: u64 = 20_000 * DAY;

fn address(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

/// Reaches a new peer at an IPv4 address.
fn reach(peers: &mut RememberedPeers, ip: [u8; 4], now: u64) -> PeerId {
    let id = PeerId::random();
    peers.reached(id, &address(&format!("/ip4/{}/tcp/4001", IpAddr::from(ip))), now);
    id
}

fn knows(peers: &RememberedPeers, id: &PeerId) -> bool {
    peers.peers.contains_key(id)
}

#[test]
fn a_peer_is_remembered_where_it_was_reached_and_nowhere_else() {
    let mut public = RememberedPeers::new(true);
    for text in [
        "/ip4/127.0.0.1/tcp/1",
        "/ip4/10.0.0.1/tcp/1",
        "/dns4/example.org/tcp/1",
        "/ip4/203.0.113.1/tcp/1/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp/p2p-circuit",
    ] {
        public.reached(PeerId::random(), &address(text), NOW);
    }
    assert_eq!(public.len(), 0);
    let id = reach(&mut public, [203, 0, 113, 1], NOW);
    assert_eq!(public.addresses(), [address(&format!("/ip4/203.0.113.1/tcp/4001/p2p/{id}"))]);
    let mut private = RememberedPeers::new(false);
    reach(&mut private, [10, 0, 0, 1], NOW);
    assert_eq!(private.len(), 1);
}

#[test]
fn one_network_and_one_operator_have_few_places() {
    let mut peers = RememberedPeers::new(true);
    (0..100).for_each(|n| _ = reach(&mut peers, [203, 0, 113, n], NOW + u64::from(n)));
    assert_eq!(peers.len(), MAX_PER_NETWORK);
    (0..100).for_each(|n| _ = reach(&mut peers, [203, 0, n, 1], NOW + 100));
    assert!(peers.len() <= MAX_PER_OPERATOR, "{}", peers.len());
    let six = |n: u16| address(&format!("/ip6/2001:db8:1:{n:x}::1/tcp/4001"));
    let before = peers.len();
    (0..100).for_each(|n| peers.reached(PeerId::random(), &six(n), NOW));
    assert_eq!(peers.len(), before + MAX_PER_NETWORK);
    let mut own = RememberedPeers::new(false);
    (0..100).for_each(|n| _ = reach(&mut own, [10, 0, 0, n], NOW));
    assert_eq!(own.len(), 100, "members of a private network are all in one");
}

#[test]
fn a_flood_of_new_peers_does_not_replace_those_reached_on_several_days() {
    let mut peers = RememberedPeers::new(true);
    let old: Vec<_> = (0..200).map(|n| reach(&mut peers, [1, n, 0, 1], NOW)).collect();
    for (n, id) in old.iter().enumerate() {
        peers.reached(*id, &address(&format!("/ip4/1.{n}.0.1/tcp/4001")), NOW + DAY);
    }
    for (a, b) in (2..40).flat_map(|a| (0..100).map(move |b| (a, b))) {
        reach(&mut peers, [a, b, 0, 1], NOW + DAY + 1);
    }
    assert_eq!(peers.len(), MAX_PEERS);
    assert!(old.iter().all(|id| knows(&peers, id)));
    // Weeks later, without an answer from the old ones, newcomers take their places.
    for (a, b) in (50..70).flat_map(|a| (0..100).map(move |b| (a, b))) {
        reach(&mut peers, [a, b, 0, 1], NOW + 40 * DAY);
    }
    assert!(!old.iter().any(|id| knows(&peers, id)));
}

#[test]
fn a_peer_that_fails_again_and_again_is_forgotten() {
    let mut peers = RememberedPeers::new(true);
    let id = reach(&mut peers, [203, 0, 113, 1], NOW);
    for _ in 1..MAX_FAILURES {
        peers.failed(&id);
    }
    peers.reached(id, &address("/ip4/203.0.113.1/tcp/4001"), NOW);
    (1..MAX_FAILURES).for_each(|_| peers.failed(&id));
    assert!(knows(&peers, &id), "reached once in between");
    peers.failed(&id);
    assert!(!knows(&peers, &id));
}

#[test]
fn all_peers_are_dialled_once_the_dht_servers_among_the_first() {
    let mut peers = RememberedPeers::new(true);
    let all: Vec<_> = (0..100).map(|n| reach(&mut peers, [200, n, 0, 1], NOW)).collect();
    peers.serves_dht(&all[70]);
    let order: Vec<_> = peers.to_dial(NOW).into_iter().map(|(id, _)| id).collect();
    assert_eq!(order[0], all[70]);
    assert_eq!(order.len(), all.len());
    assert!(all.iter().all(|id| order.contains(id)));
}

#[test]
fn remembered_peers_are_restored_from_the_file_and_bad_ones_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let mut peers = load(&path, true);
    let now = seconds();
    let id = reach(&mut peers, [203, 0, 113, 1], now);
    let old = reach(&mut peers, [203, 0, 114, 1], now - MAX_AGE.as_secs() - 1);
    peers.peers.get_mut(&id).unwrap().addresses.push(address("/ip4/203.0.113.2/tcp/1"));
    save(&path, &mut peers).unwrap();
    let again = load(&path, true);
    assert!(knows(&again, &id) && !knows(&again, &old));
    assert_eq!(again.peers[&id].addresses.len(), 1, "an address without its peer ID");
    std::fs::write(&path, "not JSON").unwrap();
    assert_eq!(load(&path, true).len(), 0);
}
