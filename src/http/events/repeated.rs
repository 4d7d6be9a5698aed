//! Events that a client can bring about as often as it likes: each is told once a minute, and only so many of them.

use std::{
    collections::HashSet,
    hash::{BuildHasher, Hash, RandomState},
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::http::lock::locked;

/// How long the same event is told once.
const WINDOW: Duration = Duration::from_secs(60);
/// Events of one window.
const MAX_EVENTS: usize = 1_000;

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
    is_full: bool,
}

impl Repeated {
    /// Whether an event is to be told: it is another one than those of this minute, and there is room for it.
    pub fn is_new(&self, event: impl Hash, now: Instant) -> bool {
        let hash = self.hasher.hash_one(event);
        let mut window = locked(&self.window);
        if window.began.is_none_or(|began| now.duration_since(began) >= WINDOW) {
            *window = Window { began: Some(now), ..Window::default() };
        }
        if window.told.len() < MAX_EVENTS {
            return window.told.insert(hash);
        }
        if !window.told.contains(&hash) && !std::mem::replace(&mut window.is_full, true) {
            tracing::warn!(
                "{MAX_EVENTS} logins failed or requests were denied within a minute; further ones are not told"
            );
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_event_is_told_once_a_minute_and_only_so_many_are_told() {
        let (repeated, begin) = (Repeated::default(), Instant::now());
        assert!(repeated.is_new("a", begin) && !repeated.is_new("a", begin + WINDOW / 2));
        let told = (0..2 * MAX_EVENTS).filter(|n| repeated.is_new(n, begin)).count();
        assert_eq!(told, MAX_EVENTS - 1);
        assert!(!repeated.is_new("b", begin));
        assert!(repeated.is_new("a", begin + WINDOW) && repeated.is_new("b", begin + WINDOW));
    }
}
