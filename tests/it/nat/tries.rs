//! Fetches that are tried several times, and what must hold of all of them.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{hosts::BETWEEN_LOOKS, lab::Lab};

/// Tries of each kind unless `OCIPFS_TEST_NAT_TRIES` says otherwise.
const DEFAULT: usize = 2;
/// Of so many tries a share is asserted; of fewer, one that is late would decide.
const FULL_SIZE: usize = 10;
/// How long after the request nearly all tries are connected without the relay.
const SOON: Duration = Duration::from_secs(3);
/// The share of them, in percent.
const NEARLY_ALL: usize = 95;
/// A relayed connection carries only what it takes to agree on a direct one.
pub const MAX_RELAYED_BYTES: u64 = 256 << 10;

pub fn number() -> usize {
    std::env::var("OCIPFS_TEST_NAT_TRIES").map_or(DEFAULT, |text| text.parse().expect("a number"))
}

/// One fetch.
#[derive(Debug)]
pub struct Try {
    /// From the request to a direct connection, as seen from outside.
    direct: Option<Duration>,
    /// Until the request was answered.
    took: Duration,
    /// Whether the right bytes came, or why none.
    fetched: Result<bool, String>,
    /// Bytes that the relay received and sent meanwhile.
    relayed: u64,
}

impl Try {
    /// Fetches in a thread, and looks for the direct connection meanwhile.
    pub fn of(
        lab: &Lab,
        fetch: impl FnOnce() -> Result<bool, String> + Send,
        is_direct: impl Fn() -> bool,
    ) -> Self {
        let (before, begun) = (lab.bytes("r"), Instant::now());
        let look = || is_direct().then(|| begun.elapsed());
        thread::scope(|scope| {
            let fetch = scope.spawn(|| {
                let fetched = fetch();
                (fetched, begun.elapsed())
            });
            let mut direct = None;
            while direct.is_none() && !fetch.is_finished() {
                thread::sleep(BETWEEN_LOOKS);
                direct = look();
            }
            let (fetched, took) = fetch.join().expect("the fetch ends");
            // The content came over that connection, and a look takes its time.
            let seen_by = if fetched == Ok(true) { took } else { Duration::MAX };
            let direct = direct.or_else(look).map(|seen| seen.min(seen_by));
            Self { direct, took, fetched, relayed: lab.bytes("r") - before }
        })
    }

    fn succeeded(&self) -> bool {
        self.fetched == Ok(true) && self.direct.is_some() && self.is_spared()
    }

    /// Whether the relay carried no content.
    fn is_spared(&self) -> bool {
        self.relayed < MAX_RELAYED_BYTES
    }
}

/// Runs the tries, each with a number of its own. Of the full size, nearly all must be connected directly soon; of fewer, all must
/// succeed. Then one that fails is printed and repeated: some starts of Kubo punch no hole.
pub fn run(what: &str, mut attempt: impl FnMut(usize) -> Try) {
    let count = number();
    let mut tries: Vec<Try> = (0..count).map(&mut attempt).collect();
    let is_full = count >= FULL_SIZE;
    if !is_full && let Some(failed) = tries.iter().position(|one| !one.succeeded()) {
        eprintln!("{what}: repeated: {:?}", tries.remove(failed));
        tries.push(attempt(count));
    }
    print(what, &tries);
    let failures: Vec<_> = tries.iter().filter(|one| !one.succeeded()).collect();
    assert!(tries.iter().all(Try::is_spared), "{what}: content went over the relay: {failures:#?}");
    let soon = tries.iter().filter(|one| one.succeeded() && one.direct <= Some(SOON)).count();
    match is_full {
        true => assert!(soon * 100 >= count * NEARLY_ALL, "{what}: {soon} of {count} were soon: {tries:#?}"),
        false => assert!(failures.is_empty(), "{what}: {failures:#?}"),
    }
}

fn print(what: &str, tries: &[Try]) {
    let sorted = |of: fn(&Try) -> Option<Duration>| {
        let mut seconds: Vec<f64> = tries.iter().filter_map(of).map(|time| time.as_secs_f64()).collect();
        seconds.sort_by(f64::total_cmp);
        seconds
    };
    let (direct, took) = (sorted(|one| one.direct), sorted(|one| Some(one.took)));
    eprintln!("{what}: {} tries, direct after {direct:.2?} s, fetched after {took:.2?} s", tries.len());
}
