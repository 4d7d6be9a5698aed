//! The Bitswap client: one task that holds the sessions and sends each peer the wants of all sessions.

mod active_session;
mod received;
mod remote;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use libp2p::{PeerId, swarm::ConnectionId};
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    time::Instant,
};

use super::{
    ledger::URGENT,
    link::{Event, FetchedBlock, PeerConnection},
    provider_link::{Links, ProviderAnswers, ProviderWants},
    session::{Inquiry, Request, Salt, Session, WantedBlock},
    traffic::Counters,
    unsolicited::UnsolicitedBlocks,
    verify::Verified,
    wire::{Kind, Message, WantlistEntry},
};
use crate::{Cid, as_v1};
use active_session::ActiveSession;
use remote::RemotePeer;

const TICK: Duration = Duration::from_millis(100);
/// How long a peer that sent wrong blocks is not asked.
const BAN_DURATION: Duration = Duration::from_secs(300);
/// A peer that sent a block this recently probably has the next blocks too: first the path to a file, then the file.
const RECENT_SENDER_WINDOW: Duration = Duration::from_secs(10);
/// Events handled before wants are planned and sent.
const MAX_BATCH: usize = 64;
const MAX_PRIORITY: i32 = 1 << 30;

/// A handle to the client task.
#[derive(Clone)]
pub struct ClientHandle {
    events: mpsc::UnboundedSender<Event>,
    links: Arc<Links>,
    counter: Arc<AtomicU64>,
}

impl ClientHandle {
    pub(crate) fn new(events: mpsc::UnboundedSender<Event>, links: Arc<Links>) -> Self {
        Self { events, links, counter: Arc::default() }
    }

    /// Adds a provider that is reached without Bitswap to all sessions, until its wants are dropped. Its id must differ from
    /// that of every peer.
    pub fn open_link(&self, id: PeerId) -> (ProviderWants, ProviderAnswers) {
        self.links.open(id)
    }

    /// Starts a session: the wants of one DAG. Returns its id and the channel of its blocks.
    pub fn begin(&self) -> (u64, mpsc::UnboundedReceiver<FetchedBlock>) {
        let id = self.counter.fetch_add(1, Ordering::Relaxed);
        let (out, blocks) = mpsc::unbounded_channel();
        self.send(Event::Begin(id, out));
        (id, blocks)
    }

    /// Follows the progress of asking connected peers for a block; `None` until it starts.
    pub fn inquire(&self, id: u64, cid: Cid) -> watch::Receiver<Option<Inquiry>> {
        let (sender, inquiry) = watch::channel(None);
        self.send(Event::Inquire(id, cid, sender));
        inquiry
    }

    /// Requests blocks, in the order in which they are needed; each with its length in bytes, or 0 if unknown.
    pub fn want(&self, id: u64, wanted: Vec<(Cid, u64)>) {
        let wanted = wanted.into_iter().map(|(cid, size)| WantedBlock::new(cid, size)).collect();
        self.send(Event::Want(id, wanted));
    }

    /// Requests blocks that are not needed yet, after those that are.
    pub fn want_ahead(&self, id: u64, cids: Vec<Cid>) {
        let wanted = cids.into_iter().map(|cid| WantedBlock { is_ahead: true, ..WantedBlock::new(cid, 0) });
        self.send(Event::Want(id, wanted.collect()));
    }

    /// Requests a block before all others of its session.
    pub fn prefer(&self, id: u64, cid: Cid) {
        self.send(Event::Prefer(id, cid));
    }

    /// Cancels the wants of blocks.
    pub fn unwant(&self, id: u64, cids: Vec<Cid>) {
        self.send(Event::Unwant(id, cids));
    }

    /// Ends a session and cancels its wants.
    pub fn end(&self, id: u64) {
        self.send(Event::End(id));
    }

    /// Sends an event. After the task has ended, sessions see their channels closed.
    fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

/// All sessions, and all peers that can be asked.
pub struct Client {
    counters: Arc<Counters>,
    sessions: BTreeMap<u64, ActiveSession>,
    remotes: HashMap<PeerId, RemotePeer>,
    banned_peers: HashMap<PeerId, Instant>,
    /// Wantlist entries that `flush` sends.
    unsent: HashMap<PeerId, Vec<WantlistEntry>>,
    unsolicited: UnsolicitedBlocks,
    /// Wants sent so far by all sessions.
    sent_wants: u32,
    useful: u64,
    /// The sender of the last block, and its time.
    last: Option<(PeerId, Instant)>,
    salt: Salt,
}

impl Client {
    pub fn new(counters: Arc<Counters>) -> Self {
        Self {
            counters,
            sessions: BTreeMap::new(),
            remotes: HashMap::new(),
            banned_peers: HashMap::new(),
            unsent: HashMap::new(),
            unsolicited: UnsolicitedBlocks::default(),
            sent_wants: 0,
            useful: 0,
            last: None,
            salt: Salt::default(),
        }
    }

    /// A client whose choices are repeatable.
    #[cfg(test)]
    pub fn seeded(counters: Arc<Counters>, seed: u64) -> Self {
        Self { salt: Salt(seed), ..Self::new(counters) }
    }

    /// Runs until both channels are closed.
    pub async fn run(
        mut self,
        mut events: mpsc::UnboundedReceiver<Event>,
        mut found: mpsc::Receiver<Verified>,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                Some(event) = events.recv() => self.on_event(event),
                Some(verified) = found.recv() => self.on_verified(verified),
                _ = tick.tick(), if !self.sessions.is_empty() => self.on_tick(),
                else => return,
            }
            for _ in 0..MAX_BATCH {
                match (events.try_recv(), found.try_recv()) {
                    (Err(_), Err(_)) => break,
                    (event, verified) => {
                        event.into_iter().for_each(|event| self.on_event(event));
                        verified.into_iter().for_each(|verified| self.on_verified(verified));
                    }
                }
            }
            self.send_wants();
        }
    }

    /// Plans all changed sessions, and sends their wants.
    pub(super) fn send_wants(&mut self) {
        self.plan();
        self.flush();
    }

    pub(super) fn on_tick(&mut self) {
        self.sessions.values_mut().for_each(|active| active.changed = true);
    }

    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Opened(peer) => self.opened(peer),
            Event::Closed(peer, connection) => self.closed(peer, connection),
            Event::Begin(id, out) => self.begin(id, out),
            Event::Inquire(id, cid, notified) => {
                if let Some(active) = self.sessions.get_mut(&id) {
                    active.inquiry = Some((cid, notified));
                }
            }
            Event::Want(id, wanted) => self.want(id, wanted),
            Event::Prefer(id, cid) => self.with(id, |session| session.prefer(&cid)),
            Event::Unwant(id, cids) => self.unwant(id, &cids),
            Event::End(id) => self.end(id),
        }
    }

    fn want(&mut self, id: u64, mut wanted: Vec<WantedBlock>) {
        let Some(active) = self.sessions.get(&id) else { return };
        wanted.retain(|WantedBlock { cid, .. }| match self.unsolicited.remove(cid) {
            None => true,
            Some(block) => {
                self.counters.received(None, block.data.len());
                let _ = active.out.send(FetchedBlock { block, _memory: None });
                false
            }
        });
        self.with(id, |session| session.want(wanted));
    }

    fn with(&mut self, id: u64, change: impl FnOnce(&mut Session)) {
        if let Some(active) = self.sessions.get_mut(&id) {
            change(&mut active.session);
            active.changed = true;
        }
    }

    /// Adds a connection; its peer joins all sessions.
    fn opened(&mut self, peer: PeerConnection) {
        let id = peer.peer;
        let remote = self.remotes.entry(id).or_insert_with(|| RemotePeer::new(peer.share.clone()));
        remote.connections.push(peer);
        if self.is_banned(&id) {
            return;
        }
        let (rank, knows) = (u64::MAX, self.remotes[&id].supports_presences());
        for active in self.sessions.values_mut() {
            active.session.add_peer(id, rank, knows);
            active.changed = true;
        }
    }

    /// Removes a connection. Wants sent on it may be lost, so the peer is removed and added again.
    fn closed(&mut self, peer: PeerId, connection: ConnectionId) {
        let Some(remote) = self.remotes.get_mut(&peer) else { return };
        remote.connections.retain(|known| known.connection != connection);
        for cid_v1 in std::mem::take(&mut remote.open_wants) {
            remote.end_want(&cid_v1);
        }
        let left = remote.connections.pop();
        for active in self.sessions.values_mut() {
            active.session.remove_peer(&peer);
            active.changed = true;
        }
        if let Some(left) = left {
            self.opened(left);
        }
        // A disconnected peer is remembered only while its blocks may still be in the verification queue.
        self.remotes.retain(|_, remote| !remote.connections.is_empty() || remote.expects_late_blocks());
    }

    fn begin(&mut self, id: u64, out: mpsc::UnboundedSender<FetchedBlock>) {
        let mut session = Session::new(Salt(self.salt.hash_one(id)));
        for (peer, remote) in &self.remotes {
            if !remote.connections.is_empty() && !self.is_banned(peer) {
                session.add_peer(*peer, u64::MAX - remote.useful, remote.supports_presences());
            }
        }
        if let Some((peer, at)) = self.last
            && at.elapsed() < RECENT_SENDER_WINDOW
        {
            session.presume_complete(&peer);
        }
        self.sessions.insert(id, ActiveSession { session, out, changed: false, inquiry: None });
    }

    fn end(&mut self, id: u64) {
        let Some(active) = self.sessions.get(&id) else { return };
        let left: Vec<Cid> = active.session.wants().copied().collect();
        self.unwant(id, &left);
        self.sessions.remove(&id);
    }

    fn unwant(&mut self, id: u64, cids: &[Cid]) {
        let Some(active) = self.sessions.get_mut(&id) else { return };
        let notified: Vec<(Cid, HashSet<PeerId>)> =
            cids.iter().map(|cid| (as_v1(cid), active.session.notified_peers(cid))).collect();
        active.session.unwant(cids);
        active.changed = true;
        for (cid_v1, peers) in notified {
            if !self.sessions.values().any(|active| active.session.wants_block(&cid_v1)) {
                self.cancel(&cid_v1, peers);
            }
        }
    }

    fn cancel(&mut self, cid_v1: &Cid, peers: impl IntoIterator<Item = PeerId>) {
        for peer in peers {
            let Some(remote) = self.remotes.get_mut(&peer) else { continue };
            if remote.end_want(cid_v1) {
                self.unsent.entry(peer).or_default().push(WantlistEntry::cancel(*cid_v1));
            }
        }
    }

    fn is_banned(&self, peer: &PeerId) -> bool {
        self.banned_peers.get(peer).is_some_and(|at| at.elapsed() < BAN_DURATION)
    }

    /// Turns the requests of all changed sessions into wantlist entries for their peers.
    fn plan(&mut self) {
        let now = Instant::now();
        let mut moved = BTreeSet::new();
        let Self { sessions, remotes, unsent, sent_wants, .. } = self;
        for active in sessions.values_mut() {
            if !std::mem::take(&mut active.changed) {
                continue;
            }
            let peer_state = |peer: &PeerId| remotes.get(peer).map(RemotePeer::state).unwrap_or_default();
            let requests = active.session.plan(now, &peer_state);
            for request in requests {
                // Earlier wants keep a higher priority: a peer that always has newer wants would never reach them.
                *sent_wants = sent_wants.saturating_add(1);
                let later = MAX_PRIORITY.saturating_sub_unsigned(*sent_wants).max(1);
                let (peer, cid, kind, priority) = match request {
                    Request::Block { peer, cid, urgent: true } => (peer, cid, Kind::Block, URGENT),
                    Request::Block { peer, cid, urgent: false } => (peer, cid, Kind::Block, later),
                    Request::Have { peer, cid } => (peer, cid, Kind::Have, later),
                    Request::Cancel { peer, cid } => {
                        moved.insert((peer, cid));
                        continue;
                    }
                };
                // Moved away and back: the want stands.
                if moved.remove(&(peer, cid)) {
                    continue;
                }
                if let Some(remote) = remotes.get_mut(&peer) {
                    remote.open_wants.insert(as_v1(&cid));
                }
                unsent.entry(peer).or_default().push(WantlistEntry::want(cid, kind, priority));
            }
            active.report();
        }
        // Another session may have requested the block from the same peer.
        moved.retain(|(peer, cid)| {
            !self.sessions.values().any(|active| active.session.has_requested(peer, cid))
        });
        for (peer, cid) in moved {
            self.cancel(&as_v1(&cid), [peer]);
        }
    }

    /// Sends the new wantlist entries to each peer over its first connection.
    fn flush(&mut self) {
        for (peer, wants) in std::mem::take(&mut self.unsent) {
            let Some(remote) = self.remotes.get(&peer) else { continue };
            let Some(connection) = remote.connections.first() else { continue };
            if !remote.open_wants.is_empty() {
                remote.share.requested();
            }
            // A closed connection is reported by its own event.
            let sent = connection.wants.try_send(Message { wants, ..Message::default() });
            if matches!(sent, Err(TrySendError::Full(_))) {
                tracing::debug!(%peer, "peer does not read its wants; it is not asked any more");
                self.closed(peer, connection.connection);
            }
        }
    }
}
