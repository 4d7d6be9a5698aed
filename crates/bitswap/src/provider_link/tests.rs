use std::convert::Infallible;

use futures::stream;
use multihash_codetable::{Code, MultihashDigest};

use super::*;
use crate::{budget::BlockMemory, client::Client, link::FetchedBlock, session::WantedBlock};

/// A client task, as a block fetcher and a link see it.
struct Running {
    events: mpsc::UnboundedSender<Event>,
    links: Arc<Links>,
}

impl Running {
    fn start() -> Self {
        let (events, inbox) = mpsc::unbounded_channel();
        let (verified, found) = mpsc::channel(16);
        tokio::spawn(Client::new(Arc::default()).run(inbox, found));
        let links = Links::new(events.clone(), verified, Budget::new(BlockMemory::default()).0);
        Self { events, links }
    }

    fn session(&self, id: u64, wanted: &[Cid]) -> mpsc::UnboundedReceiver<FetchedBlock> {
        let (out, blocks) = mpsc::unbounded_channel();
        let _ = self.events.send(Event::Begin(id, out));
        let wanted = wanted.iter().map(|cid| WantedBlock::new(*cid, 0)).collect();
        let _ = self.events.send(Event::Want(id, wanted));
        blocks
    }
}

fn block(n: u8) -> (Cid, Bytes) {
    let data = Bytes::from(vec![n; 100_000]);
    (Cid::new_v1(0x55, Code::Sha2_256.digest(&data)), data)
}

fn body(data: &Bytes) -> impl Stream<Item = Result<Bytes, Infallible>> + Unpin {
    let chunks: Vec<_> = data.chunks(7_001).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    stream::iter(chunks)
}

/// Waits for a WANT-BLOCK of one of these CIDs.
async fn wanted(wants: &mut ProviderWants, cids: &[Cid]) {
    loop {
        let entry = wants.next().await.expect("a want");
        if !entry.cancel && cids.contains(&entry.cid) {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_without_bitswap_delivers_verified_blocks_to_a_session() {
    let running = Running::start();
    let (mut wants, answers) = running.links.open(PeerId::random());
    let ((one, data), (two, other)) = (block(1), block(2));
    let mut blocks = running.session(1, &[one, two]);
    wanted(&mut wants, &[one]).await;
    answers.block(one, Some(data.len() as u64), body(&data)).await.unwrap();
    assert_eq!(blocks.recv().await.unwrap().block, Block { cid: one, data });
    wanted(&mut wants, &[two]).await;
    // Without an announced length.
    answers.block(two, None, body(&other)).await.unwrap();
    assert_eq!(blocks.recv().await.unwrap().block.data, other);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_sends_a_wrong_block_is_never_asked_again_in_that_session() {
    let running = Running::start();
    let liar = PeerId::random();
    let (mut wants, answers) = running.links.open(liar);
    let ((one, data), (_, other)) = (block(1), block(2));
    let mut blocks = running.session(1, &[one]);
    wanted(&mut wants, &[one]).await;
    let error = answers.block(one, None, body(&other)).await.unwrap_err();
    assert!(matches!(error, ReceiveError::Wrong(cid) if cid == one), "{error}");
    drop(wants);
    // Longer than the ban of the client.
    tokio::time::sleep(Duration::from_secs(400)).await;
    let (mut again, _) = running.links.open(liar);
    let (mut honest, answers) = running.links.open(PeerId::random());
    wanted(&mut honest, &[one]).await;
    let asked = timeout(Duration::from_secs(60), again.next()).await;
    assert!(asked.is_err(), "{asked:?}");
    answers.block(one, None, body(&data)).await.unwrap();
    assert_eq!(blocks.recv().await.unwrap().block.data, data);
    // Another session asks it.
    let _blocks = running.session(2, &[block(3).0]);
    assert!(again.next().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_body_is_bounded_in_length_and_time() {
    let running = Running::start();
    let (mut wants, answers) = running.links.open(PeerId::random());
    let (cid, data) = block(1);
    let _blocks = running.session(1, &[cid]);
    wanted(&mut wants, &[cid]).await;
    let long = Bytes::from(vec![0; MAX_BLOCK + 1]);
    let announced = answers.block(cid, Some(long.len() as u64), body(&long)).await;
    assert!(matches!(announced, Err(ReceiveError::TooLong)));
    assert!(matches!(answers.block(cid, None, body(&long)).await, Err(ReceiveError::TooLong)));
    let short = answers.block(cid, Some(data.len() as u64 + 1), body(&data)).await;
    assert!(matches!(short, Err(ReceiveError::Length { .. })));
    let more = answers.block(cid, Some(10), body(&data)).await;
    assert!(matches!(more, Err(ReceiveError::Length { .. })));
    let silent = stream::pending::<Result<Bytes, Infallible>>();
    assert!(matches!(answers.block(cid, None, silent).await, Err(ReceiveError::Stalled)));
    let dripping = Box::pin(stream::unfold((), async |()| {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Some((Ok::<_, Infallible>(Bytes::from_static(b"x")), ()))
    }));
    assert!(matches!(answers.block(cid, None, dripping).await, Err(ReceiveError::Slow)));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_lacks_a_block_is_passed_over() {
    let running = Running::start();
    let (mut first, lacking) = running.links.open(PeerId::random());
    let (cid, data) = block(1);
    let mut blocks = running.session(1, &[cid]);
    wanted(&mut first, &[cid]).await;
    lacking.presence(cid, false).await;
    let (mut second, having) = running.links.open(PeerId::random());
    wanted(&mut second, &[cid]).await;
    having.block(cid, None, body(&data)).await.unwrap();
    assert_eq!(blocks.recv().await.unwrap().block.data, data);
}
