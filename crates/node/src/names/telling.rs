//! Records are told again and again: own ones and those of followed names, so that a name outlives its publisher.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, SystemTime},
};

use futures::{StreamExt, future::OptionFuture, stream::FuturesUnordered};
use libp2p::{PeerId, identity::Keypair};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{LIFETIME, Name, Names, resolve::newest};
use crate::{Error, announcer::SMALL_SWARM, behaviour::Command, routing::ipns};

/// The routing system is told so often; what has lived half of its life is signed anew then.
const REPEAT: Duration = Duration::from_secs(60 * 60);
/// Who listens is told so often, as in Kubo.
const REPEAT_PUBSUB: Duration = Duration::from_secs(10 * 60);
/// A followed name is looked up so often beside: its publisher may know nothing of pubsub.
const LOOK_UP: Duration = Duration::from_secs(5 * 60);
/// One that is not known yet is looked up sooner, and each time later.
const LOOK_UP_UNKNOWN: Duration = Duration::from_secs(3);
const LOOK_UP_LATER: Duration = Duration::from_secs(60);
const LOOK_UP_PATIENCE: Duration = Duration::from_secs(20);
/// Where one record follows another, the routing system is told the last.
const SIGNED_PAUSE: Duration = Duration::from_secs(1);
const JOIN_PAUSE: Duration = Duration::from_millis(300);

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
                            if *joins.borrow_and_update() <= SMALL_SWARM {
                                told.clear();
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
        let due = self.blocking(Self::due).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "names are not told again");
            Vec::new()
        });
        let mut begun = Vec::new();
        for (name, record) in due {
            routing.send(Command::Listen(Name::from(name).key())).await.ok()?;
            let Some(value) = record else { continue };
            let record = Name::from(name).record(value.clone());
            if to_listeners {
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
    fn due(&self) -> Result<Vec<Due>, Error> {
        let now = SystemTime::now();
        let valid = |record: &ipns::Record| record.until() > now;
        let mut all = Vec::new();
        for key in self.own_keys()? {
            let name = key.public().to_peer_id();
            let record = match self.own(&Name::from(name)).filter(valid) {
                // Another machine has moved the name on.
                Some(old) if self.foreign(&name)? > Some(old.clone()) => None,
                Some(old) if old.until() < now + LIFETIME / 2 => {
                    Some(self.sign(&key, old.value().to_vec(), old.ttl())?)
                }
                record => record,
            };
            all.push((name, record.map(|record| record.bytes().to_vec())));
        }
        for name in self.0.hearing.names() {
            let head = self.0.hearing.head(&name).filter(valid);
            all.push((name, head.map(|head| head.bytes().to_vec())));
        }
        Ok(all)
    }

    /// Signs own names anew whose records expired while nobody was here, as soon as there is somebody to ask: where the
    /// name has moved on to another machine, it is left to that one.
    pub async fn renew_expired(self, routing: mpsc::Sender<Command>, mut joins: watch::Receiver<usize>) {
        let expired = |names: &Self| {
            let now = SystemTime::now();
            let is_expired = |key: &Keypair| {
                let own = names.own(&Name::from(key.public().to_peer_id()));
                own.is_some_and(|own| own.until() <= now)
            };
            // Joins are many, and the keys are on the disk.
            if !names.lock_own().values().any(|own| own.until() <= now) {
                return Ok(Vec::new());
            }
            Ok(names.own_keys()?.into_iter().filter(is_expired).collect::<Vec<_>>())
        };
        let mut left = HashSet::new();
        loop {
            if joins.changed().await.is_err() {
                return;
            }
            tokio::time::sleep(JOIN_PAUSE).await;
            joins.mark_unchanged();
            for key in self.blocking(expired).await.unwrap_or_default() {
                let name = Name::from(key.public().to_peer_id());
                if left.contains(&name) {
                    continue;
                }
                let found = newest(&routing, &name, Instant::now() + LOOK_UP_PATIENCE).await;
                let renewed = self.blocking(move |names| names.renew(&key, found)).await;
                match renewed {
                    Ok(true) => tracing::info!(%name, "its record had expired, and is signed anew"),
                    // It was said, and is not asked again.
                    Ok(false) => drop(left.insert(name)),
                    Err(error) => tracing::warn!(%name, %error, "its record has expired"),
                }
            }
        }
    }

    /// Signs what a name meant last, unless `found`, which is valid, says something else.
    pub(super) fn renew(&self, key: &Keypair, found: Option<ipns::Record>) -> Result<bool, Error> {
        let peer = key.public().to_peer_id();
        let Some(own) = self.own(&Name::from(peer)) else { return Ok(false) };
        let found = found.max(self.foreign(&peer)?.filter(|foreign| foreign.until() > SystemTime::now()));
        if let Some(found) = found.filter(|found| found.value() != own.value()) {
            tracing::warn!(
                name = %Name::from(peer),
                sequence = found.sequence(),
                "its record expired here, and another machine writes it now: what was published here is not published any more"
            );
            self.hear(peer, found.bytes().to_vec(), SystemTime::now())?;
            return Ok(false);
        }
        self.sign(key, own.value().to_vec(), own.ttl())?;
        self.0.signed.notify_one();
        Ok(true)
    }

    /// Looks followed names up, beside what is heard of them: their publishers may know nothing of pubsub.
    pub async fn look_up_followed(self, routing: mpsc::Sender<Command>, mut joins: watch::Receiver<usize>) {
        let mut changes = self.0.hearing.changes();
        let mut pause = LOOK_UP_UNKNOWN;
        loop {
            for name in self.0.hearing.names() {
                let deadline = Instant::now() + LOOK_UP_PATIENCE;
                let Some(found) = newest(&routing, &Name::from(name), deadline).await else { continue };
                let hear = move |names: &Self| names.hear(name, found.bytes().to_vec(), SystemTime::now());
                if let Err(error) = self.blocking(hear).await {
                    tracing::warn!(%error, "what a followed name means is not kept");
                }
            }
            let unknown = || {
                let names = self.0.hearing.names();
                names.into_iter().filter(|name| self.0.hearing.head(name).is_none()).count()
            };
            let before = unknown();
            let wait = tokio::time::sleep(if before == 0 { LOOK_UP } else { pause });
            tokio::pin!(wait);
            pause = if before == 0 { LOOK_UP_UNKNOWN } else { (pause * 2).min(LOOK_UP_LATER) };
            loop {
                tokio::select! {
                    () = &mut wait => break,
                    joined = joins.changed(), if unknown() > 0 => match joined {
                        Ok(()) => {
                            tokio::time::sleep(JOIN_PAUSE).await;
                            // In a larger swarm somebody joins all the time.
                            if *joins.borrow_and_update() <= SMALL_SWARM {
                                pause = LOOK_UP_UNKNOWN;
                                break;
                            }
                        }
                        Err(_) => return,
                    },
                    changed = changes.changed() => match changed {
                        Ok(()) if unknown() > before => {
                            pause = LOOK_UP_UNKNOWN;
                            break;
                        }
                        Ok(()) => {}
                        Err(_) => return,
                    },
                }
            }
        }
    }
}
