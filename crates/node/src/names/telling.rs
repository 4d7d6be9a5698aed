//! Records are told again and again: own ones and those of followed names, so that a name outlives its publisher.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use libp2p::PeerId;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{LIFETIME, Name, Names, resolve::newest};
use crate::{Error, behaviour::Command, routing::ipns};

/// The routing system is told so often; what has lived half of its life is signed anew then.
const REPEAT: Duration = Duration::from_secs(60 * 60);
/// Who listens is told so often, as in Kubo.
const REPEAT_PUBSUB: Duration = Duration::from_secs(10 * 60);
/// A followed name is looked up so often beside: its publisher may know nothing of pubsub.
const LOOK_UP: Duration = Duration::from_secs(5 * 60);
const LOOK_UP_UNKNOWN: Duration = Duration::from_secs(5);
const LOOK_UP_PATIENCE: Duration = Duration::from_secs(20);
/// Where one record follows another, the routing system is told the last.
const SIGNED_PAUSE: Duration = Duration::from_secs(1);
const JOIN_PAUSE: Duration = Duration::from_millis(300);

/// A name, and its record if there is one that is valid.
type Due = (PeerId, Option<Vec<u8>>);

impl Names {
    /// Listens for own and followed names, and tells what they mean when somebody joins and again and again.
    pub async fn run(self, routing: mpsc::Sender<Command>, mut joins: watch::Receiver<usize>) {
        let mut next_pubsub = Instant::now();
        let mut told = HashMap::new();
        loop {
            let to_listeners = next_pubsub <= Instant::now();
            if self.tell_all(&routing, to_listeners, &mut told).await.is_none() {
                return;
            }
            if to_listeners {
                next_pubsub = Instant::now() + REPEAT_PUBSUB;
            }
            tokio::select! {
                joined = joins.changed() => match joined {
                    Ok(()) => {
                        tokio::time::sleep(JOIN_PAUSE).await;
                        told.clear();
                    }
                    Err(_) => return,
                },
                () = self.0.signed.notified() => tokio::time::sleep(SIGNED_PAUSE).await,
                () = tokio::time::sleep_until(next_pubsub) => {}
                () = tokio::time::sleep(REPEAT) => told.clear(),
            }
        }
    }

    /// Tells the routing system what it was not told yet, and who listens where it is their turn.
    async fn tell_all(
        &self,
        routing: &mpsc::Sender<Command>,
        to_listeners: bool,
        told: &mut HashMap<PeerId, Vec<u8>>,
    ) -> Option<()> {
        let due = self.blocking(Self::due).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "names are not told again");
            Vec::new()
        });
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
            let (reply, _answer) = oneshot::channel();
            routing.send(Command::PutValue(record, reply)).await.ok()?;
        }
        Some(())
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

    /// Looks followed names up, beside what is heard of them: their publishers may know nothing of pubsub.
    pub async fn look_up_followed(self, routing: mpsc::Sender<Command>) {
        loop {
            for name in self.0.hearing.names() {
                let deadline = Instant::now() + LOOK_UP_PATIENCE;
                let Some(found) = newest(&routing, &Name::from(name), deadline).await else { continue };
                let hear = move |names: &Self| names.hear(name, found.bytes().to_vec(), SystemTime::now());
                if let Err(error) = self.blocking(hear).await {
                    tracing::warn!(%error, "what a followed name means is not kept");
                }
            }
            let names = self.0.hearing.names();
            let all_known = names.iter().all(|name| self.0.hearing.head(name).is_some());
            tokio::time::sleep(if all_known { LOOK_UP } else { LOOK_UP_UNKNOWN }).await;
        }
    }
}
