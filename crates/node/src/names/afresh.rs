//! Asking again although a cached answer may still be used: seldom, and once for all that wait for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync, time::Instant};

use super::{Pointer, lately::SILENCE};

/// A name is not asked for more often than this.
const INTERVAL: Duration = Duration::from_secs(1);
const MAX_NAMES: usize = 4096;

/// The next time at which each name may be asked for.
#[derive(Default)]
pub struct Afresh(Mutex<HashMap<Pointer, Turn>>);

/// Locked while peers or DNS are asked; before its time the cached answer is as good.
pub type Turn = Arc<sync::Mutex<Option<Instant>>>;

impl Afresh {
    pub fn turn(&self, pointer: &Pointer, now: Instant) -> Turn {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.len() >= MAX_NAMES {
            turns.retain(|_, turn| match turn.try_lock() {
                Ok(next) => next.is_some_and(|next| next > now),
                Err(_) => true,
            });
        }
        if turns.len() >= MAX_NAMES {
            turns.clear();
        }
        turns.entry(pointer.clone()).or_default().clone()
    }
}

/// How long a name is not asked for again. Where nobody answered, each request would wait for that.
pub fn pause(is_answered: bool) -> Duration {
    if is_answered { INTERVAL } else { SILENCE }
}
