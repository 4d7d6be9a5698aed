use super::*;

const MIB: usize = 1 << 20;
const MEMORY: BlockMemory = BlockMemory { proven: 40 << 20, others: 24 << 20, sent: 1 << 20 };

fn owing(budget: &Arc<Budget>) -> Arc<Share> {
    let share = budget.share(PeerId::random());
    share.requested();
    share
}

#[tokio::test]
async fn a_peer_without_open_requests_has_memory_for_want_lists_only() {
    let (budget, _) = Budget::new(MEMORY);
    let stranger = budget.share(PeerId::random());
    assert!(matches!(stranger.reserve(4 * MIB).await, Err(Error::Unrequested(_))));
    assert!(matches!(stranger.begin(4 * MIB), Err(Error::Unrequested(_))), "nor in stripes");
    let held = stranger.reserve(WANTLIST_BYTES).await.unwrap();
    let next = stranger.reserve(1000);
    futures::pin_mut!(next);
    assert!(futures::poll!(&mut next).is_pending());
    drop(held);
    assert!(next.await.is_ok());
}

#[tokio::test]
async fn all_connections_of_a_peer_have_one_share() {
    let (budget, _) = Budget::new(MEMORY);
    let peer = PeerId::random();
    assert!(Arc::ptr_eq(&budget.share(peer), &budget.share(peer)));
    assert_eq!(locked(&budget.shares).len(), 1);
    budget.share(PeerId::random());
    assert_eq!(locked(&budget.shares).len(), 1, "peers that are gone are forgotten");
}

#[tokio::test]
async fn a_peer_that_sends_many_unrequested_bytes_is_disconnected() {
    let (budget, mut offenders) = Budget::new(MEMORY);
    let peer = PeerId::random();
    for _ in 0..MAX_UNREQUESTED / MIB as u64 {
        budget.share(peer).unrequested(0);
    }
    let share = budget.share(peer);
    share.unrequested(MAX_UNREQUESTED as usize);
    assert!(offenders.try_recv().is_err());
    share.unrequested(1);
    assert_eq!(offenders.try_recv(), Ok(peer));
}

/// Holds a message as a stream does, until it is evicted.
fn hold(message: Reservation) {
    tokio::spawn(async move {
        message.evicted().cancelled().await;
        drop(message);
    });
}

#[test]
fn the_memory_limit_of_one_peer_is_a_part_of_the_budget_and_at_least_one_message() {
    for (proven, per_peer) in [(1, 4), (10, 4), (21, 8), (40, 12), (4000, 12)] {
        let memory = BlockMemory { proven: proven << 20, ..MEMORY };
        assert_eq!(memory.per_peer() >> 20, per_peer, "{proven} MiB");
    }
}

#[tokio::test]
async fn memory_of_unproven_peers_is_evicted_for_an_honest_one() {
    let (budget, _) = Budget::new(MEMORY);
    for _ in 0..16 {
        let hostile = owing(&budget);
        for _ in 0..3 {
            let mut message = hostile.reserve(4 * MIB).await.unwrap();
            message.grow(MIB / 2).await.unwrap();
            hold(message);
        }
    }
    assert_eq!(budget.others.available_permits(), 0);
    let mut honest = owing(&budget).reserve(2 * MIB).await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), honest.grow(2 * MIB)).await.unwrap().unwrap();
}

#[tokio::test]
async fn memory_of_stalled_proven_peers_is_evicted() {
    let (budget, _) = Budget::new(MEMORY);
    for _ in 0..10 {
        let stalled = owing(&budget);
        stalled.delivered();
        hold(stalled.reserve(4 * MIB).await.unwrap());
    }
    assert_eq!(budget.proven.available_permits(), 0);
    let honest = owing(&budget);
    honest.delivered();
    // The first pass resets the counters, the second one finds peers that sent nothing.
    for _ in 0..2 {
        *locked(&budget.stalled_checked) -= STALL_TIMEOUT;
        budget.evict_stalled();
    }
    let reserved = tokio::time::timeout(Duration::from_secs(30), honest.reserve(2 * MIB)).await;
    reserved.unwrap().unwrap().grow(2 * MIB).await.unwrap();
}

#[tokio::test]
async fn a_peer_without_open_requests_has_few_streams_that_wait_for_memory() {
    let (budget, _) = Budget::new(MEMORY);
    let share = budget.share(PeerId::random());
    assert_eq!(share.streams(), (256, 8));
    share.requested();
    assert_eq!(share.streams(), (256, 256));
    let streams: Vec<_> = (0..1000).map_while(|_| share.stream()).collect();
    assert_eq!(streams.len(), 256);
    drop(streams);
    assert_eq!(share.streams.load(Ordering::Relaxed), 0);
}
