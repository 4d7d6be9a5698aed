//! Files that arrive in a node without a swarm: what they need is here, and hashing is as slow as a test wants.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use ocipfs_node::Node;
use ocipfs_unixfs::Builder;
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::content::{
    CidPath, Profile, Settings,
    store::{Leaf, Store},
};

const MIB: usize = 1 << 20;
const SOON: Duration = Duration::from_secs(60);

async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, wait).await.expect("it takes too long")
}

fn content(dir: &TempDir, settings: Settings) -> Content {
    let store = Store::open(dir.path()).unwrap();
    Content::new(store, Node::offline(dir.path()).unwrap(), settings).unwrap()
}

/// Opens the content of an instance that ended a moment ago: one of its tasks may still have the files open.
async fn reopened(dir: &TempDir) -> Content {
    let begun = Instant::now();
    loop {
        match (Store::open(dir.path()), Node::offline(dir.path())) {
            (Ok(store), Ok(node)) => return Content::new(store, node, Settings::default()).unwrap(),
            (store, node) => assert!(begun.elapsed() < SOON, "{:?}, {:?}", store.err(), node.err()),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn bytes(length: usize) -> Bytes {
    (0..length as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

/// Puts all of a file into the node directory as one that arrives: only hashing is left to do.
fn arrived(content: &Content, bytes: &Bytes) -> Cid {
    let (mut builder, mut blocks) = (Builder::new(Profile::UnixfsV1), Vec::new());
    let mut leaves = Vec::new();
    for (n, chunk) in bytes.chunks(MIB).enumerate() {
        let mut made = builder.push(bytes.slice_ref(chunk)).into_iter();
        let leaf = made.next().unwrap();
        leaves
            .push((Leaf { cid: leaf.cid, offset: (n * MIB) as u64, length: chunk.len() as u64 }, leaf.data));
        blocks.extend(made);
    }
    let (root, last) = builder.finish();
    blocks.extend(last);
    let file = content.store().begin_partial(root.cid, bytes.len() as u64).unwrap();
    blocks.iter().rev().for_each(|node| file.insert_node(node.cid, node.data.clone()).unwrap());
    leaves.iter().for_each(|(leaf, block)| file.write(leaf, block, 0..block.len()).unwrap());
    file.checkpoint().unwrap();
    root.cid
}

fn blob(root: Cid, digest: Digest, bytes: &Bytes) -> Blob {
    Blob { digest, size: bytes.len() as u64, at: root.into(), gc_root: Some(root) }
}

/// Stops hashing before each piece: what it is told by, and what lets one piece pass.
fn step_by_step(content: &Content) -> (UnboundedReceiver<()>, mpsc::Sender<()>) {
    let ((at_piece, pieces), (pass, passes)) = (unbounded_channel(), mpsc::channel::<()>());
    let passes = Mutex::new(passes);
    *locked(&content.0.downloads.slow) = Some(Arc::new(move || {
        let _ = at_piece.send(());
        // Without a test that holds the other end it passes.
        let _ = locked(&passes).recv();
    }));
    (pieces, pass)
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_hashing_counts_as_progress_and_does_not_time_out() {
    let dir = tempfile::tempdir().unwrap();
    let content = content(&dir, Settings::default());
    let bytes = bytes(20 * MIB);
    let root = arrived(&content, &bytes);
    let (mut pieces, pass) = step_by_step(&content);
    let block = content.store().get(&root).unwrap().unwrap();
    let node = DagNode::decode(&root, block.clone()).unwrap();
    let start = ResolvedDownload { root, node, block, block_fetcher: content.node().block_fetcher(root) };
    let whole = 0..bytes.len() as u64;
    let mut part = content.join_download(start, vec![whole], None, Purpose::Keep).await.unwrap().unwrap();
    for _ in 0..20 {
        soon(pieces.recv()).await.unwrap();
        part.progress.borrow_and_update();
        pass.send(()).unwrap();
        soon(part.progress.changed()).await.unwrap();
    }
    let settled = soon(part.outcome()).await.unwrap();
    assert!(settled.has(&Digest::sha256_of(&bytes)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_download_continues_from_its_saved_hash_state() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = bytes(30 * MIB);
    let (root, hashed) = {
        let content = content(&dir, Settings::default());
        let root = arrived(&content, &bytes);
        let (mut pieces, pass) = step_by_step(&content);
        let reader = content.open_at(&root.into()).await.unwrap();
        soon(pieces.recv()).await.unwrap();
        drop(reader);
        // The task ends when it sees that, at the latest after two lots; what is left of them passes.
        drop(pass);
        soon(async {
            while content.store().partial().unwrap()[0].is_live {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let mut hashed = 1;
        while pieces.try_recv().is_ok() {
            hashed += 1;
        }
        content.close().await;
        (root, hashed)
    };
    assert!((1..30).contains(&hashed), "{hashed} pieces were hashed, which leaves some");
    let content = reopened(&dir).await;
    let (mut pieces, _) = step_by_step(&content);
    let all = soon(content.open_at(&root.into()).await.unwrap().all()).await.unwrap();
    assert!(all == bytes);
    let mut rest = 0;
    while pieces.try_recv().is_ok() {
        rest += 1;
    }
    assert_eq!(hashed + rest, 30);
    assert_eq!(content.digest_of(&root).await.unwrap(), Digest::sha256_of(&bytes));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_with_a_wrong_sha512_digest_fails_and_one_with_the_right_digest_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let content = content(&dir, Settings::default());
    let bytes = bytes(3 * MIB);
    let root = arrived(&content, &bytes);
    let sha512 = |bytes: &[u8]| ocipfs_oci::Hasher::of(ocipfs_oci::Algorithm::Sha512, bytes);
    let (mut pieces, pass) = step_by_step(&content);
    let whole = 0..bytes.len() as u64;
    let mut readers = Vec::new();
    for digest in [Digest::sha256_of(&bytes), sha512(b"other bytes"), sha512(&bytes)] {
        let blob = blob(root, digest, &bytes);
        readers.push(content.open(&blob, whole.clone()).await.unwrap());
    }
    soon(pieces.recv()).await.unwrap();
    drop(pass);
    let mut ended = Vec::new();
    for reader in readers {
        ended.push(soon(reader.all()).await);
    }
    assert!(ended[0].as_ref().is_ok_and(|all| *all == bytes));
    assert!(matches!(ended[1], Err(Error::Mismatch { .. })));
    assert!(ended[2].as_ref().is_ok_and(|all| *all == bytes));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_digest_does_not_discard_a_download_that_is_also_read_by_cid() {
    let dir = tempfile::tempdir().unwrap();
    let content = content(&dir, Settings::default());
    let bytes = bytes(3 * MIB);
    let root = arrived(&content, &bytes);
    let (mut pieces, pass) = step_by_step(&content);
    let wrong = blob(root, Digest::sha256_of(b"other bytes"), &bytes);
    let lied_to = content.open(&wrong, 0..wrong.size).await.unwrap();
    let by_cid = content.open_at(&CidPath::from(root)).await.unwrap();
    soon(pieces.recv()).await.unwrap();
    drop(pass);
    assert!(matches!(soon(lied_to.all()).await, Err(Error::Mismatch { .. })));
    assert!(soon(by_cid.all()).await.unwrap() == bytes);
    assert!(content.store().file(&root).unwrap().is_some());
    assert!(matches!(content.open(&wrong, 0..wrong.size).await, Err(Error::Mismatch { .. })));
}

#[tokio::test]
async fn a_blob_larger_than_the_cache_is_rejected_before_any_peer_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let content = content(&dir, Settings { cache_size: Some(MIB as u64), ..Settings::default() });
    let bytes = bytes(2 * MIB);
    let root = "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku".parse().unwrap();
    let large = blob(root, Digest::sha256_of(&bytes), &bytes);
    assert!(matches!(content.cache(&large).await, Err(Error::NoRoom { .. })));
    let small = Blob { size: 1000, ..large };
    // Without a swarm that is as far as it gets.
    let asked = content.cache(&small).await;
    assert!(matches!(asked, Err(Error::Node(ocipfs_node::FetchError::Offline(_)))), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_that_wait_for_one_block_prefer_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let content = content(&dir, Settings::default());
    let root = "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku".parse().unwrap();
    let shared = Arc::new(Download {
        root_v1: root,
        root,
        file: content.store().begin_partial(root, MIB as u64).unwrap(),
        readers: Mutex::default(),
        moved: Notify::new(),
        progress: watch::Sender::default(),
        hashed: AtomicU64::default(),
    });
    let mut parts = Vec::new();
    for _ in 0..1000 {
        let whole = 0..MIB as u64;
        let mut part = RangeReader::new(
            shared.clone(),
            vec![whole],
            None,
            SOON,
            &crate::content::PieceBudget::new(64 << 20),
        );
        // What it waits for is told at the first poll.
        assert!(futures::poll!(std::pin::pin!(part.next())).is_pending());
        shared.step();
        assert!(futures::poll!(std::pin::pin!(part.next())).is_pending());
        parts.push(part);
    }
    assert_eq!(shared.waits(), BTreeSet::from([0]));
    assert_eq!((shared.interest().ranges().len(), shared.interest().urgent().len()), (1, 1));
    drop(parts);
    assert!(shared.interest().ranges().is_empty() && shared.waits().is_empty());
}
