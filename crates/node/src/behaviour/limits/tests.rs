use libp2p::core::{Endpoint, transport::PortUse};

use super::*;

const LIMITS: Limits = Limits {
    connections: 8,
    inbound: 6,
    per_network: 3,
    count_private: false,
    idle: Duration::ZERO,
    settled: Duration::ZERO,
    temporary: Duration::from_secs(3600),
};

struct Table {
    connections: Connections,
    next: usize,
    wanted: Vec<PeerId>,
    last_activity: HashMap<ConnectionId, Instant>,
}

impl Table {
    fn new(limits: Limits) -> Self {
        Self {
            connections: Connections::new(limits),
            next: 0,
            wanted: Vec::new(),
            last_activity: HashMap::new(),
        }
    }

    /// Opens a connection if it is admitted. Returns the peer whose connection was closed for it.
    fn open(&mut self, peer: PeerId, address: &str, inbound: bool) -> Result<Option<PeerId>, LimitError> {
        let address: Multiaddr = address.parse().unwrap();
        let new = NewConnection { address: &address, inbound, wanted: self.wanted.contains(&peer) };
        let last_activity = |id: &ConnectionId| self.last_activity.get(id).copied();
        let closed = self.connections.admit(&new, |peer| self.wanted.contains(peer), last_activity)?;
        self.next += 1;
        let endpoint = match inbound {
            true => ConnectedPoint::Listener { local_addr: Multiaddr::empty(), send_back_addr: address },
            false => {
                ConnectedPoint::Dialer { address, role_override: Endpoint::Dialer, port_use: PortUse::Reuse }
            }
        };
        self.connections.opened(ConnectionId::new_unchecked(self.next), peer, &endpoint, Route::Direct);
        Ok(closed.map(|(peer, _)| peer))
    }

    fn fill(&mut self, count: usize, inbound: bool) -> Vec<PeerId> {
        let peers: Vec<_> = (0..count).map(|_| PeerId::random()).collect();
        for peer in &peers {
            assert!(matches!(self.open(*peer, "/ip4/127.0.0.1/tcp/1", inbound), Ok(None)));
        }
        peers
    }
}

fn public(n: u8) -> String {
    format!("/ip4/203.0.113.{n}/tcp/1")
}

#[test]
fn inbound_connections_leave_slots_for_outbound_ones() {
    let busy = Limits { settled: Duration::from_secs(3600), ..LIMITS };
    let mut table = Table::new(busy);
    table.fill(6, true);
    assert!(matches!(table.open(PeerId::random(), &public(1), true), Err(LimitError::Full(6))));
    table.fill(2, false);
    assert!(matches!(table.open(PeerId::random(), &public(1), false), Err(LimitError::Full(8))));
    // A wanted peer is neither refused nor counted.
    table.wanted.push(PeerId::random());
    assert!(matches!(table.open(table.wanted[0], &public(1), true), Ok(None)));
    assert!(matches!(table.open(table.wanted[0], &public(1), false), Ok(None)));
}

#[test]
fn connections_from_one_public_network_are_bounded_and_private_ones_are_not() {
    let mut table = Table::new(LIMITS);
    for _ in 0..3 {
        assert!(table.open(PeerId::random(), &public(1), true).is_ok());
    }
    assert!(matches!(table.open(PeerId::random(), &public(1), true), Err(LimitError::Network(3))));
    assert!(table.open(PeerId::random(), &public(2), true).is_ok());
    assert!(
        table.open(PeerId::random(), &public(1), false).is_ok(),
        "what this node dials is not bounded so"
    );
    let mut table = Table::new(LIMITS);
    for n in 0..3 {
        assert!(table.open(PeerId::random(), &format!("/ip6/2001:db8::{n}/tcp/1"), true).is_ok());
    }
    let other_half = ["/ip6/2001:db8::ffff:1/tcp/1", "/ip6/2001:db8:0:1::1/tcp/1"];
    let admitted = other_half.map(|address| table.open(PeerId::random(), address, true).is_ok());
    assert_eq!(admitted, [false, true], "a /64 is one network");
    let mut table = Table::new(Limits { count_private: true, ..LIMITS });
    table.fill(3, true);
    assert!(matches!(
        table.open(PeerId::random(), "/ip4/127.0.0.1/tcp/2", true),
        Err(LimitError::Network(3))
    ));
}

#[test]
fn handshakes_of_one_network_are_bounded() {
    let mut connections = Connections::new(LIMITS);
    let [one, other] = [1, 2].map(|n| public(n).parse::<Multiaddr>().unwrap());
    let id = ConnectionId::new_unchecked;
    assert!((0..MAX_PENDING_PER_NETWORK).all(|n| connections.begin(id(n), &one).is_ok()));
    assert!(connections.begin(id(100), &one).is_err() && connections.begin(id(101), &other).is_ok());
    connections.end(&id(0));
    assert!(connections.begin(id(102), &one).is_ok());
}

#[test]
fn a_peers_second_connection_is_closed_first() {
    let mut table = Table::new(Limits { settled: Duration::from_secs(3600), ..LIMITS });
    table.fill(4, true);
    let greedy = PeerId::random();
    for _ in 0..2 {
        assert!(matches!(table.open(greedy, "/ip4/127.0.0.1/tcp/1", true), Ok(None)));
    }
    assert_eq!(table.open(PeerId::random(), &public(1), true).unwrap(), Some(greedy));
    assert!(table.open(PeerId::random(), &public(1), true).is_err(), "its last one stays");
}

#[test]
fn connections_of_the_most_crowded_network_are_closed_first_then_the_longest_idle() {
    let mut table = Table::new(LIMITS);
    let peers: Vec<_> = (0..6).map(|_| PeerId::random()).collect();
    for (n, peer) in peers.iter().enumerate() {
        assert!(matches!(table.open(*peer, &public([1, 2, 3, 3, 4, 5][n]), true), Ok(None)));
    }
    let gone = table.open(PeerId::random(), &public(6), true).unwrap().unwrap();
    assert!(peers[2..4].contains(&gone));
    // The oldest connection was active last.
    table.last_activity.insert(ConnectionId::new_unchecked(1), Instant::now() + Duration::from_secs(9));
    assert_eq!(table.open(PeerId::random(), &public(7), true).unwrap(), Some(peers[1]));
}

#[test]
fn busy_and_new_connections_are_not_closed() {
    let hour = Duration::from_secs(3600);
    for limits in [Limits { idle: hour, ..LIMITS }, Limits { settled: hour, ..LIMITS }] {
        let mut table = Table::new(limits);
        table.fill(6, true);
        assert!(matches!(table.open(PeerId::random(), &public(1), true), Err(LimitError::Full(6))));
    }
}

#[test]
fn connections_of_wanted_peers_are_not_closed() {
    let mut table = Table::new(LIMITS);
    table.wanted = table.fill(6, true);
    assert!(matches!(table.open(PeerId::random(), &public(1), true), Err(LimitError::Full(6))));
}

#[test]
fn a_full_node_admits_a_new_peer_to_a_temporary_slot() {
    let hour = Duration::from_secs(3600);
    let mut table = Table::new(Limits { idle: hour, settled: hour, temporary: Duration::ZERO, ..LIMITS });
    let peers = table.fill(6, true);
    // The newest one is transferring blocks.
    table.last_activity.insert(ConnectionId::new_unchecked(6), Instant::now() + Duration::from_millis(1));
    let gone = [(); 4].map(|()| table.open(PeerId::random(), &public(1), true).unwrap().unwrap());
    assert!(gone.iter().all(|gone| !peers[..3].contains(gone) && *gone != peers[5]), "{gone:?} of {peers:?}");
    assert_eq!(table.connections.open.len(), 6);
}

#[test]
fn only_wanted_peers_are_dialled_beyond_half_of_the_connection_limit() {
    let busy = Limits { connections: 10, inbound: 8, settled: Duration::from_secs(3600), ..LIMITS };
    let mut table = Table::new(busy);
    table.fill(5, false);
    let may_dial = |table: &Table| table.connections.check_dial(|_| false, |_| None).is_ok();
    assert!(!may_dial(&table));
    assert!(table.open(PeerId::random(), &public(1), false).is_err());
    table.fill(5, true);
    assert!(matches!(table.open(PeerId::random(), &public(1), true), Err(LimitError::Full(10))));
    let mut table = Table::new(busy);
    table.fill(8, true);
    assert!(may_dial(&table), "places that inbound connections never take");
    table.fill(1, false);
    table.wanted.push(PeerId::random());
    assert!(matches!(table.open(table.wanted[0], &public(1), false), Ok(None)));
}

#[test]
fn idle_outbound_connections_are_closed_for_inbound_ones_within_their_limit() {
    let mut table = Table::new(LIMITS);
    table.wanted = table.fill(4, true);
    let dialled = PeerId::random();
    table.wanted.push(dialled);
    for _ in 0..4 {
        table.open(dialled, &public(1), false).unwrap();
    }
    table.wanted.pop();
    assert_eq!(table.open(PeerId::random(), &public(2), true).unwrap(), Some(dialled));
}
