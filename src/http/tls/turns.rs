//! Turns of handshakes: how many are made at one time, by all clients and by those of one source.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::http::{lock::locked, source::Source};

/// Handshakes that are computed, or wait for a client's part, at one time.
pub const MAX_HANDSHAKES: usize = 256;
/// Those of one source; further ones wait for their turn.
pub const MAX_OF_SOURCE: usize = 32;

/// Handshakes at one time.
pub struct Turns {
    all: Semaphore,
    sources: Mutex<HashMap<Source, Arc<Semaphore>>>,
}

/// A handshake, until this is dropped.
pub struct Turn<'a> {
    turns: &'a Turns,
    source: Source,
    of_source: Option<OwnedSemaphorePermit>,
    _of_all: Option<SemaphorePermit<'a>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { all: Semaphore::new(MAX_HANDSHAKES), sources: Mutex::default() }
    }
}

impl Turns {
    /// Waits for a turn: first among those of the same source, so that it cannot crowd out others. A proxy on this machine may have
    /// all.
    pub async fn next(&self, source: Source) -> Turn<'_> {
        // Before the waits: it forgets the source even if the connection ends meanwhile.
        let mut turn = Turn { turns: self, source, of_source: None, _of_all: None };
        // The semaphores are never closed.
        if !source.is_loopback() {
            turn.of_source = self.own(source).acquire_owned().await.ok();
        }
        turn._of_all = self.all.acquire().await.ok();
        turn
    }

    /// The handshakes of a source that are made, or wait for their turn.
    #[cfg(test)]
    pub fn count(&self, source: Source) -> usize {
        locked(&self.sources).get(&source).map_or(0, |own| Arc::strong_count(own) - 1)
    }

    /// The places of one source.
    fn own(&self, source: Source) -> Arc<Semaphore> {
        let new = || Arc::new(Semaphore::new(MAX_OF_SOURCE));
        locked(&self.sources).entry(source).or_insert_with(new).clone()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        drop(self.of_source.take());
        let mut sources = locked(&self.turns.sources);
        // Turns and waiting connections have it, too.
        if sources.get(&self.source).is_some_and(|own| Arc::strong_count(own) == 1) {
            sources.remove(&self.source);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_handshakes_of_one_source_leave_turns_for_others() {
        let turns = Turns::default();
        let [stranger, other] = ["2001:db8::1", "192.0.2.1"].map(|text| Source::of(text.parse().unwrap()));
        let mut held = Vec::new();
        for _ in 0..MAX_OF_SOURCE {
            held.push(turns.next(stranger).now_or_never().expect("a turn"));
        }
        let mut waiting: Vec<_> = (0..2 * MAX_HANDSHAKES).map(|_| Box::pin(turns.next(stranger))).collect();
        assert!(waiting.iter_mut().all(|turn| turn.now_or_never().is_none()));
        drop(turns.next(other).now_or_never().expect("a turn of another source"));
        held.pop();
        drop(waiting.remove(0).now_or_never().expect("the next turn"));
        drop((waiting, held));
        assert!(locked(&turns.sources).is_empty(), "a source without a handshake is forgotten");
    }

    #[tokio::test]
    async fn a_proxy_on_this_machine_may_have_the_turns_of_all() {
        let turns = Turns::default();
        let [proxy, other] = ["127.0.0.1", "192.0.2.1"].map(|text| Source::of(text.parse().unwrap()));
        let mut held = Vec::new();
        for _ in 0..MAX_HANDSHAKES {
            held.push(turns.next(proxy).await);
        }
        assert!(turns.next(other).now_or_never().is_none());
        held.pop();
        drop(turns.next(other).await);
    }
}
