//! The cache of resolved names, with negative entries for names that no peer answered for.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use super::Resolved;
use crate::{MutableName, locked};

/// TTLs are clamped: at least 1 s, at most the lifetime of a record.
const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(48 * 60 * 60);
/// How long a name without an answer is not queried again: a pull has many requests, and none of them should wait.
pub const NEGATIVE_TTL: Duration = Duration::from_secs(30);
const CACHE_ENTRIES: usize = 4096;

/// The resolved names.
#[derive(Default)]
pub struct ResolutionCache(Mutex<HashMap<MutableName, CacheEntry>>);

struct CacheEntry {
    resolved: Resolved,
    until: Instant,
    /// Number of joins at that time: a new peer may know more than the silent ones.
    joins: usize,
}

impl ResolutionCache {
    fn lock(&self) -> MutexGuard<'_, HashMap<MutableName, CacheEntry>> {
        locked(&self.0)
    }

    /// Returns the cached value, if it can be used without a query.
    pub fn get(&self, name: &MutableName, joins: usize, now: Instant) -> Option<Resolved> {
        let entries = self.lock();
        let entry = entries.get(name)?;
        let is_good = entry.until > now && (!entry.resolved.stale || entry.joins == joins);
        is_good.then(|| entry.resolved.clone())
    }

    /// Caches an answer for its TTL, or a stale value for a while.
    pub fn put(&self, name: MutableName, resolved: Resolved, ttl: Duration, joins: usize, now: Instant) {
        let mut entries = self.lock();
        if entries.len() >= CACHE_ENTRIES {
            entries.retain(|_, entry| entry.until > now);
        }
        if entries.len() < CACHE_ENTRIES {
            let time = if resolved.stale { NEGATIVE_TTL } else { ttl.clamp(MIN_TTL, MAX_TTL) };
            entries.insert(name, CacheEntry { resolved, until: now + time, joins });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    #[test]
    fn a_cached_answer_expires_after_its_ttl_and_a_negative_one_when_a_peer_joins() {
        let (cache, name) = (ResolutionCache::default(), "example.org".parse::<MutableName>().unwrap());
        let resolved = |stale| Resolved { value: "/ipfs/x".into(), stale };
        let start = Instant::now();
        let put = |stale, ttl, joins| cache.put(name.clone(), resolved(stale), ttl, joins, start);
        let get = |joins, later| cache.get(&name, joins, start + later);
        assert_eq!(get(0, Duration::ZERO), None);

        put(false, TTL, 0);
        assert_eq!(get(1, TTL - MIN_TTL), Some(resolved(false)));
        assert_eq!(get(0, TTL), None);
        put(false, Duration::ZERO, 0);
        assert_eq!(get(0, MIN_TTL / 2), Some(resolved(false)));

        put(true, Duration::ZERO, 1);
        assert_eq!(get(1, NEGATIVE_TTL / 2), Some(resolved(true)));
        assert_eq!(get(2, NEGATIVE_TTL / 2), None);
        assert_eq!(get(1, NEGATIVE_TTL), None);
    }
}
