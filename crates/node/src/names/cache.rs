//! What names meant when they were resolved, until that expires, and whether a peer answered.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use super::{Pointer, Resolved};
use crate::locked;

/// An answer that may not be kept is kept so long, and one that may be for ever, no longer than a record lives.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(48 * 60 * 60);
/// Where nobody answered, nobody is asked again for so long: a pull has many requests, and none of them should wait.
pub const SILENCE: Duration = Duration::from_secs(30);
const REMEMBERED: usize = 4096;

/// The memory of it.
#[derive(Default)]
pub struct Cache(Mutex<HashMap<Pointer, Meant>>);

struct Meant {
    resolved: Resolved,
    until: Instant,
    /// How many had joined by then: somebody new may know more than those who were silent.
    joins: usize,
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, HashMap<Pointer, Meant>> {
        locked(&self.0)
    }

    /// What may be used without asking anybody.
    pub fn get(&self, pointer: &Pointer, joins: usize, now: Instant) -> Option<Resolved> {
        let meanings = self.lock();
        let meant = meanings.get(pointer)?;
        let is_good = meant.until > now && (!meant.resolved.stale || meant.joins == joins);
        is_good.then(|| meant.resolved.clone())
    }

    /// Keeps an answer for its time to live, or what was taken in its place for a while.
    pub fn put(&self, pointer: Pointer, resolved: Resolved, ttl: Duration, joins: usize, now: Instant) {
        let mut meanings = self.lock();
        if meanings.len() >= REMEMBERED {
            meanings.retain(|_, meant| meant.until > now);
        }
        if meanings.len() < REMEMBERED {
            let time = if resolved.stale { SILENCE } else { ttl.clamp(SHORTEST, LONGEST) };
            meanings.insert(pointer, Meant { resolved, until: now + time, joins });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    #[test]
    fn an_answer_is_used_for_its_time_and_silence_for_a_while_or_until_somebody_joins() {
        let (cache, pointer) = (Cache::default(), "example.org".parse::<Pointer>().unwrap());
        let resolved = |stale| Resolved { value: "/ipfs/x".into(), stale };
        let start = Instant::now();
        let put = |stale, ttl, joins| cache.put(pointer.clone(), resolved(stale), ttl, joins, start);
        let get = |joins, later| cache.get(&pointer, joins, start + later);
        assert_eq!(get(0, Duration::ZERO), None);

        put(false, TTL, 0);
        assert_eq!(get(1, TTL - SHORTEST), Some(resolved(false)));
        assert_eq!(get(0, TTL), None);
        put(false, Duration::ZERO, 0);
        assert_eq!(get(0, SHORTEST / 2), Some(resolved(false)));

        put(true, Duration::ZERO, 1);
        assert_eq!(get(1, SILENCE / 2), Some(resolved(true)));
        assert_eq!(get(2, SILENCE / 2), None);
        assert_eq!(get(1, SILENCE), None);
    }
}
