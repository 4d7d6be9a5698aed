//! Asking again although a cached answer may still be used: seldom, and once for all that wait for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync, time::Instant};

use super::{Pointer, cache::SILENCE};
use crate::locked;

/// A name is not asked for more often than this.
const INTERVAL: Duration = Duration::from_secs(1);
const MAX_NAMES: usize = 4096;

/// The next time at which each name may be asked for.
#[derive(Default)]
pub struct Afresh(Mutex<HashMap<Pointer, Turn>>);

/// Locked while peers or DNS are asked.
type Turn = Arc<sync::Mutex<Option<Instant>>>;

impl Afresh {
    /// Asks for a name, whose answer comes with whether it is one of a peer or DNS; nothing where it is too soon and the last answer
    /// is as good. Callers that come while it is asked for wait for that.
    pub async fn ask<T>(
        &self,
        pointer: &Pointer,
        clock: impl Fn() -> Instant,
        ask: impl Future<Output = (T, bool)>,
    ) -> Option<T> {
        let turn = self.turn(pointer, clock());
        let mut next = turn.lock().await;
        if next.is_some_and(|next| next > clock()) {
            return None;
        }
        let (answer, is_answered) = ask.await;
        // Without an answer each request would wait for the whole timeout.
        *next = Some(clock() + if is_answered { INTERVAL } else { SILENCE });
        Some(answer)
    }

    fn turn(&self, pointer: &Pointer, now: Instant) -> Turn {
        let mut turns = locked(&self.0);
        if turns.len() >= MAX_NAMES {
            turns.retain(|_, turn| turn.try_lock().map_or(true, |next| next.is_some_and(|next| next > now)));
        }
        if turns.len() >= MAX_NAMES {
            turns.clear();
        }
        turns.entry(pointer.clone()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn a_name_is_resolved_afresh_once_for_all_callers_and_not_again_before_its_time() {
        let (afresh, pointer) = (Afresh::default(), "example.org".parse::<Pointer>().unwrap());
        let (asked, start, now) = (&Cell::new(0), Instant::now(), Cell::new(Duration::ZERO));
        let ask = |is_answered| {
            afresh.ask(&pointer, || start + now.get(), async move {
                tokio::task::yield_now().await;
                asked.set(asked.get() + 1);
                (asked.get(), is_answered)
            })
        };
        let answers = join_all((0..10).map(|_| ask(true))).await;
        assert_eq!(
            answers,
            [&[Some(1)][..], &[None; 9]].concat(),
            "those that waited take the answer from the cache"
        );
        now.set(INTERVAL - Duration::from_millis(1));
        assert_eq!(ask(true).await, None);
        now.set(INTERVAL);
        assert_eq!(ask(false).await, Some(2));
        now.set(2 * INTERVAL);
        assert_eq!(ask(true).await, None, "there was no answer just now");
        now.set(INTERVAL + SILENCE);
        assert_eq!(ask(true).await, Some(3));
    }

    #[tokio::test]
    async fn the_names_that_were_asked_for_are_bounded() {
        let (afresh, start) = (Afresh::default(), Instant::now());
        for n in 0..=MAX_NAMES {
            let pointer = format!("n{n}.example.org").parse::<Pointer>().unwrap();
            assert_eq!(afresh.ask(&pointer, || start, async { ((), true) }).await, Some(()));
        }
        assert_eq!(afresh.0.lock().unwrap().len(), 1);
    }
}
