//! Keeps the routing system told of what this node has: repeated before the records expire, and again
//! when somebody joins a small swarm.

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

use crate::{Cid, behaviour::Command, locked};

/// Keys told at the same time: few where a handful waits, more where each would wait for a round trip of many others.
const AT_ONCE: RangeInclusive<usize> = 16..=64;
/// Peers join in groups; one round serves them all.
pub(crate) const JOIN_PAUSE: Duration = Duration::from_millis(300);
const RETRY: Duration = Duration::from_secs(30);
/// Up to here every peer is among the closest to every key (Kademlia's k), so a newcomer must be told.
pub(crate) const SMALL_SWARM: usize = 20;

/// How far announcing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announcing {
    /// Keys that at least one peer was told of.
    pub announced: usize,
    /// Keys that nobody was told of yet.
    pub pending: usize,
    /// How long the key that has waited longest has been due, new or to be repeated; zero where none is.
    pub lag: Duration,
}

#[derive(Clone, Copy)]
struct State {
    stage: Stage,
    announced: bool,
    /// Since when it should be told, where it should.
    due: Option<Instant>,
}

impl State {
    fn waited(&self, now: Instant) -> Duration {
        let repeated = match self.stage {
            Stage::Rests { until } if until <= now => Some(until),
            _ => None,
        };
        self.due.or(repeated).map(|due| now.saturating_duration_since(due)).unwrap_or_default()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// In the queue.
    Queued,
    /// Being told; and `again` where somebody joined meanwhile.
    Telling { again: bool },
    /// Told, or to be tried again, then.
    Rests { until: Instant },
}

/// The keys this node announces.
#[derive(Clone, Default)]
pub(crate) struct Announcer(Arc<Shared>);

#[derive(Default)]
struct Shared {
    keys: Mutex<Keys>,
    more: Notify,
}

#[derive(Default)]
struct Keys {
    states: BTreeMap<Cid, State>,
    /// New keys go first: a repetition can wait, somebody may look for a new one already.
    queue: VecDeque<Cid>,
}

impl Keys {
    /// Queues what rests and `holds`; who is being told of a key hears it again.
    fn queue(&mut self, now: Instant, holds: impl Fn(&State) -> bool) {
        for (cid, state) in self.states.iter_mut().filter(|(_, state)| holds(state)) {
            let repeated = match state.stage {
                Stage::Rests { until } => until.min(now),
                _ => now,
            };
            state.due.get_or_insert(repeated);
            match &mut state.stage {
                Stage::Queued => {}
                Stage::Telling { again } => *again = true,
                Stage::Rests { .. } => {
                    state.stage = Stage::Queued;
                    self.queue.push_back(*cid);
                }
            }
        }
    }

    /// How many may be told at the same time, for as many as wait.
    fn at_once(&self) -> usize {
        (self.queue.len() / 8).clamp(*AT_ONCE.start(), *AT_ONCE.end())
    }

    fn next(&mut self) -> Option<Cid> {
        loop {
            let cid = self.queue.pop_front()?;
            // Else it was removed meanwhile.
            if let Some(state) = self.states.get_mut(&cid)
                && state.stage == Stage::Queued
            {
                state.stage = Stage::Telling { again: false };
                return Some(cid);
            }
        }
    }

    /// Takes an answer; whether the key is to be announced still.
    fn told(&mut self, cid: Cid, told: bool, every: Duration) -> bool {
        let Some(state) = self.states.get_mut(&cid) else { return false };
        state.announced |= told;
        if told {
            state.due = None;
        }
        if state.stage == (Stage::Telling { again: true }) {
            state.stage = Stage::Queued;
            state.due.get_or_insert_with(Instant::now);
            self.queue.push_back(cid);
        } else if state.stage != Stage::Queued {
            let pause = if told { every } else { RETRY.min(every) };
            state.stage = Stage::Rests { until: Instant::now() + pause };
        }
        true
    }
}

impl Announcer {
    fn keys(&self) -> MutexGuard<'_, Keys> {
        locked(&self.0.keys)
    }

    pub(crate) fn add(&self, cids: impl IntoIterator<Item = Cid>) {
        let (mut keys, due) = (self.keys(), Some(Instant::now()));
        let Keys { states, queue, .. } = &mut *keys;
        for cid in cids {
            states.entry(cid).or_insert_with(|| {
                queue.push_front(cid);
                State { stage: Stage::Queued, announced: false, due }
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
        let announced = keys.states.values().filter(|state| state.announced).count();
        let lag = keys.states.values().map(|state| state.waited(now)).max().unwrap_or_default();
        Announcing { announced, pending: keys.states.len() - announced, lag }
    }

    /// Announces what is due, for ever; `joins` holds the swarm's size whenever somebody joins it.
    pub(crate) async fn run(
        self,
        commands: mpsc::Sender<Command>,
        mut joins: watch::Receiver<usize>,
        every: Duration,
    ) {
        let mut telling = FuturesUnordered::new();
        let mut round = tokio::time::interval(RETRY.min(every));
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut joined = None;
        loop {
            while telling.len() < { self.keys().at_once() }
                && let Some(cid) = { self.keys().next() }
            {
                telling.push(self.tell(cid, &commands, every));
            }
            tokio::select! {
                Some(()) = telling.next() => {}
                () = self.0.more.notified() => {}
                now = round.tick() => {
                    self.keys().queue(now, |state| matches!(state.stage, Stage::Rests { until } if until <= now));
                }
                Ok(()) = joins.changed() => {
                    joins.borrow_and_update();
                    joined = joined.or(Some(Instant::now() + JOIN_PAUSE));
                }
                Some(()) = OptionFuture::from(joined.map(tokio::time::sleep_until)) => {
                    joined = None;
                    let all = *joins.borrow() <= SMALL_SWARM;
                    self.keys().queue(Instant::now(), |state| all || !state.announced);
                }
            }
        }
    }

    async fn tell(&self, cid: Cid, commands: &mpsc::Sender<Command>, every: Duration) {
        let (reply, told) = oneshot::channel();
        let told = commands.send(Command::Provide(cid, reply)).await.is_ok() && told.await.unwrap_or(false);
        let wanted = self.keys().told(cid, told, every);
        if !wanted {
            // Removed meanwhile: the withdrawal may have overtaken the announcement.
            let _ = commands.send(Command::Withdraw(cid)).await;
        }
    }
}

#[cfg(test)]
mod tests;
