use super::*;

const SOON: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);

fn cid(n: u8) -> Cid {
    Cid::new_v1(0x55, cid::multihash::Multihash::wrap(0x12, &[n; 32]).unwrap())
}

fn numbered(n: u32) -> Cid {
    Cid::new_v1(0x55, cid::multihash::Multihash::wrap(0x12, &[n.to_be_bytes(); 8].concat()).unwrap())
}

/// A routing system that the test answers for.
struct Routing {
    announcer: Announcer,
    joins: watch::Sender<usize>,
    asked: mpsc::Receiver<Command>,
    task: tokio::task::JoinHandle<()>,
}

impl Routing {
    fn start(every: Duration, cids: impl IntoIterator<Item = Cid>) -> Self {
        let (commands, asked) = mpsc::channel(8);
        let (announcer, joins) = (Announcer::default(), watch::Sender::new(0));
        announcer.add(cids);
        let task = tokio::spawn(announcer.clone().run(commands, joins.subscribe(), every));
        Self { announcer, joins, asked, task }
    }

    /// The next announcement, which waits for its answer.
    async fn next(&mut self) -> (Cid, oneshot::Sender<bool>) {
        match tokio::time::timeout(SOON, self.asked.recv()).await.expect("an announcement") {
            Some(Command::Provide(cid, reply)) => (cid, reply),
            other => panic!("{other:?}"),
        }
    }

    /// Answers `told` to the next announcement.
    async fn answer(&mut self, told: bool) -> Cid {
        let (cid, reply) = self.next().await;
        reply.send(told).unwrap();
        cid
    }

    /// Waits until so many keys are announced.
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
async fn what_was_announced_is_announced_again() {
    let mut routing = Routing::start(Duration::from_millis(20), [cid(1)]);
    for _ in 0..3 {
        assert_eq!(routing.answer(true).await, cid(1));
    }
    let status = routing.announcer.status();
    assert_eq!((status.announced, status.pending), (1, 0));
}

#[tokio::test]
async fn what_nobody_heard_stays_pending_and_is_said_to_whoever_joins() {
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
async fn who_joins_a_small_swarm_hears_everything_and_who_joins_a_large_one_only_what_is_pending() {
    let mut routing = Routing::start(HOUR, [cid(1)]);
    routing.answer(true).await;
    routing.announced(1).await;
    // The same size again: somebody came back.
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
async fn a_new_key_does_not_wait_for_a_slow_round() {
    let mut routing = Routing::start(HOUR, (0..100).map(cid));
    let (_, first) = routing.next().await;
    // All others of the first sixteen stay unanswered.
    let mut slow = Vec::new();
    for _ in 1..*AT_ONCE.start() {
        slow.push(routing.next().await);
    }
    routing.announcer.add([cid(200)]);
    first.send(true).unwrap();
    assert_eq!(routing.next().await.0, cid(200));
}

#[tokio::test]
async fn the_more_keys_wait_the_more_are_told_at_once_up_to_a_bound() {
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
async fn the_lag_is_how_long_the_oldest_key_that_is_due_has_waited() {
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
    assert!(routing.announcer.status().lag > Duration::ZERO, "nobody heard it");
    routing.joins.send_replace(1);
    // Either may come first: who joined is told of both.
    routing.answer(true).await;
    routing.answer(true).await;
    routing.announced(2).await;
    routing.caught_up().await;
}

#[test]
fn a_repetition_is_due_from_its_time_on() {
    let (every, mut keys) = (HOUR, Keys::default());
    let stage = Stage::Telling { again: false };
    keys.states.insert(cid(1), State { stage, announced: false, due: Some(Instant::now()) });
    assert!(keys.told(cid(1), true, every));
    let state = keys.states[&cid(1)];
    let Stage::Rests { until } = state.stage else { panic!("it rests") };
    assert_eq!(state.waited(until - Duration::from_secs(1)), Duration::ZERO);
    let late = until + Duration::from_secs(9);
    assert_eq!(state.waited(late), Duration::from_secs(9));
    keys.queue(late, |_| true);
    assert_eq!(keys.states[&cid(1)].waited(late), Duration::from_secs(9));
}

#[tokio::test]
async fn who_joins_while_a_key_is_told_hears_it_too() {
    let mut routing = Routing::start(HOUR, [cid(1)]);
    let (_, reply) = routing.next().await;
    routing.joins.send_replace(2);
    tokio::time::timeout(SOON, async {
        while !matches!(routing.announcer.keys().states[&cid(1)].stage, Stage::Telling { again: true }) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the join is noticed");
    reply.send(true).unwrap();
    assert_eq!(routing.answer(true).await, cid(1));
}

#[tokio::test]
async fn what_was_removed_is_not_announced() {
    let mut routing = Routing::start(Duration::from_millis(20), [cid(1), cid(2)]);
    routing.announcer.remove(&cid(1));
    for _ in 0..3 {
        assert_eq!(routing.answer(true).await, cid(2));
    }
}

#[tokio::test]
async fn what_is_removed_while_it_is_told_is_withdrawn() {
    let mut routing = Routing::start(HOUR, [cid(1)]);
    let (_, reply) = routing.next().await;
    routing.announcer.remove(&cid(1));
    reply.send(true).unwrap();
    let command = tokio::time::timeout(SOON, routing.asked.recv()).await.expect("a command");
    assert!(matches!(command, Some(Command::Withdraw(cid)) if cid == self::cid(1)), "{command:?}");
    assert_eq!(routing.announcer.status(), Announcing::default());
}
