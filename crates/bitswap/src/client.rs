//! The Bitswap client: one task that holds the sessions and sends each peer the wants of all sessions.

mod active_session;
mod handle;
mod remote;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use libp2p::{PeerId, swarm::ConnectionId};
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};

use super::{
    budget::MemoryLease,
    ledger::URGENT,
    link::{Event, FetchedBlock, PeerConnection},
    session::{Request, Salt, Session, WantedBlock},
    traffic::Counters,
    unsolicited::UnsolicitedBlocks,
    verify::Verified,
    wire::{Entry, Kind, Message},
};
use crate::{Block, Cid, blocks::key};
use active_session::ActiveSession;
pub use handle::ClientHandle;
use remote::RemotePeer;

const TICK: Duration = Duration::from_millis(100);
/// How long a peer that sent wrong blocks is not asked.
const BAN_DURATION: Duration = Duration::from_secs(300);
const MAX_BANNED: usize = 4096;
/// A peer that sent a block this recently probably has the next blocks too: first the path to a file, then the file.
const RECENT_SENDER_WINDOW: Duration = Duration::from_secs(10);
/// Events handled before wants are planned and sent.
const MAX_BATCH: usize = 64;
const MAX_PRIORITY: i32 = 1 << 30;

/// All sessions, and all peers that can be asked.
pub struct Client {
    counters: Arc<Counters>,
    sessions: BTreeMap<u64, ActiveSession>,
    remotes: HashMap<PeerId, RemotePeer>,
    banned_peers: HashMap<PeerId, Instant>,
    outbox: HashMap<PeerId, Vec<Entry>>,
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
            outbox: HashMap::new(),
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
                self.counters.received(block.data.len());
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
        for name in std::mem::take(&mut remote.open_wants) {
            remote.end_want(&name);
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
            cids.iter().map(|cid| (key(cid), active.session.notified_peers(cid))).collect();
        active.session.unwant(cids);
        active.changed = true;
        for (name, peers) in notified {
            if !self.sessions.values().any(|active| active.session.wants_block(&name)) {
                self.cancel(&name, peers);
            }
        }
    }

    fn cancel(&mut self, name: &Cid, peers: impl IntoIterator<Item = PeerId>) {
        for peer in peers {
            let Some(remote) = self.remotes.get_mut(&peer) else { continue };
            if remote.end_want(name) {
                self.outbox.entry(peer).or_default().push(Entry::cancel(*name));
            }
        }
    }

    fn is_banned(&self, peer: &PeerId) -> bool {
        self.banned_peers.get(peer).is_some_and(|at| at.elapsed() < BAN_DURATION)
    }

    pub(super) fn on_verified(&mut self, verified: Verified) {
        let Verified { peer, presences, blocks, unusable, memory } = verified;
        for (cid, have) in presences {
            self.on_presence(&peer, &cid, have);
        }
        let sent = blocks.len();
        let unrequested: Vec<Block> =
            blocks.into_iter().filter_map(|block| self.on_block(&peer, block, &memory)).collect();
        let is_unsolicited = unrequested.len() < sent && self.unsolicited.keep(unrequested.clone());
        let is_wrong = unusable > 0 || !(unrequested.is_empty() || is_unsolicited);
        if is_wrong && self.remotes.contains_key(&peer) {
            self.ban(peer);
        }
    }

    fn on_presence(&mut self, peer: &PeerId, cid: &Cid, have: bool) {
        if self.is_banned(peer) {
            return;
        }
        for active in self.sessions.values_mut() {
            active.changed |= match have {
                true => active.session.on_have(peer, cid),
                false => active.session.on_dont_have(peer, cid),
            };
        }
    }

    /// Delivers a block to its sessions, or returns it if this peer was never asked for it.
    fn on_block(&mut self, peer: &PeerId, block: Block, memory: &Arc<MemoryLease>) -> Option<Block> {
        let name = key(&block.cid);
        let remote = self.remotes.get_mut(peer)?;
        if !remote.was_asked(&name) {
            return Some(block);
        }
        self.useful += 1;
        remote.useful = self.useful;
        let (now, size) = (Instant::now(), block.data.len() as u64);
        self.last = Some((*peer, now));
        // Counted before delivery, since a receiver may read the counters at once.
        if self.sessions.values().any(|active| active.session.wants_block(&name)) {
            self.counters.received(block.data.len());
            remote.share.delivered();
        }
        let mut notified = HashSet::new();
        for active in self.sessions.values_mut() {
            if !active.session.wants_block(&name) {
                continue;
            }
            notified.extend(active.session.notified_peers(&name));
            if active.session.on_block(peer, &name, size, now) {
                active.changed = true;
                let _ = active.out.send(FetchedBlock { block: block.clone(), _memory: Some(memory.clone()) });
            }
        }
        // Also cancelled at the sender: some peers remember what they sent, and do not send it again when asked.
        notified.insert(*peer);
        self.cancel(&name, notified);
        None
    }

    /// Stops asking a peer that sent wrong blocks, for a while.
    fn ban(&mut self, peer: PeerId) {
        tracing::warn!(%peer, "peer sent blocks that were not requested and is not asked for {} s", BAN_DURATION.as_secs());
        if self.banned_peers.len() >= MAX_BANNED {
            self.banned_peers.retain(|_, at| at.elapsed() < BAN_DURATION);
        }
        self.banned_peers.insert(peer, Instant::now());
        let open_wants: Vec<Cid> =
            self.remotes.get(&peer).into_iter().flat_map(|r| &r.open_wants).copied().collect();
        for name in open_wants {
            self.cancel(&name, [peer]);
        }
        if let Some(remote) = self.remotes.get(&peer) {
            remote.share.banned();
        }
        for active in self.sessions.values_mut() {
            active.session.ban_peer(&peer);
            active.changed = true;
        }
    }

    /// Turns the requests of all changed sessions into wantlist entries for their peers.
    fn plan(&mut self) {
        let now = Instant::now();
        let mut moved = BTreeSet::new();
        let Self { sessions, remotes, outbox, sent_wants, .. } = self;
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
                    remote.open_wants.insert(key(&cid));
                }
                outbox.entry(peer).or_default().push(Entry::want(cid, kind, priority));
            }
            active.report();
        }
        // Another session may have requested the block from the same peer.
        moved.retain(|(peer, cid)| {
            !self.sessions.values().any(|active| active.session.has_requested(peer, cid))
        });
        for (peer, cid) in moved {
            self.cancel(&key(&cid), [peer]);
        }
    }

    /// Sends the new wantlist entries to each peer over its first connection.
    fn flush(&mut self) {
        for (peer, wants) in std::mem::take(&mut self.outbox) {
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
