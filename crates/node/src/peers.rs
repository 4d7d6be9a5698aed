//! Who is connected, and the redialling of those that always should be.

mod dial;

use std::{
    collections::{HashMap, HashSet},
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, core::ConnectedPoint};
use rust_ipfs::Ipfs;
use tokio::sync::watch;

use crate::locked;

pub(crate) use dial::peer_id;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The same for a peer that closes connections at once because it is full, while this node has few others.
const LONGEST_PAUSE_ALONE: Duration = Duration::from_secs(8);
/// The pauses after a visit to a full peer.
const PAUSES_AFTER_A_VISIT: RangeInclusive<Duration> = Duration::from_secs(30)..=Duration::from_secs(10 * 60);
/// A connection that is closed sooner was a visit to a full peer, or that peer is in trouble.
const LIVED: Duration = Duration::from_secs(60);
/// With so many other peers this node can wait for a full one; as many are in a gossipsub mesh.
const ENOUGH_OTHERS: usize = 6;
/// How long a fresh node's first dials may hold up the verdict that there is nobody to ask.
const SETTLING: Duration = Duration::from_secs(5);

/// A connected peer.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its identity.
    pub id: PeerId,
    /// Where it was reached, or came from.
    pub address: Multiaddr,
    /// Whether this node dialled it.
    pub dialled: bool,
    /// What it calls itself.
    pub agent: Option<String>,
    /// When the connection was made.
    pub since: Instant,
}

/// The table of connected peers, shared between the swarm and everybody who asks.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Shared>);

struct Shared {
    table: Mutex<HashMap<PeerId, Peer>>,
    /// Counts changes of the table.
    changes: watch::Sender<u64>,
    /// The routing table's size, said again whenever somebody joins it.
    joins: watch::Sender<usize>,
    /// Peers that this node is to be connected to, whatever the limits are.
    configured: HashSet<PeerId>,
    /// Peers that it dialled by itself, until they are gone.
    wanted: Mutex<HashSet<PeerId>>,
    /// Configured peers that identified themselves since they were last dialled.
    identified: Mutex<HashSet<PeerId>>,
    /// First dials that have not ended yet.
    dialling: watch::Sender<usize>,
    started: Instant,
}

impl Peers {
    /// A table that is settled once the first dials of all `configured` peers have ended.
    pub(crate) fn new(configured: &[Multiaddr]) -> Self {
        Self(Arc::new(Shared {
            table: Mutex::default(),
            changes: watch::Sender::new(0),
            joins: watch::Sender::new(0),
            configured: configured.iter().filter_map(|address| peer_id(address).ok()).collect(),
            wanted: Mutex::default(),
            identified: Mutex::default(),
            dialling: watch::Sender::new(configured.len()),
            started: Instant::now(),
        }))
    }

    fn table(&self) -> MutexGuard<'_, HashMap<PeerId, Peer>> {
        locked(&self.0.table)
    }

    pub(crate) fn connected(&self, id: PeerId, endpoint: &ConnectedPoint) {
        let peer = Peer {
            id,
            address: endpoint.get_remote_address().clone(),
            dialled: endpoint.is_dialer(),
            agent: None,
            since: Instant::now(),
        };
        self.table().entry(id).or_insert(peer);
        self.0.changes.send_modify(|n| *n += 1);
    }

    pub(crate) fn disconnected(&self, id: &PeerId) {
        self.table().remove(id);
        self.unwant(id);
        self.0.changes.send_modify(|n| *n += 1);
    }

    /// Keeps the next connection to a peer whatever the limits are.
    pub(crate) fn want(&self, id: PeerId) {
        locked(&self.0.wanted).insert(id);
    }

    pub(crate) fn unwant(&self, id: &PeerId) {
        locked(&self.0.wanted).remove(id);
    }

    pub(crate) fn is_wanted(&self, id: &PeerId) -> bool {
        self.is_configured(id) || locked(&self.0.wanted).contains(id)
    }

    pub(crate) fn is_configured(&self, id: &PeerId) -> bool {
        self.0.configured.contains(id)
    }

    /// Whether a configured peer has identified itself since this was last asked: then it did not refuse the connection.
    fn was_identified(&self, id: &PeerId) -> bool {
        locked(&self.0.identified).remove(id)
    }

    /// Takes what a peer calls itself; whether it is the first time since it connected.
    pub(crate) fn identified(&self, id: &PeerId, agent: String) -> bool {
        if self.is_configured(id) {
            locked(&self.0.identified).insert(*id);
        }
        let mut table = self.table();
        let Some(peer) = table.get_mut(id) else { return false };
        // A peer chooses this text: what is shown of it is short and printable.
        let agent = agent.chars().filter(|c| !c.is_control()).take(64).collect();
        peer.agent.replace(agent).is_none()
    }

    /// Says that somebody joined the routing table, which now has `size` peers.
    pub(crate) fn joined(&self, size: usize) {
        self.0.joins.send_replace(size);
    }

    /// Follows who joins the routing table.
    pub(crate) fn joins(&self) -> watch::Receiver<usize> {
        self.0.joins.subscribe()
    }

    pub(crate) fn is_connected(&self, id: &PeerId) -> bool {
        self.table().contains_key(id)
    }

    pub(crate) fn count(&self) -> usize {
        self.table().len()
    }

    pub(crate) fn list(&self) -> Vec<Peer> {
        let mut all: Vec<_> = self.table().values().cloned().collect();
        all.sort_by_key(|peer| peer.since);
        all
    }

    /// Waits until the first dials have ended, well or not, or have had their time.
    pub(crate) async fn settled(&self) {
        let left = SETTLING.saturating_sub(self.0.started.elapsed());
        let mut dialling = self.0.dialling.subscribe();
        let _ = tokio::time::timeout(left, dialling.wait_for(|left| *left == 0)).await;
    }

    /// Waits until `holds` no longer does of the table.
    async fn wait_while(&self, holds: impl Fn(&Self) -> bool) {
        let mut changes = self.0.changes.subscribe();
        while holds(self) && changes.changed().await.is_ok() {}
    }

    /// Dials `address` whenever the table is not `enough`, pausing longer each time the peer was not reached, or was full.
    pub(crate) async fn keep(self, ipfs: Ipfs, address: Multiaddr, enough: impl Fn(&Self) -> bool) {
        let mut pause = Pause::default();
        let mut first = true;
        loop {
            let reached = self.dial(&ipfs, &address).await;
            if let Err(error) = &reached {
                tracing::debug!(%address, %error, "cannot reach peer; will retry");
            }
            let dialled = Instant::now();
            if std::mem::take(&mut first) {
                self.0.dialling.send_modify(|left| *left = left.saturating_sub(1));
            }
            self.wait_while(&enough).await;
            let was_identified = peer_id(&address).is_ok_and(|id| self.was_identified(&id));
            let pause =
                pause.next(End::new(reached.is_ok(), was_identified, dialled.elapsed(), self.count()));
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.8..1.2))).await;
        }
    }
}

/// The pause before a peer is dialled again.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(FIRST_PAUSE)
    }
}

/// What became of the last dial of a peer.
#[derive(Clone, Copy)]
enum End {
    Unreachable,
    /// It is full, and this node has few other peers.
    RefusedAlone,
    /// It is full, and closed the connection after a visit; this node knows others.
    Visited,
    Connected,
}

impl End {
    /// `others` are connected now that the connection has `lived`, if the peer was `reached` at all.
    fn new(reached: bool, was_identified: bool, lived: Duration, others: usize) -> Self {
        match was_identified {
            true if lived < LIVED && others >= ENOUGH_OTHERS => Self::Visited,
            true => Self::Connected,
            false if reached && others < ENOUGH_OTHERS => Self::RefusedAlone,
            false => Self::Unreachable,
        }
    }
}

impl Pause {
    /// Twice as long each time, also where a peer takes a connection only to close it.
    fn next(&mut self, end: End) -> Duration {
        let (shortest, longest) = match end {
            End::Unreachable => (FIRST_PAUSE, LONGEST_PAUSE),
            End::RefusedAlone => (FIRST_PAUSE, LONGEST_PAUSE_ALONE),
            End::Visited => PAUSES_AFTER_A_VISIT.into_inner(),
            End::Connected => (FIRST_PAUSE, FIRST_PAUSE),
        };
        let pause = self.0.clamp(shortest, longest);
        self.0 = pause * 2;
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pauses in milliseconds when each of so many dials ends like this.
    fn pauses(pause: &mut Pause, count: usize, end: End) -> Vec<u128> {
        (0..count).map(|_| pause.next(end).as_millis()).collect()
    }

    #[test]
    fn the_pause_before_a_redial_grows_until_the_peer_has_identified_itself() {
        let mut pause = Pause::default();
        let unreachable = End::new(false, false, Duration::ZERO, 0);
        let growing = [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000];
        assert_eq!(pauses(&mut pause, 9, unreachable), growing);
        for connected in [End::new(true, true, LIVED, ENOUGH_OTHERS), End::new(true, true, Duration::ZERO, 1)]
        {
            assert_eq!(pauses(&mut pause, 1, connected), [500]);
            assert_eq!(pauses(&mut pause, 2, unreachable), [1000, 2000]);
        }
    }

    #[test]
    fn a_full_peer_is_redialled_seldom_by_a_node_that_has_other_peers_and_often_by_one_that_has_none() {
        let visit = End::new(true, true, Duration::from_secs(3), ENOUGH_OTHERS);
        let growing = [30_000, 60_000, 120_000, 240_000, 480_000, 600_000, 600_000];
        assert_eq!(pauses(&mut Pause::default(), 7, visit), growing);
        let alone = End::new(true, false, Duration::ZERO, 0);
        assert_eq!(pauses(&mut Pause::default(), 6, alone), [500, 1000, 2000, 4000, 8000, 8000]);
    }
}
