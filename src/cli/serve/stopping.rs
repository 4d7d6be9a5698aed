//! How long a node takes to stop: by default at most 5 s from the signal, as service managers and scripts expect.

use std::time::Duration;

/// From the signal until transfers are broken off. The rest of the 5 s is for closing the swarm and the store.
const TRANSFERS_END: Duration = Duration::from_secs(4);
/// Transfers get this long after a longer `--drain-delay`.
const MIN_TRANSFER_TIME: Duration = Duration::from_secs(2);

/// Returns how long transfers may still take, so long after the signal.
pub fn transfer_time(since_signal: Duration) -> Duration {
    TRANSFERS_END.saturating_sub(since_signal).max(MIN_TRANSFER_TIME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::settings::DRAIN_DELAY;

    #[test]
    fn the_default_drain_leaves_a_second_of_five_to_close() {
        for delay in [Duration::ZERO, DRAIN_DELAY] {
            assert_eq!(delay + transfer_time(delay), Duration::from_secs(4), "{delay:?}");
        }
    }

    #[test]
    fn transfers_get_two_seconds_after_any_delay() {
        for seconds in [3, 4, 5, 30] {
            assert_eq!(transfer_time(Duration::from_secs(seconds)), MIN_TRANSFER_TIME, "{seconds}");
        }
    }
}
