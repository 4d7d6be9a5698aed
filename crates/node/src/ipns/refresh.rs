//! Querying a name although its cached value is still valid: rarely, and once for all waiting callers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync, time::Instant};

use super::cache::NEGATIVE_TTL;
use crate::{MutableName, locked};

/// The minimum time between two queries for a name.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const MAX_NAMES: usize = 4096;

/// When each name may be queried next.
#[derive(Default)]
pub struct Refreshes(Mutex<HashMap<MutableName, NextRefresh>>);

/// Locked while peers or DNS are queried.
type NextRefresh = Arc<sync::Mutex<Option<Instant>>>;

impl Refreshes {
    /// Runs a query, which also returns whether a peer or DNS answered. Returns `None` if it is too soon, and the last
    /// answer is as good. Callers that arrive during a query wait for it.
    pub async fn query<T>(
        &self,
        name: &MutableName,
        clock: impl Fn() -> Instant,
        query: impl Future<Output = (T, bool)>,
    ) -> Option<T> {
        let entry = self.entry(name, clock());
        let mut next = entry.lock().await;
        if next.is_some_and(|next| next > clock()) {
            return None;
        }
        let (answer, is_answered) = query.await;
        // Without an answer each request would wait for the whole timeout.
        *next = Some(clock() + if is_answered { MIN_INTERVAL } else { NEGATIVE_TTL });
        Some(answer)
    }

    fn entry(&self, name: &MutableName, now: Instant) -> NextRefresh {
        let mut entries = locked(&self.0);
        if entries.len() >= MAX_NAMES {
            entries
                .retain(|_, entry| entry.try_lock().map_or(true, |next| next.is_some_and(|next| next > now)));
        }
        if entries.len() >= MAX_NAMES {
            entries.clear();
        }
        entries.entry(name.clone()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn an_uncached_query_runs_once_for_all_callers_and_is_rate_limited() {
        let (refreshes, name) = (Refreshes::default(), "example.org".parse::<MutableName>().unwrap());
        let (asked, start, now) = (&Cell::new(0), Instant::now(), Cell::new(Duration::ZERO));
        let query = |is_answered| {
            refreshes.query(&name, || start + now.get(), async move {
                tokio::task::yield_now().await;
                asked.set(asked.get() + 1);
                (asked.get(), is_answered)
            })
        };
        let answers = join_all((0..10).map(|_| query(true))).await;
        assert_eq!(answers, [&[Some(1)][..], &[None; 9]].concat(), "waiting callers use the cached answer");
        now.set(MIN_INTERVAL - Duration::from_millis(1));
        assert_eq!(query(true).await, None);
        now.set(MIN_INTERVAL);
        assert_eq!(query(false).await, Some(2));
        now.set(2 * MIN_INTERVAL);
        assert_eq!(query(true).await, None, "there was no answer just now");
        now.set(MIN_INTERVAL + NEGATIVE_TTL);
        assert_eq!(query(true).await, Some(3));
    }

    #[tokio::test]
    async fn the_number_of_queried_names_is_bounded() {
        let (refreshes, start) = (Refreshes::default(), Instant::now());
        for n in 0..=MAX_NAMES {
            let name = format!("n{n}.example.org").parse::<MutableName>().unwrap();
            assert_eq!(refreshes.query(&name, || start, async { ((), true) }).await, Some(()));
        }
        assert_eq!(refreshes.0.lock().unwrap().len(), 1);
    }
}
