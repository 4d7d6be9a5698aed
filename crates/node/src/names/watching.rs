//! Names are looked up again and again: followed ones, whose publishers may know nothing of pubsub, and own ones, which
//! another node may write. Two nodes with one identity cannot connect to each other, and a peer that both are connected to
//! sees one peer and forwards it nothing that came from itself: each learns of the other only by asking third peers.

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
    Name, Names,
    resolve::{Answers, ask_connected, ask_peers, ask_routing, best_of, newest},
};
use crate::{
    Error, Node,
    announcer::{JOIN_PAUSE, SMALL_SWARM},
    behaviour::Command,
    node::Online,
    peers::Peers,
};

const LOOK_UP: Duration = Duration::from_secs(5 * 60);
/// A followed name that is not known yet is looked up sooner, and each time later.
const LOOK_UP_UNKNOWN: Duration = Duration::from_secs(3);
const LOOK_UP_LATER: Duration = Duration::from_secs(60);
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(20);
const LOOK_UPS_AT_ONCE: usize = 16;
/// Peers that do not answer hold up the first publication of a name no longer than this.
const FIRST_TIMEOUT: Duration = Duration::from_secs(10);
/// Connected peers that do not answer hold up later publications no longer than this.
const LATER_TIMEOUT: Duration = Duration::from_millis(500);

impl Names {
    /// Looks followed names up: their publishers may not use pubsub.
    pub async fn look_up_followed(self, routing: mpsc::Sender<Command>, mut joins: watch::Receiver<usize>) {
        let mut changes = self.0.hearing.changes();
        let mut pause = LOOK_UP_UNKNOWN;
        loop {
            let names = stream::iter(self.0.hearing.names());
            names.for_each_concurrent(LOOK_UPS_AT_ONCE, |name| self.look_up(&routing, name)).await;
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
                            // In a larger swarm peers join all the time.
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

    async fn look_up(&self, routing: &mpsc::Sender<Command>, name: PeerId) {
        let deadline = Instant::now() + LOOK_UP_TIMEOUT;
        let Some(found) = newest(routing, &Name::from(name), deadline).await else { return };
        let hear = move |names: &Self| names.hear(name, found.bytes().to_vec(), SystemTime::now());
        if let Err(error) = self.blocking(hear).await {
            tracing::warn!(%error, "what a followed name means is not kept");
        }
    }

    /// Looks own names up to notice another node that writes them, and where a record has expired, before it is signed
    /// again.
    pub async fn watch_own(self, routing: mpsc::Sender<Command>, peers: Peers) {
        let mut joins = peers.joins();
        // Names that another node took over, which is said once, and those whose key was deleted.
        let mut left = HashSet::new();
        loop {
            if peers.count() > 0 {
                self.look_up_own(&routing, &mut left).await;
            }
            let next = Instant::now() + LOOK_UP;
            loop {
                tokio::select! {
                    () = tokio::time::sleep_until(next) => break,
                    joined = joins.changed() => match joined {
                        Ok(()) => {
                            tokio::time::sleep(JOIN_PAUSE).await;
                            let is_small = *joins.borrow_and_update() <= SMALL_SWARM;
                            if is_small || self.0.own.is_unsettled(SystemTime::now(), &left) {
                                break;
                            }
                        }
                        Err(_) => return,
                    },
                }
            }
        }
    }

    async fn look_up_own(&self, routing: &mpsc::Sender<Command>, left: &mut HashSet<PeerId>) {
        let signed = self.0.own.names();
        if signed.is_empty() {
            return;
        }
        let keys = match self.blocking(Self::own_keys).await {
            Ok(keys) => keys,
            Err(error) => return tracing::warn!(%error, "own names are not looked up"),
        };
        let known: HashSet<_> = keys.iter().map(|key| key.public().to_peer_id()).collect();
        left.extend(signed.difference(&known));
        let keys: Vec<_> =
            keys.iter().filter(|key| signed.contains(&key.public().to_peer_id())).cloned().collect();
        let asked = stream::iter(keys)
            .map(|key| async {
                let name = key.public().to_peer_id();
                let mut answers = ask_peers(routing, &Name::from(name)).await;
                (name, self.take_own(answers.as_mut(), key, LOOK_UP_TIMEOUT, !left.contains(&name)).await)
            })
            .buffer_unordered(LOOK_UPS_AT_ONCE)
            .collect::<Vec<_>>();
        for (name, asked) in asked.await {
            match asked {
                Ok(Own::Renewed) => {
                    tracing::info!(name = %Name::from(name), "its record had expired, and is signed again")
                }
                Ok(Own::Left) => drop(left.insert(name)),
                Ok(Own::Valid) => {}
                Err(error) => {
                    tracing::warn!(name = %Name::from(name), %error, "an own name is not looked up")
                }
            }
        }
    }

    /// Takes the newest record that peers answer under an own key.
    async fn take_own(
        &self,
        answers: Option<&mut Answers>,
        key: Keypair,
        timeout: Duration,
        may_renew: bool,
    ) -> Result<Own, Error> {
        let name = Name::of(&key);
        let found = match answers {
            Some(answers) => best_of(answers, &name, Instant::now() + timeout).await,
            None => None,
        };
        self.blocking(move |names| {
            let now = SystemTime::now();
            if let Some(found) = &found {
                names.hear(*name.peer(), found.bytes().to_vec(), now)?;
            }
            names.0.own.mark_asked(*name.peer());
            match names.own(&name) {
                Some(own) if own.until() <= now && may_renew => match names.renew(&key, found, now)? {
                    true => Ok(Own::Renewed),
                    false => Ok(Own::Left),
                },
                _ => Ok(Own::Valid),
            }
        })
        .await
    }
}

/// What became of an own name that was looked up.
enum Own {
    Valid,
    Renewed,
    /// Another node writes it.
    Left,
}

impl Names {
    /// Takes what is answered because of a publication.
    async fn take_before_signing(&self, answers: Option<&mut Answers>, key: Keypair, timeout: Duration) {
        let name = Name::of(&key);
        if let Err(error) = self.take_own(answers, key, timeout, false).await {
            tracing::warn!(%name, %error, "the newest record of the name is not known");
        }
    }
}

impl Node {
    /// Asks peers for the newest record under a key before another is signed.
    ///
    /// The first publication of this process waits for the answers, so that its sequence counts on from them; without peers
    /// it goes on, and they are asked when they connect.
    pub(super) async fn ask_before_signing(&self, key: &Keypair) {
        let (names, name) = (self.names(), Name::of(key));
        let Some(online) = self.online() else { return };
        let is_first = !names.0.own.is_asked(name.peer());
        if is_first {
            online.peers.settled().await;
        }
        if online.peers.count() == 0 {
            return;
        }
        if !is_first {
            return self.ask_again(online, key).await;
        }
        let mut answers = ask_peers(&online.routing, &name).await;
        names.take_before_signing(answers.as_mut(), key.clone(), FIRST_TIMEOUT).await;
    }

    /// Asks whether another node writes a name. Connected peers answer, if they do so soon, before the new record is
    /// signed: once they hear of it, they forget the other's, which then stays unnoticed. Later answers and those of the
    /// routing system are waited for in the background.
    async fn ask_again(&self, online: &Online, key: &Keypair) {
        let (names, name) = (self.names().clone(), Name::of(key));
        if names.0.own.begin_look_up(*name.peer()) {
            let mut answers = ask_routing(&online.routing, &name).await;
            let (names, key) = (names.clone(), key.clone());
            online.spawn(async move {
                names.take_before_signing(answers.as_mut(), key, FIRST_TIMEOUT).await;
                names.0.own.end_look_up(name.peer());
            });
        }
        let mut answers = ask_connected(&online.routing, &name).await;
        names.take_before_signing(answers.as_mut(), key.clone(), LATER_TIMEOUT).await;
        let key = key.clone();
        online.spawn(async move { names.take_before_signing(answers.as_mut(), key, FIRST_TIMEOUT).await });
    }
}
