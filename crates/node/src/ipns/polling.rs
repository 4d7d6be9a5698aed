//! Polling of names: of followed ones, whose publishers may not use pubsub, and of own ones, which another node may
//! publish too. Two nodes with one identity cannot connect to each other, and a peer connected to both sees one peer
//! and forwards it nothing of its own: each learns of the other only by querying third peers.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use futures::{StreamExt, stream};
use libp2p::{PeerId, identity::Keypair};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    IpnsNames,
    resolve::{Answers, query_connected, query_peers, query_routing},
};
use crate::{
    IpnsName, RecordError,
    announcer::{JOIN_PAUSE, SMALL_SWARM},
    command::SwarmCommand,
    online::Online,
    peers::Peers,
};

const POLL_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// A followed name without a record is polled more often at first, then with growing pauses.
const MIN_UNKNOWN_INTERVAL: Duration = Duration::from_secs(3);
const MAX_UNKNOWN_INTERVAL: Duration = Duration::from_secs(60);
const POLL_TIMEOUT: Duration = Duration::from_secs(20);
const MAX_CONCURRENT_POLLS: usize = 16;
/// Silent peers delay the first publication of a name by this time at most.
const FIRST_PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);
/// Silent connected peers delay later publications by this time at most.
const PUBLISH_TIMEOUT: Duration = Duration::from_millis(500);

impl IpnsNames {
    /// Polls followed names, since their publishers may not use pubsub.
    pub async fn poll_followed(self, routing: mpsc::Sender<SwarmCommand>, mut joins: watch::Receiver<usize>) {
        let mut changes = self.0.subscriptions.changes();
        let mut pause = MIN_UNKNOWN_INTERVAL;
        loop {
            let names = stream::iter(self.0.subscriptions.names());
            names.for_each_concurrent(MAX_CONCURRENT_POLLS, |name| self.poll(&routing, name)).await;
            let unknown = || {
                let names = self.0.subscriptions.names();
                names.into_iter().filter(|name| self.0.subscriptions.record(name).is_none()).count()
            };
            let before = unknown();
            let wait = tokio::time::sleep(if before == 0 { POLL_INTERVAL } else { pause });
            tokio::pin!(wait);
            pause = if before == 0 { MIN_UNKNOWN_INTERVAL } else { (pause * 2).min(MAX_UNKNOWN_INTERVAL) };
            loop {
                tokio::select! {
                    () = &mut wait => break,
                    joined = joins.changed(), if unknown() > 0 => match joined {
                        Ok(()) => {
                            tokio::time::sleep(JOIN_PAUSE).await;
                            // In a larger swarm peers join all the time.
                            if *joins.borrow_and_update() <= SMALL_SWARM {
                                pause = MIN_UNKNOWN_INTERVAL;
                                break;
                            }
                        }
                        Err(_) => return,
                    },
                    changed = changes.changed() => match changed {
                        Ok(()) if unknown() > before => {
                            pause = MIN_UNKNOWN_INTERVAL;
                            break;
                        }
                        Ok(()) => {}
                        Err(_) => return,
                    },
                }
            }
        }
    }

    async fn poll(&self, routing: &mpsc::Sender<SwarmCommand>, name: PeerId) {
        let deadline = Instant::now() + POLL_TIMEOUT;
        let Some(found) = self.newest(routing, &IpnsName::from(name), deadline).await else { return };
        let ingest = move |names: &Self| names.ingest(name, found.bytes().to_vec(), SystemTime::now());
        if let Err(error) = self.blocking(ingest).await {
            tracing::warn!(%error, "cannot store the record of a followed name");
        }
    }

    /// Polls own names to detect another node that publishes under them, and renews expired records.
    pub async fn poll_own(self, routing: mpsc::Sender<SwarmCommand>, peers: Peers) {
        let mut joins = peers.joins();
        // Names that another node took over, reported once, and names whose key was deleted.
        let mut abandoned = HashSet::new();
        loop {
            if peers.count() > 0 {
                self.query_own(&routing, &mut abandoned).await;
            }
            let next = Instant::now() + POLL_INTERVAL;
            loop {
                tokio::select! {
                    () = tokio::time::sleep_until(next) => break,
                    joined = joins.changed() => match joined {
                        Ok(()) => {
                            tokio::time::sleep(JOIN_PAUSE).await;
                            let is_small = *joins.borrow_and_update() <= SMALL_SWARM;
                            if is_small || self.0.own.needs_lookup(SystemTime::now(), &abandoned) {
                                break;
                            }
                        }
                        Err(_) => return,
                    },
                }
            }
        }
    }

    async fn query_own(&self, routing: &mpsc::Sender<SwarmCommand>, abandoned: &mut HashSet<PeerId>) {
        let signed = self.0.own.names();
        if signed.is_empty() {
            return;
        }
        let keys = match self.with_keys(Self::own_keys).await {
            Ok(keys) => keys,
            Err(error) => return tracing::warn!(%error, "cannot poll own names"),
        };
        let known: HashSet<_> = keys.iter().map(|key| key.public().to_peer_id()).collect();
        abandoned.extend(signed.difference(&known));
        let keys: Vec<_> =
            keys.iter().filter(|key| signed.contains(&key.public().to_peer_id())).cloned().collect();
        let asked = stream::iter(keys)
            .map(|key| async {
                let name = key.public().to_peer_id();
                let mut answers = query_peers(routing, &IpnsName::from(name)).await;
                (
                    name,
                    self.ingest_newest_own(answers.as_mut(), key, POLL_TIMEOUT, !abandoned.contains(&name))
                        .await,
                )
            })
            .buffer_unordered(MAX_CONCURRENT_POLLS)
            .collect::<Vec<_>>();
        for (name, asked) in asked.await {
            match asked {
                Ok(LookupOutcome::Renewed) => {
                    tracing::info!(name = %IpnsName::from(name), "IPNS record had expired; signed it again")
                }
                Ok(LookupOutcome::Abandoned) => drop(abandoned.insert(name)),
                Ok(LookupOutcome::Valid) => {}
                Err(error) => {
                    tracing::warn!(name = %IpnsName::from(name), %error, "cannot poll an own name")
                }
            }
        }
    }

    /// Ingests the newest record that peers return for an own key.
    async fn ingest_newest_own(
        &self,
        answers: Option<&mut Answers>,
        key: Keypair,
        timeout: Duration,
        may_renew: bool,
    ) -> Result<LookupOutcome, RecordError> {
        let name = IpnsName::of(&key);
        let found = match answers {
            Some(answers) => self.best_of(answers, &name, Instant::now() + timeout).await,
            None => None,
        };
        self.blocking(move |names| {
            let now = SystemTime::now();
            if let Some(found) = &found {
                names.ingest(*name.peer(), found.bytes().to_vec(), now)?;
            }
            names.0.own.mark_queried(*name.peer());
            match names.own(&name) {
                Some(own) if own.until() <= now && may_renew => match names.renew(&key, found, now)? {
                    true => Ok(LookupOutcome::Renewed),
                    false => Ok(LookupOutcome::Abandoned),
                },
                _ => Ok(LookupOutcome::Valid),
            }
        })
        .await
    }
}

/// The outcome of polling an own name.
enum LookupOutcome {
    Valid,
    Renewed,
    /// Another node publishes under it.
    Abandoned,
}

impl IpnsNames {
    /// Ingests the answers to a query before a publication.
    async fn ingest_before_signing(&self, answers: Option<&mut Answers>, key: Keypair, timeout: Duration) {
        let name = IpnsName::of(&key);
        if let Err(error) = self.ingest_newest_own(answers, key, timeout, false).await {
            tracing::warn!(%name, %error, "cannot determine the newest record of this name");
        }
    }
}

impl IpnsNames {
    /// Queries peers for the newest record of a key before a new one is signed.
    ///
    /// The first publication of this process waits for the answers, so that its sequence continues from them. Without
    /// peers it goes on, and they are queried when they connect.
    pub(super) async fn query_before_signing(&self, online: Option<&Online>, key: &Keypair) {
        let name = IpnsName::of(key);
        let Some(online) = online else { return };
        let is_first = !self.0.own.is_queried(name.peer());
        if is_first {
            online.peers.settled().await;
        }
        if online.peers.count() == 0 {
            return;
        }
        if !is_first {
            return self.query_in_background(online, key).await;
        }
        let mut answers = query_peers(&online.routing, &name).await;
        self.ingest_before_signing(answers.as_mut(), key.clone(), FIRST_PUBLISH_TIMEOUT).await;
    }

    /// Checks whether another node publishes under a name. Connected peers have a short time to answer before the new
    /// record is signed: once they receive it, they drop the other one, which would stay undetected. Late answers and
    /// the routing system are awaited in the background.
    async fn query_in_background(&self, online: &Online, key: &Keypair) {
        let (names, name) = (self.clone(), IpnsName::of(key));
        if names.0.own.begin_lookup(*name.peer()) {
            let mut answers = query_routing(&online.routing, &name).await;
            let (names, key) = (names.clone(), key.clone());
            online.spawn(async move {
                names.ingest_before_signing(answers.as_mut(), key, FIRST_PUBLISH_TIMEOUT).await;
                names.0.own.end_lookup(name.peer());
            });
        }
        let mut answers = query_connected(&online.routing, &name).await;
        names.ingest_before_signing(answers.as_mut(), key.clone(), PUBLISH_TIMEOUT).await;
        let key = key.clone();
        online.spawn(async move {
            names.ingest_before_signing(answers.as_mut(), key, FIRST_PUBLISH_TIMEOUT).await
        });
    }
}
