//! One honest peer among many that are silent, slow or hostile, or lack the blocks: the pull succeeds within its
//! deadlines.

use proptest::prelude::*;

use super::*;

/// A DAG's root, of unknown length, and its leaves.
const ROOT: u32 = 0;
const LEAVES: std::ops::Range<u32> = 1..9;
/// The defaults of `--find-timeout` and `--stall-timeout`.
const FIND_TIMEOUT: Duration = Duration::from_secs(10);
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Honest,
    /// Honest, with a round trip of 1.5 s.
    Slow,
    Silent,
    /// Claims to have every block, and sends none.
    Claims,
    /// Claims to have every block, and sends wrong bytes.
    Forges,
    /// Has no block and says so.
    Lacks,
}

#[derive(Clone, Copy, Debug)]
struct Stranger {
    manner: Manner,
    supports_presences: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    Have,
    DontHave,
    Block,
    Forged,
}

impl Stranger {
    fn answer(self, wants_block: bool) -> Option<(Duration, Said)> {
        let soon = Duration::from_millis(30);
        let slow = Duration::from_millis(1500);
        let have = if wants_block { Said::Block } else { Said::Have };
        match self.manner {
            Manner::Honest => Some((soon, have)),
            Manner::Slow => Some((slow, have)),
            Manner::Silent => None,
            Manner::Claims => (!wants_block).then_some((soon, Said::Have)),
            Manner::Forges => Some((soon, if wants_block { Said::Forged } else { Said::Have })),
            Manner::Lacks => wants_block.then_some((soon, Said::DontHave)),
        }
    }
}

/// A session, its peers, and their pending answers.
struct Crowd {
    session: Session,
    strangers: HashMap<PeerId, Stranger>,
    now: Instant,
    heard: HashMap<PeerId, Instant>,
    coming: Vec<(Instant, PeerId, Cid, Said)>,
}

impl Crowd {
    /// The first strangers get the smallest peer ids.
    fn new(strangers: Vec<Stranger>) -> Self {
        let mut ids: Vec<PeerId> = strangers.iter().map(|_| PeerId::random()).collect();
        ids.sort_unstable();
        let mut session = Session::default();
        for (id, stranger) in ids.iter().zip(&strangers) {
            session.add_peer(*id, u64::MAX, stranger.supports_presences);
        }
        let strangers = ids.into_iter().zip(strangers).collect();
        let (heard, coming) = Default::default();
        Self { session, strangers, now: Instant::now(), heard, coming }
    }

    /// Plans once and advances the clock to the next answer or tick. Returns whether a block arrived.
    fn step(&mut self) -> bool {
        let heard = self.heard.clone();
        let free_wants = 1000;
        let peer_state = |peer: &PeerId| PeerState { last_activity: heard.get(peer).copied(), free_wants };
        for request in self.session.plan(self.now, &peer_state) {
            let (peer, cid, wants_block) = match request {
                Request::Block { peer, cid, .. } => (peer, cid, true),
                Request::Have { peer, cid } => (peer, cid, false),
                Request::Cancel { .. } => continue,
            };
            if let Some((delay, said)) = self.strangers[&peer].answer(wants_block) {
                self.coming.push((self.now + delay, peer, cid, said));
            }
        }
        let next = self.coming.iter().map(|(at, ..)| *at).min();
        self.now = next.map_or(self.now + TICK, |at| at.min(self.now + TICK));
        let due = self.coming.extract_if(.., |(at, ..)| *at <= self.now).collect::<Vec<_>>();
        due.into_iter().filter(|(_, peer, cid, said)| self.hear(peer, cid, *said)).count() > 0
    }

    fn hear(&mut self, peer: &PeerId, cid: &Cid, said: Said) -> bool {
        self.heard.insert(*peer, self.now);
        match said {
            Said::Have => _ = self.session.on_have(peer, cid),
            Said::DontHave => _ = self.session.on_dont_have(peer, cid),
            Said::Block => return self.session.on_block(peer, cid, MIB, self.now),
            // As the client does with a peer that sent wrong blocks.
            Said::Forged => self.session.ban_peer(peer),
        }
        false
    }

    fn finds_the_root(&mut self) -> Result<(), String> {
        self.session.want([WantedBlock::new(cid(ROOT), 0)]);
        let begun = self.now;
        while !self.step() {
            let inquiry = self.session.inquiry(&cid(ROOT));
            let waited = self.now - begun;
            if inquiry.ends(begun).is_some_and(|at| at <= self.now) {
                return Err(format!("not found after {waited:?}: {inquiry:?}"));
            }
            if waited > FIND_TIMEOUT {
                return Err(format!("timed out: {inquiry:?}"));
            }
        }
        Ok(())
    }

    fn gets_the_leaves(&mut self) -> Result<(), String> {
        self.session.want(LEAVES.map(|n| WantedBlock::new(cid(n), MIB)));
        let mut last = self.now;
        while self.session.wants().next().is_some() {
            if self.step() {
                last = self.now;
            }
            if self.now - last > STALL_TIMEOUT {
                return Err(format!("no block for {STALL_TIMEOUT:?}, {} left", self.session.wants().count()));
            }
        }
        Ok(())
    }

    fn pulls(&mut self) -> Result<(), String> {
        self.finds_the_root()?;
        self.gets_the_leaves()
    }
}

fn strangers(manner: Manner, count: usize) -> Vec<Stranger> {
    vec![Stranger { manner, supports_presences: true }; count]
}

#[test]
fn an_honest_peer_is_found_among_hundreds_of_hostile_peers() {
    for manner in [Manner::Silent, Manner::Claims, Manner::Forges, Manner::Lacks] {
        for honest in [Manner::Honest, Manner::Slow] {
            let mut crowd = Crowd::new([strangers(manner, 400), strangers(honest, 1)].concat());
            assert_eq!(crowd.pulls(), Ok(()), "{honest:?} among {manner:?}");
        }
    }
}

#[test]
fn a_peer_that_sends_have_is_asked_at_once_despite_silent_peers() {
    let mut crowd = Crowd::new([strangers(Manner::Silent, 30), strangers(Manner::Honest, 1)].concat());
    let begun = crowd.now;
    assert_eq!(crowd.finds_the_root(), Ok(()));
    assert!(crowd.now - begun < HEDGE_DELAY, "{:?}", crowd.now - begun);
}

#[test]
fn not_found_is_reported_after_every_peer_had_time_to_answer() {
    for manner in [Manner::Silent, Manner::Lacks] {
        let mut crowd = Crowd::new(strangers(manner, 300));
        let begun = crowd.now;
        let error = crowd.finds_the_root().unwrap_err();
        assert!(error.contains("not found") && error.contains("unasked: 0"), "{error}");
        assert!(crowd.now - begun < Duration::from_secs(5), "{error}");
    }
    let mut empty = Crowd::new(vec![]);
    assert!(empty.finds_the_root().unwrap_err().contains("not found after 100ms"));
}

fn stranger() -> impl Strategy<Value = Stranger> {
    let manner = prop_oneof![
        1 => Just(Manner::Slow),
        4 => Just(Manner::Silent),
        4 => Just(Manner::Claims),
        1 => Just(Manner::Forges),
        2 => Just(Manner::Lacks),
    ];
    (manner, prop::bool::weighted(0.9))
        .prop_map(|(manner, supports_presences)| Stranger { manner, supports_presences })
}

/// The number of random crowds.
fn runs() -> u32 {
    std::env::var("OCIPFS_TEST_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(16)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: runs(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pull_succeeds_with_one_honest_peer_in_any_crowd(
        mut crowd in prop_oneof![prop::collection::vec(stranger(), 0..40), prop::collection::vec(stranger(), 300..320)],
        at in any::<prop::sample::Index>(),
        supports_presences in prop::bool::weighted(0.9),
        manner in prop_oneof![Just(Manner::Honest), Just(Manner::Slow)],
    ) {
        let at = at.index(crowd.len() + 1);
        crowd.insert(at, Stranger { manner, supports_presences });
        prop_assert_eq!(Crowd::new(crowd).pulls(), Ok(()));
    }
}
