//! The Bitswap client: one task that holds the sessions and sends each peer the wants of all sessions.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
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

use super::unsolicited::UnsolicitedBlocks;
use super::{
    Counters,
    budget::{LATE_BLOCK_TIMEOUT, MemoryLease, Share},
    handler::Activity,
    ledger::URGENT,
    recent_wants::RecentWants,
    session::{Inquiry, PeerState, Request, Session, WantedBlock},
    verify::Verified,
    wire::{Entry, Kind, Message, Version},
};
use crate::{Block, Cid, blocks::key};

const TICK: Duration = Duration::from_millis(100);
/// Less than boxo keeps for a peer.
const MAX_WANTS_PER_PEER: usize = 1000;
/// How long a peer that sent wrong blocks is not asked.
const BAN_DURATION: Duration = Duration::from_secs(300);
const MAX_BANNED: usize = 4096;
/// Cancelled wants remembered for a peer, twice the number it may have: their blocks may still arrive.
const MAX_RECENT_WANTS: usize = 2 * MAX_WANTS_PER_PEER;
/// A peer that sent a block this recently probably has the next blocks too: first the path to a file, then the file.
const RECENT_SENDER_WINDOW: Duration = Duration::from_secs(10);
/// Events handled before wants are planned and sent.
const MAX_BATCH: usize = 64;
const MAX_PRIORITY: i32 = 1 << 30;

/// A connection to a peer.
pub struct PeerConnection {
    pub peer: PeerId,
    pub connection: ConnectionId,
    pub wants: mpsc::Sender<Message>,
    pub version: Version,
    pub activity: Arc<Activity>,
    pub share: Arc<Share>,
}

/// Input of the client task.
pub enum Event {
    /// A connection is ready for wants.
    Opened(PeerConnection),
    /// A connection was closed.
    Closed(PeerId, ConnectionId),
    /// Starts a session; its blocks are sent to the channel.
    Begin(u64, mpsc::UnboundedSender<FetchedBlock>),
    /// Sends the progress of asking connected peers for a block to the channel.
    Inquire(u64, Cid, watch::Sender<Option<Inquiry>>),
    Want(u64, Vec<WantedBlock>),
    Prefer(u64, Cid),
    Unwant(u64, Vec<Cid>),
    End(u64),
}

/// A verified block, with its share of its connection's memory.
#[derive(Clone, Debug)]
pub struct FetchedBlock {
    /// The block.
    pub block: Block,
    _memory: Option<Arc<MemoryLease>>,
}

/// A handle to the client task.
#[derive(Clone)]
pub(crate) struct ClientHandle {
    events: mpsc::UnboundedSender<Event>,
    counter: Arc<std::sync::atomic::AtomicU64>,
}

impl ClientHandle {
    pub(super) fn new(events: mpsc::UnboundedSender<Event>) -> Self {
        Self { events, counter: Arc::default() }
    }

    /// Starts a session. Returns its id and the channel of its blocks.
    pub(crate) fn begin(&self) -> (u64, mpsc::UnboundedReceiver<FetchedBlock>) {
        let id = self.counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (out, blocks) = mpsc::unbounded_channel();
        self.send(Event::Begin(id, out));
        (id, blocks)
    }

    /// Follows the progress of asking connected peers for a block; `None` until it starts.
    pub(crate) fn inquire(&self, id: u64, cid: Cid) -> watch::Receiver<Option<Inquiry>> {
        let (sender, inquiry) = watch::channel(None);
        self.send(Event::Inquire(id, cid, sender));
        inquiry
    }

    pub(crate) fn want(&self, id: u64, wanted: Vec<(Cid, u64)>) {
        let wanted = wanted.into_iter().map(|(cid, size)| WantedBlock { cid, size }).collect();
        self.send(Event::Want(id, wanted));
    }

    pub(crate) fn prefer(&self, id: u64, cid: Cid) {
        self.send(Event::Prefer(id, cid));
    }

    pub(crate) fn unwant(&self, id: u64, cids: Vec<Cid>) {
        self.send(Event::Unwant(id, cids));
    }

    pub(crate) fn end(&self, id: u64) {
        self.send(Event::End(id));
    }

    /// Sends an event. After the task has ended, sessions see their channels closed.
    fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

struct RemotePeer {
    connections: Vec<PeerConnection>,
    share: Arc<Share>,
    /// Wants that the peer has of this node.
    open_wants: HashSet<Cid>,
    recent: RecentWants,
    last_ended: Option<Instant>,
    /// The value of the client's counter at the peer's last block: peers that delivered recently are asked first.
    useful: u64,
}

impl RemotePeer {
    fn was_asked(&self, name: &Cid) -> bool {
        self.open_wants.contains(name) || self.recent.contains(name)
    }

    fn end_want(&mut self, name: &Cid) -> bool {
        self.recent.add(name, MAX_RECENT_WANTS);
        self.last_ended = Some(Instant::now());
        let was_standing = self.open_wants.remove(name);
        if self.open_wants.is_empty() {
            self.share.requests_ended();
        }
        was_standing
    }

    fn expects_late_blocks(&self) -> bool {
        self.last_ended.is_some_and(|at| at.elapsed() < LATE_BLOCK_TIMEOUT)
    }

    fn supports_presences(&self) -> bool {
        self.connections.first().is_some_and(|connection| connection.version == Version::V1_2)
    }
}

struct ActiveSession {
    session: Session,
    out: mpsc::UnboundedSender<FetchedBlock>,
    /// Whether anything changed since the last plan.
    changed: bool,
    /// The block whose progress is reported.
    inquiry: Option<(Cid, watch::Sender<Option<Inquiry>>)>,
}

impl ActiveSession {
    fn report(&mut self) {
        self.inquiry.take_if(|(_, notified)| notified.is_closed());
        let Some((cid, notified)) = &self.inquiry else { return };
        let inquiry = Some(self.session.inquiry(cid));
        notified.send_if_modified(|last| std::mem::replace(last, inquiry) != inquiry);
    }
}

/// All sessions, and all peers that can be asked.
pub struct Client {
    counters: Arc<Counters>,
    sessions: BTreeMap<u64, ActiveSession>,
    remotes: HashMap<PeerId, RemotePeer>,
    banned_peers: HashMap<PeerId, Instant>,
    outbox: HashMap<PeerId, Vec<Entry>>,
    unsolicited: UnsolicitedBlocks,
    /// Wants sent so far by all sessions.
    asked: u32,
    useful: u64,
    /// The sender of the last block, and its time.
    last: Option<(PeerId, Instant)>,
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
            asked: 0,
            useful: 0,
            last: None,
        }
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
            self.plan();
            self.flush();
        }
    }

    fn on_tick(&mut self) {
        self.sessions.values_mut().for_each(|active| active.changed = true);
    }

    fn on_event(&mut self, event: Event) {
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

    fn opened(&mut self, peer: PeerConnection) {
        let id = peer.peer;
        let remote = self.remotes.entry(id).or_insert_with(|| RemotePeer {
            connections: Vec::new(),
            share: peer.share.clone(),
            open_wants: HashSet::new(),
            recent: RecentWants::default(),
            last_ended: None,
            useful: 0,
        });
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
        let mut session = Session::default();
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
                self.outbox.entry(peer).or_default().push(cancel(*name));
            }
        }
    }

    fn is_banned(&self, peer: &PeerId) -> bool {
        self.banned_peers.get(peer).is_some_and(|at| at.elapsed() < BAN_DURATION)
    }

    fn on_verified(&mut self, verified: Verified) {
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

    fn plan(&mut self) {
        let now = Instant::now();
        let Self { sessions, remotes, outbox, asked, .. } = self;
        for active in sessions.values_mut() {
            if !std::mem::take(&mut active.changed) {
                continue;
            }
            let peer_state = |peer: &PeerId| match remotes.get(peer) {
                Some(remote) => PeerState {
                    last_activity: remote
                        .connections
                        .iter()
                        .map(|connection| connection.activity.last())
                        .max(),
                    free_wants: MAX_WANTS_PER_PEER.saturating_sub(remote.open_wants.len()),
                },
                None => PeerState { last_activity: None, free_wants: 0 },
            };
            let requests = active.session.plan(now, &peer_state);
            for request in requests {
                // Earlier wants keep a higher priority: a peer that always has newer wants would never reach them.
                *asked = asked.saturating_add(1);
                let place = MAX_PRIORITY.saturating_sub_unsigned(*asked).max(1);
                let (peer, cid, kind, priority) = match request {
                    Request::Block { peer, cid, urgent: true } => (peer, cid, Kind::Block, URGENT),
                    Request::Block { peer, cid, urgent: false } => (peer, cid, Kind::Block, place),
                    Request::Have { peer, cid } => (peer, cid, Kind::Have, place),
                    Request::Cancel { peer, cid } => {
                        if remotes.get_mut(&peer).is_some_and(|remote| remote.end_want(&key(&cid))) {
                            outbox.entry(peer).or_default().push(cancel(cid));
                        }
                        continue;
                    }
                };
                if let Some(remote) = remotes.get_mut(&peer) {
                    remote.open_wants.insert(key(&cid));
                }
                outbox.entry(peer).or_default().push(Entry { priority, ..entry(cid, kind) });
            }
            active.report();
        }
    }

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

/// WANT-BLOCK sets `send_dont_have`. WANT-HAVE does not, so it is answered only once the peer has the block.
fn entry(cid: Cid, kind: Kind) -> Entry {
    Entry { cid, priority: 1, cancel: false, kind, send_dont_have: kind == Kind::Block }
}

fn cancel(cid: Cid) -> Entry {
    Entry { cancel: true, ..entry(cid, Kind::Block) }
}
