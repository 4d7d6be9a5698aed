//! Nodes on loopback with in-memory stores.

mod stores;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use multihash_codetable::{Code, MultihashDigest};
use ocipfs_node::{Block, BlockFetcher, Cid, FetchError, Node, Options};
use stores::Memory;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(5);
/// Shorter than the stall after which a peer is asked again, and than a search that finds nothing.
const WITHOUT_STALL: Duration = Duration::from_secs(2);

impl Memory {
    fn put(&self, block: &Block) {
        self.blocks.lock().unwrap().insert(block.cid, block.data.clone());
    }
}

struct Peer {
    node: Node,
    store: Arc<Memory>,
    _dir: TempDir,
}

impl Peer {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        let store = Arc::new(Memory::default());
        let node = Node::start(Options { listen, ..Options::new(dir.path()) }, store.clone()).await.unwrap();
        Self { node, store, _dir: dir }
    }

    async fn connect(&self, other: &Self) {
        self.node.connect(&other.node.listen_addresses().await[0]).await.unwrap();
    }
}

fn block(n: u32, length: usize) -> Block {
    let mut data = vec![n as u8; length];
    data[..4].copy_from_slice(&n.to_be_bytes());
    Block { cid: Cid::new_v1(0x55, Code::Sha2_256.digest(&data)), data: data.into() }
}

async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, wait).await.expect("it takes too long")
}

/// Begins a session and fetches its root. A search may end before the peers have opened their Bitswap streams, and is repeated
/// then, in a new session: the one before may still get the root, and would deliver it twice.
async fn session_of(node: &Node, root: &Block) -> BlockFetcher {
    let fetching = async {
        loop {
            let mut session = node.block_fetcher(root.cid);
            let fetched = session.fetch_root(PATIENCE).await;
            if !matches!(fetched, Err(FetchError::NotFound { .. })) {
                assert_eq!(fetched.unwrap().block, *root);
                return session;
            }
        }
    };
    soon(fetching).await
}

/// Two peers, so many blocks of 100 kB that the first has, and a session of the second that has fetched one of them; the others.
async fn begun(number: u32) -> (Peer, Peer, BlockFetcher, Vec<Block>) {
    let (one, two) = (Peer::start().await, Peer::start().await);
    let mut blocks: Vec<Block> = (0..number).map(|n| block(n, 100_000)).collect();
    blocks.iter().for_each(|block| one.store.put(block));
    two.connect(&one).await;
    let root = blocks.remove(0);
    let session = session_of(&two.node, &root).await;
    (one, two, session, blocks)
}

/// Holds that a session gets all of these, each once.
async fn all_are_fetched(session: &mut BlockFetcher, blocks: Vec<Block>) {
    session.want(blocks.iter().map(|block| (block.cid, 100_000)).collect());
    let mut left: HashMap<Cid, Bytes> = blocks.into_iter().map(|block| (block.cid, block.data)).collect();
    while !left.is_empty() {
        let fetched = soon(session.next_block()).await.unwrap().block;
        assert_eq!(left.remove(&fetched.cid), Some(fetched.data));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_fetched_from_the_peer_that_has_them() {
    let (one, two, mut session, blocks) = begun(100).await;
    all_are_fetched(&mut session, blocks).await;
    let (sent, received) = (one.node.traffic(), two.node.traffic());
    // After a stall a block is asked for again, and may be sent twice.
    assert!(sent.sent_blocks >= 100 && sent.sent_bytes >= 10_000_000, "{sent:?}");
    assert_eq!((received.received_blocks, received.received_bytes), (100, 10_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_want_is_answered_when_the_block_arrives() {
    let (one, two) = (Peer::start().await, Peer::start().await);
    two.connect(&one).await;
    let [root, late] = [block(1, 10), block(2, 100_000)];
    one.store.put(&root);
    let mut session = session_of(&two.node, &root).await;
    session.want(vec![(late.cid, 0)]);
    assert!(tokio::time::timeout(Duration::from_millis(300), session.next_block()).await.is_err());
    one.store.put(&late);
    one.node.arrived(&[late.cid]);
    assert_eq!(soon(session.next_block()).await.unwrap().block, late);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_the_store_does_not_end_serving_to_the_peer() {
    let (one, _two, mut session, blocks) = begun(5).await;
    one.store.panics.store(true, Ordering::SeqCst);
    all_are_fetched(&mut session, blocks).await;
    assert!(!one.store.panics.load(Ordering::SeqCst), "it happened");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_without_a_provider_is_not_found() {
    let (one, two) = (Peer::start().await, Peer::start().await);
    two.connect(&one).await;
    let missing = block(1, 10).cid;
    let error = soon(two.node.block_fetcher(missing).fetch_root(PATIENCE)).await.unwrap_err();
    assert!(matches!(error, FetchError::NotFound { asked: 1, .. }), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let alone = Node::offline(dir.path()).unwrap();
    assert!(matches!(alone.block_fetcher(missing).fetch_root(PATIENCE).await, Err(FetchError::Offline(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_below_a_local_root_is_not_found_at_once_if_no_peer_is_connected() {
    let (one, two) = (Peer::start().await, Peer::start().await);
    let [root, first, second] = [1, 2, 3].map(|n| block(n, 10));
    let mut session = two.node.block_fetcher(root.cid).with_stall_timeout(Duration::from_secs(3600));
    session.want(vec![(first.cid, 10)]);
    let error = soon(session.next_block()).await.unwrap_err();
    assert!(matches!(error, FetchError::NotFound { cid, asked: 0, .. } if cid == first.cid), "{error}");
    // A peer that has it may come later.
    one.store.put(&first);
    two.connect(&one).await;
    assert_eq!(soon(session.next_block()).await.unwrap().block, first);
    // One that sent something may come back.
    one.node.shutdown().await;
    session.want(vec![(second.cid, 10)]);
    assert!(tokio::time::timeout(Duration::from_secs(1), session.next_block()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnected_peer_is_replaced_by_another_provider() {
    let (one, two, three) = (Peer::start().await, Peer::start().await, Peer::start().await);
    let blocks: Vec<Block> = (0..40).map(|n| block(n, 500_000)).collect();
    for block in &blocks {
        one.store.put(block);
        two.store.put(block);
    }
    three.connect(&one).await;
    let mut session = session_of(&three.node, &blocks[0]).await;
    session.want(blocks[1..].iter().map(|block| (block.cid, 500_000)).collect());
    soon(session.next_block()).await.unwrap();
    one.node.shutdown().await;
    three.connect(&two).await;
    for _ in 2..blocks.len() {
        soon(session.next_block()).await.unwrap();
    }
}

/// Has two sessions fetch one block. Returns how often it was sent, or nothing where something stalled: then a block may be sent
/// twice without a fault.
async fn sent_to_two_sessions() -> Option<u64> {
    let (one, two) = (Peer::start().await, Peer::start().await);
    two.connect(&one).await;
    let [root, shared] = [block(1, 10), block(2, 1 << 20)];
    one.store.put(&root);
    one.store.put(&shared);
    let begun = Instant::now();
    let mut first = session_of(&two.node, &root).await;
    let mut second = session_of(&two.node, &root).await;
    let before = one.node.traffic().sent_blocks;
    first.want(vec![(shared.cid, 1 << 20)]);
    second.want(vec![(shared.cid, 1 << 20)]);
    assert_eq!(soon(first.next_block()).await.unwrap().block, shared);
    assert_eq!(soon(second.next_block()).await.unwrap().block, shared);
    let sent = one.node.traffic().sent_blocks - before;
    (begun.elapsed() < WITHOUT_STALL).then_some(sent)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sessions_that_want_one_block_fetch_it_once() {
    for _ in 0..20 {
        if let Some(sent) = sent_to_two_sessions().await {
            assert_eq!(sent, 1);
            return;
        }
    }
    panic!("each fetch stalled");
}
