//! Events that a client can bring about as often as it likes: each is told once a minute, and only so many of them.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::http::lock::locked;

/// How long the same event is told once.
const WINDOW: Duration = Duration::from_secs(60);
/// Events of one window.
const MAX_EVENTS: usize = 1_000;
/// Those of one address, so that one client does not hide what others do.
const MAX_PER_CLIENT: u32 = 100;

/// What was told in this minute.
#[derive(Default)]
pub struct Repeated {
    hasher: RandomState,
    window: Mutex<Window>,
}

#[derive(Default)]
struct Window {
    began: Option<Instant>,
    told: HashSet<u64>,
    clients: HashMap<Option<IpAddr>, u32>,
    is_full: bool,
}

impl Repeated {
    /// Whether an event of a client is to be told: it is another one than those of this minute, and there is room for it.
    pub fn is_new(&self, client: Option<IpAddr>, event: impl Hash, now: Instant) -> bool {
        let hash = self.hasher.hash_one(event);
        let mut window = locked(&self.window);
        if window.began.is_none_or(|began| now.duration_since(began) >= WINDOW) {
            *window = Window { began: Some(now), ..Window::default() };
        }
        if window.told.contains(&hash) {
            return false;
        }
        let of_client = window.clients.get(&client).copied().unwrap_or_default();
        if window.told.len() < MAX_EVENTS && of_client < MAX_PER_CLIENT {
            window.clients.insert(client, of_client + 1);
            return window.told.insert(hash);
        }
        if !std::mem::replace(&mut window.is_full, true) {
            tracing::warn!(
                "too many logins failed or requests were denied within a minute; further ones are not told"
            );
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: usize) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, (n / 256) as u8, n as u8]))
    }

    #[test]
    fn the_same_event_is_told_once_a_minute_and_only_so_many_are_told() {
        let (repeated, begin) = (Repeated::default(), Instant::now());
        let is_new = |client, event: &str, now| repeated.is_new(address(client), event, now);
        assert!(is_new(0, "a", begin) && !is_new(0, "a", begin + WINDOW / 2));
        let told = (0..2 * MAX_EVENTS).filter(|n| is_new(*n, &n.to_string(), begin)).count();
        assert_eq!(told, MAX_EVENTS - 1);
        assert!(!is_new(1, "b", begin));
        assert!(is_new(0, "a", begin + WINDOW) && is_new(0, "b", begin + WINDOW));
    }

    #[test]
    fn one_client_does_not_hide_what_others_do() {
        let (repeated, begin) = (Repeated::default(), Instant::now());
        let told = (0..2 * MAX_EVENTS).filter(|n| repeated.is_new(address(1), n, begin)).count();
        assert_eq!(told, MAX_PER_CLIENT as usize);
        assert!(repeated.is_new(address(2), "another", begin));
    }
}
