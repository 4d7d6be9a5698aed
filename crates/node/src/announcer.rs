//! Announces this node's roots to the routing system, before their records expire and when a peer joins a small swarm.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures::{StreamExt, future::OptionFuture, stream::FuturesUnordered};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior},
};

use crate::{Cid, command::SwarmCommand, inline_bytes, locked};

/// Keys announced at the same time: few for a short queue, more for a long one, where each has to wait for the round
/// trips of many others.
const CONCURRENCY: RangeInclusive<usize> = 16..=64;
/// Peers join in groups; one round serves them all.
pub(crate) const JOIN_PAUSE: Duration = Duration::from_millis(300);
const RETRY_PAUSE: Duration = Duration::from_secs(30);
/// Up to this size every peer is among the closest to every key (Kademlia's k), so a new peer needs the records.
pub(crate) const SMALL_SWARM: usize = 20;

/// The progress of announcing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announcing {
    /// Keys whose record at least one peer has accepted.
    pub announced: usize,
    /// Keys whose record no peer has accepted yet.
    pub pending: usize,
    /// How long the longest waiting key has been due, new or to be repeated; zero if none is due, or no peer is connected.
    pub lag: Duration,
}

#[derive(Clone, Copy)]
struct KeyState {
    stage: AnnounceStage,
    announced: bool,
    /// Since when the key has been due.
    due: Option<Instant>,
}

impl KeyState {
    fn waited(&self, now: Instant) -> Duration {
        let repeated = match self.stage {
            AnnounceStage::Waiting { until } if until <= now => Some(until),
            _ => None,
        };
        self.due.or(repeated).map(|due| now.saturating_duration_since(due)).unwrap_or_default()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum AnnounceStage {
    /// In a queue.
    Queued,
    /// Being announced; `again` if a peer joined meanwhile.
    InProgress { again: bool },
    /// Announced, or to be retried, at this time.
    Waiting { until: Instant },
}

/// The keys that this node announces.
#[derive(Clone, Default)]
pub(crate) struct Announcer(Arc<AnnouncerState>);

#[derive(Default)]
struct AnnouncerState {
    keys: Mutex<Keys>,
    more: Notify,
}

#[derive(Default)]
struct Keys {
    states: BTreeMap<Cid, KeyState>,
    /// Keys that are new, the oldest first. They go before the others: a peer may be searching for one already, while a
    /// repetition can wait.
    new: VecDeque<Cid>,
    /// Keys to announce again, or of an earlier run, the longest due first.
    repeated: VecDeque<Cid>,
}

impl Keys {
    /// Queues the waiting keys that match; a key that is being announced will be announced again.
    fn queue(&mut self, now: Instant, matches: impl Fn(&KeyState) -> bool) {
        for (cid, state) in self.states.iter_mut().filter(|(_, state)| matches(state)) {
            let repeated = match state.stage {
                AnnounceStage::Waiting { until } => until.min(now),
                _ => now,
            };
            state.due.get_or_insert(repeated);
            match &mut state.stage {
                AnnounceStage::Queued => {}
                AnnounceStage::InProgress { again } => *again = true,
                AnnounceStage::Waiting { .. } => {
                    state.stage = AnnounceStage::Queued;
                    self.repeated.push_back(*cid);
                }
            }
        }
    }

    /// Returns how many keys to announce at the same time, for the length of the queues.
    fn concurrency(&self) -> usize {
        ((self.new.len() + self.repeated.len()) / 8).clamp(*CONCURRENCY.start(), *CONCURRENCY.end())
    }

    fn next(&mut self) -> Option<Cid> {
        loop {
            let cid = self.new.pop_front().or_else(|| self.repeated.pop_front())?;
            // Otherwise it was removed meanwhile.
            if let Some(state) = self.states.get_mut(&cid)
                && state.stage == AnnounceStage::Queued
            {
                state.stage = AnnounceStage::InProgress { again: false };
                return Some(cid);
            }
        }
    }

    /// Records an answer. Returns whether the key is still to be announced.
    fn answered(&mut self, cid: Cid, accepted: bool, every: Duration) -> bool {
        let Some(state) = self.states.get_mut(&cid) else { return false };
        state.announced |= accepted;
        if accepted {
            state.due = None;
        }
        if state.stage == (AnnounceStage::InProgress { again: true }) {
            state.stage = AnnounceStage::Queued;
            state.due.get_or_insert_with(Instant::now);
            self.repeated.push_back(cid);
        } else if state.stage != AnnounceStage::Queued {
            let pause = if accepted { every } else { RETRY_PAUSE.min(every) };
            state.stage = AnnounceStage::Waiting { until: Instant::now() + pause };
        }
        true
    }
}

impl Announcer {
    fn keys(&self) -> MutexGuard<'_, Keys> {
        locked(&self.0.keys)
    }

    pub(crate) fn add(&self, cids: impl IntoIterator<Item = Cid>) {
        self.enter(cids, true);
    }

    /// Adds keys of an earlier run, which may have announced them: the swarm keeps records for a time.
    pub(crate) fn add_known(&self, cids: impl IntoIterator<Item = Cid>) {
        self.enter(cids, false);
    }

    fn enter(&self, cids: impl IntoIterator<Item = Cid>, are_new: bool) {
        let (mut keys, due) = (self.keys(), Some(Instant::now()));
        let Keys { states, new, repeated } = &mut *keys;
        let queue = if are_new { new } else { repeated };
        // What its CID carries needs no provider.
        for cid in cids.into_iter().filter(|cid| inline_bytes(cid).is_none()) {
            states.entry(cid).or_insert_with(|| {
                queue.push_back(cid);
                KeyState { stage: AnnounceStage::Queued, announced: false, due }
            });
        }
        drop(keys);
        self.0.more.notify_one();
    }

    pub(crate) fn remove(&self, cid: &Cid) {
        self.keys().states.remove(cid);
    }

    pub(crate) fn status(&self) -> Announcing {
        let (keys, now) = (self.keys(), Instant::now());
        let (announced, lag) = keys.states.values().fold((0, Duration::ZERO), |(announced, lag), state| {
            (announced + usize::from(state.announced), lag.max(state.waited(now)))
        });
        Announcing { announced, pending: keys.states.len() - announced, lag }
    }

    /// Announces keys that are due until the node stops; `joins` holds the swarm's size whenever a peer joins it, and `moves`
    /// changes when the addresses in this node's records lead nowhere any more.
    pub(crate) async fn run(
        self,
        commands: mpsc::Sender<SwarmCommand>,
        (mut joins, mut moves): (watch::Receiver<usize>, watch::Receiver<u64>),
        every: Duration,
    ) {
        let mut running = FuturesUnordered::new();
        let mut round = tokio::time::interval(RETRY_PAUSE.min(every));
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut joined = None;
        loop {
            while running.len() < { self.keys().concurrency() }
                && let Some(cid) = { self.keys().next() }
            {
                running.push(self.announce(cid, &commands, every));
            }
            tokio::select! {
                Some(()) = running.next() => {}
                () = self.0.more.notified() => {}
                now = round.tick() => {
                    self.keys().queue(now, |state| matches!(state.stage, AnnounceStage::Waiting { until } if until <= now));
                }
                Ok(()) = joins.changed() => {
                    joins.borrow_and_update();
                    joined = joined.or(Some(Instant::now() + JOIN_PAUSE));
                }
                Ok(()) = moves.changed() => {
                    moves.borrow_and_update();
                    self.keys().queue(Instant::now(), |_| true);
                }
                Some(()) = OptionFuture::from(joined.map(tokio::time::sleep_until)) => {
                    joined = None;
                    let all = *joins.borrow() <= SMALL_SWARM;
                    self.keys().queue(Instant::now(), |state| all || !state.announced);
                }
            }
        }
    }

    async fn announce(&self, cid: Cid, commands: &mpsc::Sender<SwarmCommand>, every: Duration) {
        let (reply, accepted) = oneshot::channel();
        let accepted =
            commands.send(SwarmCommand::Provide(cid, reply)).await.is_ok() && accepted.await.unwrap_or(false);
        let wanted = self.keys().answered(cid, accepted, every);
        if !wanted {
            // Removed meanwhile: the withdrawal may have overtaken the announcement.
            let _ = commands.send(SwarmCommand::Withdraw(cid)).await;
        }
    }
}

#[cfg(test)]
mod tests;
