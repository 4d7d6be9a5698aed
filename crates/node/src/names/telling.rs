//! Records are told again and again: own ones and those of followed names, so that a name outlives its publisher.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use futures::{StreamExt, future::OptionFuture, stream::FuturesUnordered};
use libp2p::PeerId;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{Name, Names};
use crate::{
    Error,
    announcer::{JOIN_PAUSE, SMALL_SWARM},
    behaviour::Command,
    routing::ipns,
};

/// The routing system is told so often; what has lived half of its life is signed anew then.
const REPEAT: Duration = Duration::from_secs(60 * 60);
/// Who listens is told so often, as in Kubo.
const REPEAT_PUBSUB: Duration = Duration::from_secs(10 * 60);
/// Where one record follows another, the routing system is told the last.
const SIGNED_PAUSE: Duration = Duration::from_secs(1);

/// Who kept nothing of a record is told it again, each time later.
const RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(10 * 60);

/// A name, and its record if there is one that is valid.
type Due = (PeerId, Option<Vec<u8>>);
/// A name and its record that somebody is being told, and whether anybody keeps it.
type Telling = (PeerId, Vec<u8>, oneshot::Receiver<bool>);

impl Names {
    /// Listens for own and followed names, and tells what they mean when somebody joins and again and again.
    pub async fn run(self, routing: mpsc::Sender<Command>, mut joins: watch::Receiver<usize>) {
        let (mut next_pubsub, mut next_repeat) = (Instant::now(), Instant::now() + REPEAT);
        // What the routing system knows, or is being told.
        let mut told: HashMap<PeerId, Vec<u8>> = HashMap::new();
        let mut telling = FuturesUnordered::new();
        let (mut pause, mut retry) = (RETRY, None);
        loop {
            let to_listeners = next_pubsub <= Instant::now();
            if next_repeat <= Instant::now() {
                next_repeat = Instant::now() + REPEAT;
                told.clear();
            }
            let Some(begun) = self.tell_all(&routing, to_listeners, &mut told).await else { return };
            telling.extend(begun.into_iter().map(|(name, value, answer)| async move {
                let is_kept = answer.await.unwrap_or(false);
                (name, value, is_kept)
            }));
            if to_listeners {
                next_pubsub = Instant::now() + REPEAT_PUBSUB;
            }
            loop {
                tokio::select! {
                    Some((name, value, is_kept)) = telling.next() => {
                        if is_kept {
                            pause = RETRY;
                            continue;
                        }
                        if told.get(&name) == Some(&value) {
                            told.remove(&name);
                        }
                        if retry.is_none() {
                            retry = Some(Instant::now() + pause);
                            pause = (pause * 2).min(LONGEST_RETRY);
                        }
                        continue;
                    }
                    Some(()) = OptionFuture::from(retry.map(tokio::time::sleep_until)) => retry = None,
                    joined = joins.changed() => match joined {
                        Ok(()) => {
                            tokio::time::sleep(JOIN_PAUSE).await;
                            // Of a larger swarm a newcomer is hardly among the closest to a name.
                            // Followed names are told by their publishers, and their followers answer who asks:
                            // if each follower told each newcomer, a joining crowd would cost its cube.
                            if *joins.borrow_and_update() <= SMALL_SWARM {
                                let own = self.0.own.names();
                                told.retain(|name, _| !own.contains(name));
                            }
                        }
                        Err(_) => return,
                    },
                    () = self.0.signed.notified() => tokio::time::sleep(SIGNED_PAUSE).await,
                    () = tokio::time::sleep_until(next_pubsub) => {}
                    () = tokio::time::sleep_until(next_repeat) => {}
                }
                break;
            }
        }
    }

    /// Tells the routing system what it was not told yet, and who listens where it is their turn; what was begun so.
    async fn tell_all(
        &self,
        routing: &mpsc::Sender<Command>,
        to_listeners: bool,
        told: &mut HashMap<PeerId, Vec<u8>>,
    ) -> Option<Vec<Telling>> {
        let due = self.blocking(|names| names.due(SystemTime::now())).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "names are not told again");
            Vec::new()
        });
        let mut begun = Vec::new();
        for (name, record) in due {
            routing.send(Command::Listen(Name::from(name).key())).await.ok()?;
            let Some(value) = record else { continue };
            let record = Name::from(name).record(value.clone());
            if to_listeners || self.0.own.take_untold(&name) {
                routing.send(Command::Tell(record.clone())).await.ok()?;
            }
            if told.insert(name, value.clone()).as_ref() == Some(&value) {
                continue;
            }
            let (reply, answer) = oneshot::channel();
            routing.send(Command::PutValue(record, reply)).await.ok()?;
            begun.push((name, value, answer));
        }
        Some(begun)
    }

    /// Own names, those that have lived half of their life signed anew, and followed ones; each with its record, if there
    /// is one that is valid.
    pub fn due(&self, now: SystemTime) -> Result<Vec<Due>, Error> {
        let valid = |record: &ipns::Record| record.until() > now;
        let mut all = Vec::new();
        for key in self.own_keys()?.iter() {
            let name = key.public().to_peer_id();
            let record = match self.own(&Name::from(name)).filter(valid) {
                // Another machine has moved the name on.
                Some(old) if self.foreign(&name)? > Some(old.clone()) => None,
                Some(_) => self.prolong(key, now)?,
                None => None,
            };
            all.push((name, record.map(|record| record.bytes().to_vec())));
        }
        for name in self.0.hearing.names() {
            let head = self.0.hearing.head(&name).filter(valid);
            all.push((name, head.map(|head| head.bytes().to_vec())));
        }
        Ok(all)
    }
}
