//! Republishing records of own and followed names, so that a name outlives its publisher.

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

use super::IpnsNames;
use crate::{
    IpnsName, RecordError,
    announcer::{JOIN_PAUSE, SMALL_SWARM},
    command::SwarmCommand,
    routing::ipns,
};

/// How often records are put into the routing system again. Own records are renewed then, after half of their lifetime.
const REPUBLISH_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// How often records are published over pubsub again, as in Kubo.
const PUBSUB_REPUBLISH_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// Several records signed in a row are put into the routing system once.
const COALESCE_DELAY: Duration = Duration::from_secs(1);

/// The pause before a record that no peer accepted is published again; it grows with each attempt.
const MIN_RETRY_PAUSE: Duration = Duration::from_secs(5);
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(10 * 60);

/// A name, and its record if a valid one is known.
type DueRecord = (PeerId, Option<Vec<u8>>);
/// A name, a record that is being put into the routing system, and whether a peer accepted it.
type NextPublication = (PeerId, Vec<u8>, oneshot::Receiver<bool>);

/// Waits until a record was put into the routing system; returns whether a peer accepted it.
async fn outcome((name, record, answer): NextPublication) -> (PeerId, Vec<u8>, bool) {
    let is_stored = answer.await.unwrap_or(false);
    (name, record, is_stored)
}

impl IpnsNames {
    /// Subscribes to own and followed names, and publishes their records periodically and when a peer joins.
    pub async fn republish(self, routing: mpsc::Sender<SwarmCommand>, mut joins: watch::Receiver<usize>) {
        let (mut next_pubsub, mut next_repeat) = (Instant::now(), Instant::now() + REPUBLISH_INTERVAL);
        // The records that the routing system has, or that are being put.
        let mut published: HashMap<PeerId, Vec<u8>> = HashMap::new();
        let mut publications = FuturesUnordered::new();
        let (mut pause, mut retry) = (MIN_RETRY_PAUSE, None);
        loop {
            let to_subscribers = next_pubsub <= Instant::now();
            if next_repeat <= Instant::now() {
                next_repeat = Instant::now() + REPUBLISH_INTERVAL;
                published.clear();
            }
            let Some(started) = self.publish_due(&routing, to_subscribers, &mut published).await else {
                return;
            };
            publications.extend(started.into_iter().map(outcome));
            if to_subscribers {
                next_pubsub = Instant::now() + PUBSUB_REPUBLISH_INTERVAL;
            }
            loop {
                tokio::select! {
                    Some((name, value, is_stored)) = publications.next() => {
                        if is_stored {
                            pause = MIN_RETRY_PAUSE;
                            continue;
                        }
                        if published.get(&name) == Some(&value) {
                            published.remove(&name);
                        }
                        if retry.is_none() {
                            retry = Some(Instant::now() + pause);
                            pause = (pause * 2).min(MAX_RETRY_PAUSE);
                        }
                        continue;
                    }
                    Some(()) = OptionFuture::from(retry.map(tokio::time::sleep_until)) => retry = None,
                    joined = joins.changed() => match joined {
                        Ok(()) => {
                            tokio::time::sleep(JOIN_PAUSE).await;
                            // In a larger swarm a new peer is rarely among the closest to a name. Records of followed
                            // names are published by their publishers, and followers answer fetches: if each follower
                            // published to each new peer, the cost for a joining crowd would be cubic.
                            if *joins.borrow_and_update() <= SMALL_SWARM {
                                let own = self.0.own.names();
                                published.retain(|name, _| !own.contains(name));
                            }
                        }
                        Err(_) => return,
                    },
                    () = self.0.signed.notified() => tokio::time::sleep(COALESCE_DELAY).await,
                    () = tokio::time::sleep_until(next_pubsub) => {}
                    () = tokio::time::sleep_until(next_repeat) => {}
                }
                break;
            }
        }
    }

    /// Puts records into the routing system that it does not have yet, and publishes to subscribers if it is time.
    /// Returns the puts in progress.
    async fn publish_due(
        &self,
        routing: &mpsc::Sender<SwarmCommand>,
        to_subscribers: bool,
        published: &mut HashMap<PeerId, Vec<u8>>,
    ) -> Option<Vec<NextPublication>> {
        let due = self.blocking(|names| names.due(SystemTime::now())).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot republish names");
            Vec::new()
        });
        let mut started = Vec::new();
        for (name, record) in due {
            routing.send(SwarmCommand::Subscribe(IpnsName::from(name).key())).await.ok()?;
            let Some(value) = record else { continue };
            let record = IpnsName::from(name).record(value.clone());
            if to_subscribers || self.0.own.clear_unannounced(&name) {
                routing.send(SwarmCommand::Publish(record.clone())).await.ok()?;
            }
            if published.insert(name, value.clone()).as_ref() == Some(&value) {
                continue;
            }
            let (reply, answer) = oneshot::channel();
            routing.send(SwarmCommand::PutValue(record, reply)).await.ok()?;
            started.push((name, value, answer));
        }
        Some(started)
    }

    /// Returns own and followed names with their valid records; own records are renewed after half of their lifetime.
    pub fn due(&self, now: SystemTime) -> Result<Vec<DueRecord>, RecordError> {
        let valid = |record: &ipns::Record| record.until() > now;
        let mut all = Vec::new();
        for key in self.own_keys()?.iter() {
            let name = key.public().to_peer_id();
            let record = match self.own(&IpnsName::from(name)).filter(valid) {
                // Another machine published a newer record.
                Some(old) if self.foreign(&name)? > Some(old.clone()) => None,
                Some(_) => self.extend_validity(key, now)?,
                None => None,
            };
            all.push((name, record.map(|record| record.bytes().to_vec())));
        }
        for name in self.0.subscriptions.names() {
            let head = self.0.subscriptions.record(&name).filter(valid);
            all.push((name, head.map(|head| head.bytes().to_vec())));
        }
        Ok(all)
    }
}
