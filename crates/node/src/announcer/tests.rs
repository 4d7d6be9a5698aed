use super::*;

const SOON: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);

fn cid(n: u8) -> Cid {
    Cid::new_v1(0x55, cid::multihash::Multihash::wrap(0x12, &[n; 32]).unwrap())
}

fn numbered(n: u32) -> Cid {
    Cid::new_v1(0x55, cid::multihash::Multihash::wrap(0x12, &[n.to_be_bytes(); 8].concat()).unwrap())
}

/// A routing system whose answers come from the test.
struct Routing {
    announcer: Announcer,
    joins: watch::Sender<usize>,
    moves: watch::Sender<u64>,
    asked: mpsc::Receiver<SwarmCommand>,
    task: tokio::task::JoinHandle<()>,
}

impl Routing {
    fn start(every: Duration, cids: impl IntoIterator<Item = Cid>) -> Self {
        let (commands, asked) = mpsc::channel(8);
        let (announcer, joins, moves) = (Announcer::default(), watch::Sender::new(0), watch::Sender::new(0));
        announcer.add(cids);
        let changes = (joins.subscribe(), moves.subscribe());
        let task = tokio::spawn(announcer.clone().run(commands, changes, every));
        Self { announcer, joins, moves, asked, task }
    }

    /// Returns the next announcement, which waits for its answer.
    async fn next(&mut self) -> (Cid, oneshot::Sender<bool>) {
        match tokio::time::timeout(SOON, self.asked.recv()).await.expect("an announcement") {
            Some(SwarmCommand::Provide(cid, reply)) => (cid, reply),
            other => panic!("{other:?}"),
        }
    }

    /// Answers the next announcement.
    async fn answer(&mut self, accepted: bool) -> Cid {
        let (cid, reply) = self.next().await;
        reply.send(accepted).unwrap();
        cid
    }

    /// Waits until this many keys are announced.
    async fn announced(&self, announced: usize) {
        let settled = async {
            while self.announcer.status().announced != announced {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, settled).await.expect("announced");
    }

    /// Waits until nothing is due.
    async fn caught_up(&self) {
        let settled = async {
            while self.announcer.status().lag > Duration::ZERO {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, settled).await.expect("caught up");
    }
}

impl Drop for Routing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn provider_announcements_are_repeated() {
    let mut routing = Routing::start(Duration::from_millis(20), [cid(1)]);
    for _ in 0..3 {
        assert_eq!(routing.answer(true).await, cid(1));
    }
    let status = routing.announcer.status();
    assert_eq!((status.announced, status.pending), (1, 0));
}

#[tokio::test]
async fn an_announcement_without_peers_stays_pending_until_one_joins() {
    let mut routing = Routing::start(HOUR, [cid(1), cid(2)]);
    let mut refused = [routing.answer(false).await, routing.answer(false).await];
    refused.sort();
    assert_eq!(refused, [cid(1), cid(2)]);
    let status = routing.announcer.status();
    assert_eq!((status.announced, status.pending), (0, 2));
    assert!(status.lag > Duration::ZERO, "they wait still");
    routing.joins.send_replace(1);
    routing.answer(true).await;
    routing.answer(true).await;
    routing.announced(2).await;
}

#[tokio::test]
async fn all_keys_are_announced_when_a_peer_joins_a_small_swarm_and_pending_ones_in_a_large_one() {
    let mut routing = Routing::start(HOUR, [cid(1)]);
    routing.answer(true).await;
    routing.announced(1).await;
    // The same size again: a peer came back.
    for size in [20, 20] {
        routing.joins.send_replace(size);
        assert_eq!(routing.answer(true).await, cid(1));
    }
    routing.announcer.add([cid(2)]);
    assert_eq!(routing.answer(false).await, cid(2));
    routing.joins.send_replace(21);
    assert_eq!(routing.answer(true).await, cid(2));
    routing.announced(2).await;
    assert!(routing.asked.try_recv().is_err());
}

#[tokio::test]
async fn new_keys_are_announced_in_their_order_before_repetitions() {
    let mut routing = Routing::start(HOUR, (0..100).map(cid));
    for _ in 0..100 {
        routing.answer(true).await;
    }
    routing.announced(100).await;
    // All are due again, and new ones come.
    routing.moves.send_modify(|moves| *moves += 1);
    let mut slow = Vec::new();
    for _ in 0..*CONCURRENCY.start() {
        slow.push(routing.next().await.1);
    }
    routing.announcer.add((200..210).map(cid));
    for (number, reply) in (200..210).zip(slow) {
        reply.send(true).unwrap();
        assert_eq!(routing.next().await.0, cid(number));
    }
}

#[tokio::test]
async fn new_keys_are_announced_before_those_of_an_earlier_run() {
    let mut routing = Routing::start(HOUR, []);
    routing.announcer.add_known((0..100).map(cid));
    let mut slow = Vec::new();
    for _ in 0..*CONCURRENCY.start() {
        slow.push(routing.next().await);
    }
    routing.announcer.add([cid(200)]);
    let (_, reply) = slow.swap_remove(0);
    reply.send(true).unwrap();
    assert_eq!(routing.next().await.0, cid(200));
}

#[tokio::test]
async fn announcing_concurrency_grows_with_the_queue_up_to_a_limit() {
    for (waiting, at_once) in [(10, 10), (100, 16), (255, 28), (2000, 64)] {
        let mut routing = Routing::start(HOUR, (0..waiting).map(numbered));
        let mut answers = Vec::new();
        for _ in 0..at_once {
            answers.push(routing.next().await);
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(routing.asked.try_recv().is_err(), "{waiting}");
    }
}

#[tokio::test]
async fn the_announcing_lag_is_the_waiting_time_of_the_oldest_due_key() {
    let mut routing = Routing::start(HOUR, []);
    assert_eq!(routing.announcer.status().lag, Duration::ZERO, "nothing is due");
    let before = Instant::now();
    routing.announcer.add([cid(1)]);
    let (_, first) = routing.next().await;
    let between = Instant::now();
    routing.announcer.add([cid(2)]);
    let (_, second) = routing.next().await;
    let lag = routing.announcer.status().lag;
    assert!(lag >= between.elapsed() && lag <= before.elapsed(), "{lag:?}");
    first.send(true).unwrap();
    routing.announced(1).await;
    assert!(routing.announcer.status().lag <= between.elapsed(), "only the second waits");
    second.send(false).unwrap();
    tokio::task::yield_now().await;
    assert!(routing.announcer.status().lag > Duration::ZERO, "no peer accepted it");
    routing.joins.send_replace(1);
    // Either may come first: the new peer gets both.
    routing.answer(true).await;
    routing.answer(true).await;
    routing.announced(2).await;
    routing.caught_up().await;
}

#[test]
fn a_repeated_announcement_is_due_at_its_time() {
    let (every, mut keys) = (HOUR, Keys::default());
    let stage = AnnounceStage::InProgress { again: false };
    keys.states.insert(cid(1), KeyState { stage, announced: false, due: Some(Instant::now()) });
    assert!(keys.answered(cid(1), true, every));
    let state = keys.states[&cid(1)];
    let AnnounceStage::Waiting { until } = state.stage else { panic!("it rests") };
    assert_eq!(state.waited(until - Duration::from_secs(1)), Duration::ZERO);
    let late = until + Duration::from_secs(9);
    assert_eq!(state.waited(late), Duration::from_secs(9));
    keys.queue(late, |_| true);
    assert_eq!(keys.states[&cid(1)].waited(late), Duration::from_secs(9));
}

#[tokio::test]
async fn a_key_is_announced_again_if_a_peer_joins_during_its_announcement() {
    let mut routing = Routing::start(HOUR, [cid(1)]);
    let (_, reply) = routing.next().await;
    routing.joins.send_replace(2);
    tokio::time::timeout(SOON, async {
        while !matches!(
            routing.announcer.keys().states[&cid(1)].stage,
            AnnounceStage::InProgress { again: true }
        ) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the join is noticed");
    reply.send(true).unwrap();
    assert_eq!(routing.answer(true).await, cid(1));
}

#[tokio::test]
async fn a_removed_key_is_not_announced() {
    let mut routing = Routing::start(Duration::from_millis(20), [cid(1), cid(2)]);
    routing.announcer.remove(&cid(1));
    for _ in 0..3 {
        assert_eq!(routing.answer(true).await, cid(2));
    }
}

#[tokio::test]
async fn a_key_removed_while_it_is_announced_is_withdrawn() {
    let mut routing = Routing::start(HOUR, [cid(1)]);
    let (_, reply) = routing.next().await;
    routing.announcer.remove(&cid(1));
    reply.send(true).unwrap();
    let command = tokio::time::timeout(SOON, routing.asked.recv()).await.expect("a command");
    assert!(matches!(command, Some(SwarmCommand::Withdraw(cid)) if cid == self::cid(1)), "{command:?}");
    assert_eq!(routing.announcer.status(), Announcing::default());
}

#[tokio::test]
async fn an_inline_block_is_not_announced() {
    let inline = Cid::new_v1(0x55, cid::multihash::Multihash::wrap(0, b"hello").unwrap());
    let mut routing = Routing::start(HOUR, [inline, cid(1)]);
    assert_eq!(routing.answer(true).await, cid(1));
    routing.announced(1).await;
    assert_eq!(routing.announcer.status().pending, 0);
}

#[tokio::test(start_paused = true)]
async fn everything_is_announced_again_when_the_addresses_of_the_node_changed() {
    let mut routing = Routing::start(HOUR, [cid(1), cid(2)]);
    let mut first = [routing.answer(true).await, routing.answer(true).await];
    routing.announced(2).await;
    routing.moves.send_modify(|moves| *moves += 1);
    let mut second = [routing.answer(true).await, routing.answer(true).await];
    first.sort();
    second.sort();
    assert_eq!(first, second);
}
