//! The clocks of connected peers, compared with that of this machine: where no time server is reachable, a clock may be wrong by
//! years, and IPNS records are valid until a time of day.

use std::{collections::HashMap, sync::Mutex};

use libp2p::PeerId;

use super::{Peers, seconds as now};
use crate::locked;

/// A smaller difference does not matter to records that are valid for two days.
const TOLERANCE_SECONDS: i64 = 300;

/// How the clock of this machine differs from those of connected peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockDifference {
    /// Peers whose clock was compared.
    pub compared: usize,
    /// Those among them whose clock differs by more than five minutes.
    pub differing: usize,
    /// Seconds that the clock of most peers is ahead of that of this machine; negative if it is behind.
    pub ahead_seconds: i64,
}

impl ClockDifference {
    /// Returns whether most peers have another time: then the clock of this machine is the wrong one.
    pub fn is_own(&self) -> bool {
        self.ahead_seconds.saturating_abs() > TOLERANCE_SECONDS
    }
}

/// How many seconds the clock of each connected peer is ahead.
#[derive(Default)]
pub(super) struct Clocks(Mutex<HashMap<PeerId, i64>>);

impl Clocks {
    pub(super) fn forget(&self, peer: &PeerId) {
        locked(&self.0).remove(peer);
    }
}

impl Peers {
    /// Records what time it is at a peer, and warns of a difference that is new.
    pub(crate) fn told_time(&self, peer: PeerId, seconds: u64) {
        let ahead = (seconds as i64).saturating_sub(now() as i64);
        let is_off = |ahead: i64| ahead.saturating_abs() > TOLERANCE_SECONDS;
        // Its answer may come after it disconnected.
        if !self.is_connected(&peer) {
            return;
        }
        let before = locked(&self.0.clocks.0).insert(peer, ahead);
        if is_off(ahead) && !before.is_some_and(is_off) {
            let difference = rounded(ahead.unsigned_abs());
            let direction = if ahead > 0 { "ahead of" } else { "behind" };
            tracing::warn!(
                %peer,
                "the clock of this peer is {difference} {direction} that of this machine: IPNS records expire by the clock; \
                 see `ocipfs status`"
            );
        }
    }

    /// Returns how the clock of this machine differs from those of connected peers.
    pub(crate) fn clock_difference(&self) -> ClockDifference {
        let all: Vec<i64> = locked(&self.0.clocks.0).values().copied().collect();
        difference(all)
    }
}

fn difference(mut ahead: Vec<i64>) -> ClockDifference {
    ahead.sort_unstable();
    let differing = ahead.iter().filter(|ahead| ahead.saturating_abs() > TOLERANCE_SECONDS).count();
    let compared = ahead.len();
    // Of an even number of peers the one that differs less, so that half of them do not outvote this machine.
    let middle = [ahead.get(compared.saturating_sub(1) / 2), ahead.get(compared / 2)];
    let ahead_seconds = middle.into_iter().flatten().copied().min_by_key(|ahead| ahead.unsigned_abs());
    ClockDifference { compared, differing, ahead_seconds: ahead_seconds.unwrap_or_default() }
}

/// Returns a duration in its largest unit.
fn rounded(seconds: u64) -> String {
    match seconds {
        0..7_200 => format!("{} minutes", seconds / 60),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_this_machine_is_wrong_if_most_peers_have_another_time() {
        const YEAR: i64 = 365 * 24 * 60 * 60;
        for (ahead, differing, ahead_seconds, is_own) in [
            (vec![], 0, 0, false),
            (vec![2], 0, 2, false),
            (vec![YEAR], 1, YEAR, true),
            (vec![YEAR, 0], 1, 0, false),
            (vec![-YEAR, -1, 0], 1, -1, false),
            (vec![3 * YEAR, 3 * YEAR + 1, 0], 2, 3 * YEAR, true),
            (vec![-YEAR, -YEAR], 2, -YEAR, true),
            (vec![i64::MIN, i64::MAX], 2, i64::MAX, true),
        ] {
            let compared = ahead.len();
            let found = difference(ahead);
            assert_eq!(found, ClockDifference { compared, differing, ahead_seconds });
            assert_eq!(found.is_own(), is_own, "{found:?}");
        }
    }
}
