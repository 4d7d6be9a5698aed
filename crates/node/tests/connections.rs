//! Connection limits of a node, and who connects when strangers hold all slots.

mod stores;

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use libp2p::{
    PeerId, Swarm,
    multiaddr::Protocol,
    noise,
    swarm::{
        SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
        dummy,
    },
    tcp, yamux,
};
use multihash_codetable::{Code, MultihashDigest};
use ocipfs_node::{Cid, FetchError, IpnsName, Limits, Multiaddr, Node, Options};
use stores::Memory;
use tokio::{sync::watch, task::JoinHandle};

const SOON: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);

/// Starts a node that has one block of its own.
async fn start(dir: &Path, limits: Limits, peers: Vec<Multiaddr>) -> (Node, Cid) {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    let data = Bytes::from(dir.display().to_string());
    let cid = Cid::new_v1(0x55, Code::Sha2_256.digest(&data));
    let store = Memory::from_iter([(cid, data)]);
    let options = Options { listen, limits, peers, ..Options::new(dir) };
    (Node::start(options, Arc::new(store)).await.unwrap(), cid)
}

async fn address(node: &Node) -> Multiaddr {
    node.listen_addresses().await.swap_remove(0)
}

async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("still waiting: {what}"))
}

async fn until(what: &str, holds: impl FnMut() -> bool) {
    within(SOON, what, holds).await;
}

async fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| panic!("still waiting: {what}"));
}

fn has(node: &Node, peer: PeerId) -> bool {
    node.peers().iter().any(|known| known.id == peer)
}

/// Returns whether a peer is connected and identified.
fn is_identified(node: &Node, peer: PeerId) -> bool {
    node.peers().iter().any(|known| known.id == peer && known.agent.is_some())
}

/// A peer that holds connections and sends nothing.
struct Stranger {
    id: PeerId,
    open: watch::Receiver<usize>,
    running: JoinHandle<()>,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Stranger {
    /// Opens many connections at once, and waits for their outcome.
    async fn dial(node: &Multiaddr, connections: usize) -> Self {
        let mut swarm = swarm();
        let id = *swarm.local_peer_id();
        let Some(Protocol::P2p(peer)) = node.iter().last() else { panic!("an address with a peer id") };
        for _ in 0..connections {
            let dial = DialOpts::peer_id(peer).condition(PeerCondition::Always);
            swarm.dial(dial.addresses(vec![node.clone()]).build()).unwrap();
        }
        let (count, open) = watch::channel(0);
        let (mut left, (done, mut all)) = (connections, watch::channel(false));
        let running = tokio::spawn(async move {
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::ConnectionEstablished { .. } => count.send_modify(|open| *open += 1),
                    SwarmEvent::ConnectionClosed { .. } => {
                        count.send_modify(|open| *open -= 1);
                        continue;
                    }
                    SwarmEvent::OutgoingConnectionError { .. } => {}
                    _ => continue,
                }
                left -= 1;
                done.send_replace(left == 0);
            }
        });
        soon("all dials end", all.wait_for(|all| *all)).await.unwrap();
        Self { id, open, running }
    }

    /// Opens a connection, and waits until the node has admitted it, before the next one can overtake it.
    async fn enter(node: &Node, at: &Multiaddr) -> Self {
        let stranger = Self::dial(at, 1).await;
        until("a stranger is admitted", || has(node, stranger.id)).await;
        stranger
    }

    fn open(&self) -> usize {
        *self.open.borrow()
    }
}

fn swarm() -> Swarm<dummy::Behaviour> {
    libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| dummy::Behaviour)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build()
}

/// Fetches a block from the peers that have it. A search may end before they have opened their Bitswap streams, and is repeated
/// then.
async fn fetches(node: &Node, cid: Cid) {
    let fetching = async {
        loop {
            let fetched = node.block_fetcher(cid).fetch_root(PATIENCE).await;
            if !matches!(fetched, Err(FetchError::NotFound { .. })) {
                return fetched;
            }
        }
    };
    let fetched = soon("a block", fetching).await;
    assert_eq!(fetched.unwrap().block.cid, cid);
}

/// A node full of strangers, its configured router, and a provider that only the router knows.
async fn pulls_through(limits: Limits, strangers: usize, connections: usize) {
    let dirs = [(); 5].map(|()| tempfile::tempdir().unwrap());
    let (router, routed) = start(dirs[0].path(), Limits::default(), vec![]).await;
    let (late, _) = start(dirs[1].path(), Limits::default(), vec![]).await;
    let configured = vec![address(&router).await, address(&late).await];
    late.shutdown().await;
    drop(late);
    let (provider, provided) = start(dirs[2].path(), Limits::default(), vec![]).await;
    provider.connect(&configured[0]).await.unwrap();
    provider.announce([provided]);
    until("it is announced", || provider.announcing().announced == 1).await;

    let (node, _) = start(dirs[3].path(), limits, configured).await;
    let to = address(&node).await;
    until("the router is connected", || has(&node, router.peer_id())).await;
    let mut all = Vec::new();
    for _ in 0..strangers {
        all.push(Stranger::dial(&to, connections).await);
    }
    let open = || all.iter().map(Stranger::open).sum::<usize>();
    until("those above the limit are closed", || open() <= limits.inbound).await;
    assert!(open() + 8 >= limits.inbound, "strangers hold {} connections", open());

    fetches(&node, routed).await;
    fetches(&node, provided).await;
    assert!(has(&node, provider.peer_id()), "it was dialled");
    // A configured peer, which connects by itself.
    let (late, _) = start(dirs[1].path(), Limits::default(), vec![]).await;
    late.connect(&to).await.unwrap();
    until("a configured peer gets in", || is_identified(&node, late.peer_id())).await;
    let (other, _) = start(dirs[4].path(), Limits::default(), vec![]).await;
    node.connect(&address(&other).await).await.unwrap();
    until("a peer that a user asks for is connected", || is_identified(&node, other.peer_id())).await;
    for node in [router, late, provider, node, other] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_peers_and_providers_connect_although_64_peers_hold_all_connection_slots() {
    pulls_through(Limits::default(), 64, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_peers_and_providers_connect_although_busy_strangers_hold_all_connection_slots() {
    let limits = Limits { connections: 24, inbound: 16, idle: HOUR, settled: HOUR, ..Limits::default() };
    pulls_through(limits, 32, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_node_closes_an_idle_connection_for_a_new_peer() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        connections: 6,
        inbound: 4,
        idle: Duration::ZERO,
        settled: Duration::ZERO,
        ..Limits::default()
    };
    let (node, _) = start(dir.path(), limits, vec![]).await;
    let to = address(&node).await;
    let mut all = Vec::new();
    for _ in 0..12 {
        all.push(Stranger::enter(&node, &to).await);
    }
    until("the first gave way", || all[..8].iter().all(|stranger| stranger.open() == 0)).await;
    assert!(all[8..].iter().all(|stranger| stranger.open() == 1));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_from_one_address_are_bounded() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let limits = Limits { per_network: 3, count_private: true, ..Limits::default() };
    let (node, _) = start(dirs[0].path(), limits, vec![]).await;
    let to = address(&node).await;
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(Stranger::enter(&node, &to).await);
    }
    for _ in 0..3 {
        all.push(Stranger::dial(&to, 1).await);
    }
    until("those above the limit are closed", || all[3..].iter().all(|stranger| stranger.open() == 0)).await;
    assert!(all[..3].iter().all(|stranger| stranger.open() == 1));
    // Peers that the node dials itself are not limited.
    let (other, _) = start(dirs[1].path(), Limits::default(), vec![]).await;
    node.connect(&address(&other).await).await.unwrap();
    for node in [node, other] {
        node.shutdown().await;
    }
}

/// Waits until all followers have a value of a name.
async fn all_hear(followers: &[Node], name: &IpnsName, value: &str, deadline: Duration) {
    let knows = |follower: &&Node| follower.followed_record(name).is_some_and(|head| head.value == value);
    let all = async {
        while !followers.iter().all(|follower| knows(&follower)) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let heard = tokio::time::timeout(deadline, all).await;
    let count = followers.iter().filter(knows).count();
    assert!(heard.is_ok(), "{count} of {} followers heard of {value}", followers.len());
}

/// The followers know only the publisher, which has slots for a third of them. The others learn of more peers in a
/// temporary slot, and receive each record from them.
#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_reaches_three_times_as_many_followers_as_it_has_connections() {
    const FOLLOWERS: usize = 60;
    const TTL: Duration = Duration::from_secs(60);
    // Within a minute or two, and much later on a busy machine.
    const INTRODUCED: Duration = Duration::from_secs(600);
    // Well before the followers poll, every five minutes.
    const HEARD: Duration = Duration::from_secs(180);
    let value = |n: usize| format!("/ipfs/bafybeiat5rs4tk3kvllj4uu5zr652qnp7kxc4ttewhc5md23gxflqqp7lu/{n}");
    let dirs: Vec<_> = (0..FOLLOWERS + 2).map(|_| tempfile::tempdir().unwrap()).collect();
    let limits = Limits { connections: 20, inbound: 16, ..Limits::default() };
    let (publisher, _) = start(dirs[0].path(), limits, vec![]).await;
    let (name, to) = (IpnsName::of(publisher.own_key()), address(&publisher).await);
    publisher.publish(publisher.own_key(), &value(0), TTL).await.unwrap();
    let follow = async |dir: &Path| {
        let (follower, _) = start(dir, limits, vec![to.clone()]).await;
        follower.follow(name).await.unwrap();
        follower
    };
    let mut followers = Vec::new();
    for dir in &dirs[1..=FOLLOWERS] {
        followers.push(follow(dir.path()).await);
    }
    all_hear(&followers, &name, &value(0), INTRODUCED).await;
    for n in 1..3 {
        // As the publisher counts: a follower that it refuses believes to be connected until it hears of the refusal.
        let apart = followers.iter().filter(|follower| !has(&publisher, follower.peer_id())).count();
        assert!(apart >= FOLLOWERS / 2, "{apart} have no connection to the publisher");
        publisher.publish(publisher.own_key(), &value(n), TTL).await.unwrap();
        all_hear(&followers, &name, &value(n), HEARD).await;
    }
    followers.push(follow(dirs[FOLLOWERS + 1].path()).await);
    all_hear(&followers, &name, &value(2), INTRODUCED).await;
    let late = &followers[FOLLOWERS];
    within(INTRODUCED, "a late follower is introduced to others", || late.peers().len() > 1).await;
    until("the limit holds", || publisher.peers().len() <= limits.connections).await;
    // All at once, or each remaining node would dial others to replace those that are gone.
    followers.push(publisher);
    futures::future::join_all(followers.iter().map(Node::shutdown)).await;
}
