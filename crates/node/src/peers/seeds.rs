//! How a node finds its network: bootstrap peers, beside them the peers of earlier runs and of lists.

use std::{
    path::{Path, PathBuf},
    pin::pin,
    sync::MutexGuard,
    time::Duration,
};

use futures::{
    StreamExt,
    future::{Either, select},
    stream::FuturesUnordered,
};
use libp2p::{Multiaddr, PeerId};
use rust_ipfs::{DialOpts, Ipfs, PeerCondition};
use tokio_util::sync::CancellationToken;

use super::{
    Peers, peer_id,
    remembered::{self, RememberedPeers},
};
use crate::{Bootstrap, Options, locked};

/// With so many connections a node searches for no further ones: Kademlia finds the rest.
const ENOUGH_PEERS: usize = 8;
/// Peers that are dialled at once, and the pause before the next ones are dialled as well. Where nine out of ten are gone,
/// one of so many answers; where more are, 300 have been dialled after 12 seconds.
const BATCH: usize = 24;
const BATCH_INTERVAL: Duration = Duration::from_secs(1);
/// A peer that does not answer within this time is not reached.
const DIAL_TIMEOUT: Duration = Duration::from_secs(4);
/// The pauses between two rounds over all peers, while none is connected.
const MIN_PAUSE: Duration = Duration::from_secs(2);
const MAX_PAUSE: Duration = Duration::from_secs(120);
const SAVE_INTERVAL: Duration = Duration::from_secs(3 * 60);

/// How a node found its network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seeds {
    /// The bootstrap peers.
    pub configured: usize,
    /// Those among them whose last dial failed.
    pub unreachable: usize,
    /// Peers of earlier runs and of lists that the node started with.
    pub remembered: usize,
}

/// A peer to dial, and its addresses.
type Candidate = (PeerId, Vec<Multiaddr>);

/// Reads the peers of earlier runs.
pub(super) fn load(options: &Options) -> RememberedPeers {
    remembered::load(&options.data_dir.join(remembered::FILE), options.bootstrap == Bootstrap::Public)
}

/// Returns an address of each peer that is remembered in a node directory.
pub(crate) fn of_earlier_runs(data_dir: &Path) -> Vec<Multiaddr> {
    remembered::load(&data_dir.join(remembered::FILE), false).addresses()
}

impl Peers {
    fn remembered(&self) -> MutexGuard<'_, RememberedPeers> {
        locked(&self.0.remembered)
    }

    pub(super) fn remember(&self, id: PeerId, address: &Multiaddr) {
        self.remembered().reached(id, address, remembered::seconds());
    }

    /// Records that a peer answers for the DHT.
    pub(crate) fn serves_dht(&self, id: &PeerId) {
        self.remembered().serves_dht(id);
    }

    /// Returns an address of each remembered peer.
    pub(crate) fn remembered_addresses(&self) -> Vec<Multiaddr> {
        self.remembered().addresses()
    }

    /// Records the outcome of dialling a configured peer, at any of its addresses.
    pub(super) fn dialled_seed(&self, address: &Multiaddr, reached: bool) {
        let all = peer_id(address).map(|id| self.configured_addresses(&id)).unwrap_or_default();
        let mut unreachable = locked(&self.0.unreachable);
        for address in all.into_iter().chain([address.clone()]) {
            match reached {
                true => drop(unreachable.remove(&address)),
                false => drop(unreachable.insert(address)),
            }
        }
    }

    /// Returns how the node found its network.
    pub(crate) fn seeds(&self) -> Seeds {
        let unreachable = locked(&self.0.unreachable);
        Seeds {
            configured: self.0.seeds.len(),
            unreachable: self.0.seeds.iter().filter(|address| unreachable.contains(address)).count(),
            remembered: self.0.started_with,
        }
    }

    /// Dials remembered and `listed` peers whenever the node has no connection, until it has enough of them.
    pub(crate) async fn find_network(self, ipfs: Ipfs, listed: Vec<Multiaddr>) {
        let mut pause = MIN_PAUSE;
        self.first_round(self.dial_candidates(&ipfs, self.candidates(&listed))).await;
        loop {
            if self.count() > 0 {
                pause = MIN_PAUSE;
                self.wait_while(|peers| peers.count() > 0).await;
            }
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.8..1.2))).await;
            pause = MAX_PAUSE.min(pause * 2);
            self.dial_candidates(&ipfs, self.candidates(&listed)).await;
        }
    }

    /// Runs the first round, which counts as one of the first dials until a peer is connected.
    async fn first_round(&self, round: impl Future<Output = ()>) {
        let (round, connected) = (pin!(round), pin!(self.wait_while(|peers| peers.count() == 0)));
        let rest = match select(round, connected).await {
            Either::Left(_) => None,
            Either::Right(((), rest)) => Some(rest),
        };
        self.first_dial_ended();
        if let Some(rest) = rest {
            rest.await;
        }
    }

    /// Returns the peers to dial, of both kinds in turns.
    fn candidates(&self, listed: &[Multiaddr]) -> Vec<Candidate> {
        let remembered = self.remembered().to_dial(remembered::seconds());
        let listed =
            listed.iter().filter_map(|address| Some((peer_id(address).ok()?, vec![address.clone()])));
        let mut turns = Vec::new();
        let (mut one, mut other) = (remembered.into_iter(), listed);
        loop {
            let before = turns.len();
            turns.extend(one.next());
            turns.extend(other.next());
            if turns.len() == before {
                return turns;
            }
        }
    }

    async fn dial_candidates(&self, ipfs: &Ipfs, candidates: Vec<Candidate>) {
        let dial = |(id, addresses)| async move {
            let reached = self.dial_candidate(ipfs, id, addresses).await;
            (!reached).then_some(id)
        };
        let mut waiting = candidates.into_iter();
        let (mut dials, mut failed) = (FuturesUnordered::new(), Vec::new());
        let mut batches = tokio::time::interval(BATCH_INTERVAL);
        while self.count() < ENOUGH_PEERS && (waiting.len() > 0 || !dials.is_empty()) {
            tokio::select! {
                Some(outcome) = dials.next(), if !dials.is_empty() => {
                    failed.extend(outcome);
                    // There is nothing else to wait for.
                    if dials.is_empty() {
                        batches.reset_immediately();
                    }
                }
                _ = batches.tick(), if waiting.len() > 0 => {
                    dials.extend(waiting.by_ref().take(BATCH).map(dial));
                }
            }
        }
        // Without a single connection it is this node that has no network.
        if self.count() > 0 {
            let mut remembered = self.remembered();
            failed.iter().for_each(|id| remembered.failed(id));
        }
    }

    async fn dial_candidate(&self, ipfs: &Ipfs, id: PeerId, addresses: Vec<Multiaddr>) -> bool {
        if self.is_connected(&id) {
            return true;
        }
        let dial = async {
            let mut resolved = Vec::new();
            for address in &addresses {
                // One of several addresses may have a name that cannot be resolved.
                resolved.extend(self.addresses(address).await.unwrap_or_default());
            }
            let target = DialOpts::peer_id(id).condition(PeerCondition::DisconnectedAndNotDialing);
            ipfs.connect(target.addresses(resolved).build()).await
        };
        let reached = tokio::time::timeout(DIAL_TIMEOUT, dial).await.is_ok_and(|dialled| dialled.is_ok());
        reached || self.is_connected(&id)
    }

    /// Dials a peer that was found on the local network, whose addresses may be private ones. Returns whether it is connected.
    pub(crate) async fn dial_neighbour(&self, ipfs: &Ipfs, id: PeerId, addresses: Vec<Multiaddr>) -> bool {
        let is_named = self.is_named(&id);
        self.call(id);
        let reached = self.dial_candidate(ipfs, id, addresses).await;
        // Only for this dial: the user did not name it.
        if !is_named {
            self.uncall(&id);
        }
        reached
    }

    /// Writes the remembered peers every few minutes until it is stopped, and once more then.
    pub(crate) async fn save_remembered(self, data_dir: PathBuf, stop: CancellationToken) {
        let path = data_dir.join(remembered::FILE);
        let mut is_failing = false;
        loop {
            let stopped = tokio::time::timeout(SAVE_INTERVAL, stop.cancelled()).await.is_ok();
            let (peers, path) = (self.clone(), path.clone());
            let saved = tokio::task::spawn_blocking(move || remembered::save(&path, &mut peers.remembered()));
            match saved.await.map_err(std::io::Error::other).flatten() {
                Ok(()) => is_failing = false,
                Err(error) if !std::mem::replace(&mut is_failing, true) => {
                    tracing::warn!(%error, "cannot write the peers of this run; will retry");
                }
                Err(_) => {}
            }
            if stopped {
                return;
            }
        }
    }
}
