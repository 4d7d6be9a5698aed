//! Rate limits: a bucket of tokens for each user or address, in a table that does not grow.

use std::{
    collections::HashMap,
    hash::Hash,
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Deserialize;

/// Buckets at one time. One that is full again says nothing and goes first.
const MAX_BUCKETS: usize = 10_000;

/// Requests in a time: so many at once, and as many again in each such time.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rate {
    burst: f64,
    per_second: f64,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid =
            || format!("invalid rate {text:?}: expected requests in a time, such as 100/1s or 5000/1h");
        let (burst, time) = text.split_once('/').ok_or_else(invalid)?;
        let burst: u32 = burst.trim().parse().map_err(|_| invalid())?;
        let time = match time.trim() {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            time => humantime::parse_duration(time).map_err(|_| invalid())?,
        };
        if burst == 0 || time.is_zero() {
            return Err(invalid());
        }
        let burst = f64::from(burst);
        Ok(Self { burst, per_second: burst / time.as_secs_f64() })
    }
}

impl TryFrom<String> for Rate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// What is left of a bucket, as of a moment.
struct Bucket {
    left: f64,
    at: Instant,
}

/// Buckets by their owners.
pub struct Buckets<K>(Mutex<HashMap<K, Bucket>>);

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash> Buckets<K> {
    /// Takes one request from the bucket of an owner.
    ///
    /// # Errors
    /// Returns how long to wait where the bucket is empty.
    pub fn take(&self, owner: &K, rate: Rate, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(owner) {
            make_room(&mut buckets, rate, now);
        }
        let bucket = buckets.entry(owner.clone()).or_insert(Bucket { left: rate.burst, at: now });
        bucket.left = refilled(bucket, rate, now);
        bucket.at = now;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - bucket.left) / rate.per_second))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

fn refilled(bucket: &Bucket, rate: Rate, now: Instant) -> f64 {
    let since = now.saturating_duration_since(bucket.at).as_secs_f64();
    (bucket.left + since * rate.per_second).min(rate.burst)
}

/// Drops buckets that are full again; where that is not enough, the fuller half, whose owners gain least by it. So much is
/// dropped at once that a crowd of new owners costs little for each.
fn make_room<K: Clone + Eq + Hash>(buckets: &mut HashMap<K, Bucket>, rate: Rate, now: Instant) {
    buckets.retain(|_, bucket| refilled(bucket, rate, now) < rate.burst);
    if buckets.len() < MAX_BUCKETS {
        return;
    }
    let mut left: Vec<f64> = buckets.values().map(|bucket| refilled(bucket, rate, now)).collect();
    let middle = left.len() / 2;
    let (_, median, _) = left.select_nth_unstable_by(middle, f64::total_cmp);
    let median = *median;
    buckets.retain(|_, bucket| refilled(bucket, rate, now) < median);
}
