//! Maximum rates of the blocks that are sent to and received from peers, over all peers.

use std::{num::NonZeroU64, sync::Mutex, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::locked;

/// Shorter messages, which are wants and presences, do not wait: without them the other direction would stop, too.
const SHORT: usize = 4 << 10;
/// What does not wait holds up the rest for so long at most: peers decide how much of it comes.
const MAX_DEBT: Duration = Duration::from_secs(1);
/// Bytes of so much time may pass at once after a pause.
const BURST: Duration = Duration::from_millis(100);

/// Maximum rates in bytes per second, over all peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of what is sent to peers.
    pub upload: Option<NonZeroU64>,
    /// Of what is received from peers.
    pub download: Option<NonZeroU64>,
}

impl Rates {
    /// The lowest rate: at a lower one, what is in flight for a few peers would take longer than they wait.
    pub const MIN: u64 = 256 << 10;
}

/// Lets bytes pass at a rate, in the order in which they came.
pub(crate) struct Pacer {
    rate: Option<NonZeroU64>,
    /// Whose turn it is to wait.
    turn: tokio::sync::Mutex<()>,
    /// When all that has passed is paid for.
    paid: Mutex<Instant>,
}

impl Pacer {
    pub fn new(rate: Option<NonZeroU64>) -> Self {
        Self { rate, turn: tokio::sync::Mutex::default(), paid: Mutex::new(Instant::now()) }
    }

    /// Waits until so many bytes may pass. They pass whole: the next ones wait for longer.
    pub async fn pass(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        if bytes < SHORT {
            return self.count(bytes);
        }
        let _turn = self.turn.lock().await;
        let paid = *locked(&self.paid);
        sleep_until(paid).await;
        let mut paid = locked(&self.paid);
        *paid = (*paid).max(Instant::now() - BURST) + time_of(bytes, rate);
    }

    /// Counts bytes that do not wait.
    pub fn count(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let (mut paid, now) = (locked(&self.paid), Instant::now());
        let before = (*paid).max(now - BURST);
        *paid = (before + time_of(bytes, rate)).min(before.max(now + MAX_DEBT));
    }
}

fn time_of(bytes: usize, rate: NonZeroU64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / rate.get() as f64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const RATE: u64 = 1 << 20;

    fn pacer() -> Arc<Pacer> {
        Arc::new(Pacer::new(NonZeroU64::new(RATE)))
    }

    #[tokio::test(start_paused = true)]
    async fn many_streams_together_stay_below_the_rate() {
        let (pacer, start) = (pacer(), Instant::now());
        let stream = || {
            let pacer = pacer.clone();
            async move {
                for _ in 0..16 {
                    pacer.pass(64 << 10).await;
                }
            }
        };
        futures::join!(stream(), stream(), stream(), stream());
        // 4 MiB, but for the last step and the burst.
        let took = start.elapsed().as_secs_f64();
        assert!((3.7..=4.0).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn short_messages_pass_at_once_and_are_paid_for() {
        let (pacer, start) = (pacer(), Instant::now());
        for _ in 0..512 {
            pacer.pass(1024).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        pacer.pass(SHORT).await;
        let took = start.elapsed().as_secs_f64();
        assert!((0.3..=0.5).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_short_messages_holds_up_the_rest_for_a_second_at_most() {
        let (pacer, start) = (pacer(), Instant::now());
        for _ in 0..1 << 20 {
            pacer.pass(1024).await;
        }
        pacer.count(1 << 30);
        pacer.pass(1 << 20).await;
        assert!(start.elapsed() <= MAX_DEBT, "{:?}", start.elapsed());
        // What waited for its turn is paid for in full.
        pacer.count(1024);
        pacer.pass(1 << 20).await;
        assert!(start.elapsed() >= MAX_DEBT, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_saves_up_no_more_than_a_burst() {
        let pacer = pacer();
        tokio::time::sleep(Duration::from_secs(60)).await;
        let start = Instant::now();
        for _ in 0..4 {
            pacer.pass(1 << 20).await;
        }
        assert!(start.elapsed() >= Duration::from_millis(2850), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_nothing_waits() {
        let (pacer, start) = (Pacer::new(None), Instant::now());
        for _ in 0..64 {
            pacer.pass(64 << 20).await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
