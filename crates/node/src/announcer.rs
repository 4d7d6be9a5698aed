//! Keeps the routing system told of what this node has: in batches, repeated before the records
//! expire, and again when somebody new joins a small swarm.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::Instant,
};

use crate::{Cid, behaviour::Command};

const AT_ONCE: usize = 16;
/// Peers join in groups; one round serves them all.
const JOIN_PAUSE: Duration = Duration::from_millis(300);
const RETRY: Duration = Duration::from_secs(30);
/// Up to here every peer is among the closest to every key (Kademlia's k), so a newcomer must be told.
const SMALL_SWARM: u64 = 20;

/// How far announcing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announcing {
    /// Keys that at least one peer was told of.
    pub announced: usize,
    /// Keys that nobody was told of yet.
    pub pending: usize,
}

#[derive(Clone, Copy)]
struct State {
    due: Instant,
    announced: bool,
}

/// The keys this node announces.
#[derive(Clone, Default)]
pub(crate) struct Announcer(Arc<Shared>);

#[derive(Default)]
struct Shared {
    keys: Mutex<BTreeMap<Cid, State>>,
    more: Notify,
}

impl Announcer {
    fn keys(&self) -> MutexGuard<'_, BTreeMap<Cid, State>> {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, cids: impl IntoIterator<Item = Cid>) {
        let new = State { due: Instant::now(), announced: false };
        let mut keys = self.keys();
        for cid in cids {
            keys.entry(cid).or_insert(new);
        }
        drop(keys);
        self.0.more.notify_one();
    }

    pub(crate) fn remove(&self, cid: &Cid) {
        self.keys().remove(cid);
    }

    pub(crate) fn status(&self) -> Announcing {
        let keys = self.keys();
        let announced = keys.values().filter(|state| state.announced).count();
        Announcing { announced, pending: keys.len() - announced }
    }

    /// Announces what is due, for ever.
    pub(crate) async fn run(
        self,
        commands: mpsc::Sender<Command>,
        mut routable: watch::Receiver<u64>,
        every: Duration,
    ) {
        loop {
            let due = self.due();
            stream::iter(due)
                .for_each_concurrent(AT_ONCE, |cid| {
                    let (this, commands) = (&self, &commands);
                    async move { this.announce(cid, commands, every).await }
                })
                .await;
            let next = self.keys().values().map(|state| state.due).min();
            let sleep = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {}
                () = self.0.more.notified() => {}
                Ok(()) = routable.changed() => {
                    tokio::time::sleep(JOIN_PAUSE).await;
                    self.tell_newcomers(*routable.borrow_and_update());
                }
            }
        }
    }

    fn due(&self) -> Vec<Cid> {
        let now = Instant::now();
        self.keys().iter().filter(|(_, state)| state.due <= now).map(|(cid, _)| *cid).collect()
    }

    async fn announce(&self, cid: Cid, commands: &mpsc::Sender<Command>, every: Duration) {
        let (reply, told) = oneshot::channel();
        let told = commands.send(Command::Provide(cid, reply)).await.is_ok() && told.await.unwrap_or(false);
        if let Some(state) = self.keys().get_mut(&cid) {
            state.announced |= told;
            state.due = Instant::now() + if told { every } else { RETRY.min(every) };
        }
    }

    fn tell_newcomers(&self, joined: u64) {
        let all = joined <= SMALL_SWARM;
        let now = Instant::now();
        for state in self.keys().values_mut().filter(|state| all || !state.announced) {
            state.due = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cid(n: u8) -> Cid {
        Cid::new_v1(0x55, cid::multihash::Multihash::wrap(0x12, &[n; 32]).unwrap())
    }

    /// Answers `told` to every announcement and counts them.
    fn routing(told: bool) -> (mpsc::Sender<Command>, mpsc::UnboundedReceiver<Cid>) {
        let (commands, mut inbox) = mpsc::channel(8);
        let (seen, counted) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Command::Provide(cid, reply)) = inbox.recv().await {
                let _ = reply.send(told);
                let _ = seen.send(cid);
            }
        });
        (commands, counted)
    }

    #[tokio::test]
    async fn what_was_announced_is_announced_again() {
        let (commands, mut seen) = routing(true);
        let announcer = Announcer::default();
        announcer.add([cid(1)]);
        let task = tokio::spawn(announcer.clone().run(
            commands,
            watch::Sender::new(0).subscribe(),
            Duration::from_secs(60),
        ));
        for _ in 0..3 {
            assert_eq!(seen.recv().await, Some(cid(1)));
        }
        assert_eq!(announcer.status(), Announcing { announced: 1, pending: 0 });
        task.abort();
    }

    #[tokio::test]
    async fn what_nobody_heard_stays_pending_and_is_said_to_whoever_joins() {
        let (commands, mut seen) = routing(false);
        let joins = watch::Sender::new(0);
        let announcer = Announcer::default();
        announcer.add([cid(1), cid(2)]);
        let task =
            tokio::spawn(announcer.clone().run(commands, joins.subscribe(), Duration::from_secs(3600)));
        assert!(seen.recv().await.is_some() && seen.recv().await.is_some());
        assert_eq!(announcer.status(), Announcing { announced: 0, pending: 2 });
        let before = Instant::now();
        joins.send_modify(|n| *n += 1);
        assert!(seen.recv().await.is_some() && seen.recv().await.is_some());
        assert!(before.elapsed() < RETRY);
        task.abort();
    }

    #[tokio::test]
    async fn what_was_removed_is_not_announced() {
        let (commands, mut seen) = routing(true);
        let announcer = Announcer::default();
        announcer.add([cid(1), cid(2)]);
        announcer.remove(&cid(1));
        let task = tokio::spawn(announcer.run(
            commands,
            watch::Sender::new(0).subscribe(),
            Duration::from_millis(20),
        ));
        for _ in 0..3 {
            assert_eq!(seen.recv().await, Some(cid(2)));
        }
        task.abort();
    }
}
