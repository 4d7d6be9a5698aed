//! Fetching: one task holds the sessions and tells each peer what they want of it.

pub(super) mod ahead;
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

use super::{
    Counters,
    budget::{LATE, Room, Share},
    handler::Heard,
    ledger::URGENT,
    recent::Recent,
    session::{Ask, Inquiry, Reach, Session, Wanted},
    verify::Verified,
    wire::{Entry, Kind, Message, Version},
};
use crate::{Block, Cid, blocks::key};
use ahead::Ahead;

const TICK: Duration = Duration::from_millis(100);
/// Below what boxo keeps for a peer.
const MOST_WANTS: usize = 1000;
/// What a peer that sent wrong bytes is not asked for.
const DISTRUST: Duration = Duration::from_secs(300);
const LIARS: usize = 4096;
/// A block whose want was cancelled may still come: so many wants of a peer are remembered, twice what it may have.
const REMEMBERED: usize = 2 * MOST_WANTS;
/// Who sent a block so lately probably has what is asked for next, too: the path to a file, then the file.
const JUST_NOW: Duration = Duration::from_secs(10);
/// Inputs taken before anything is said.
const BATCH: usize = 64;
const HIGHEST: i32 = 1 << 30;

/// A peer as a connection reaches it.
pub struct Peer {
    pub peer: PeerId,
    pub connection: ConnectionId,
    pub wants: mpsc::Sender<Message>,
    pub version: Version,
    pub heard: Arc<Heard>,
    pub share: Arc<Share>,
}

/// What the engine is told.
pub enum Event {
    /// A peer can be asked.
    Opened(Peer),
    /// A connection is gone.
    Closed(PeerId, ConnectionId),
    /// A session begins; its blocks go there.
    Begin(u64, mpsc::UnboundedSender<Fetched>),
    /// The progress of asking connected peers for a block goes there.
    Inquire(u64, Cid, watch::Sender<Option<Inquiry>>),
    Want(u64, Vec<Wanted>),
    Prefer(u64, Cid),
    Unwant(u64, Vec<Cid>),
    End(u64),
}

/// A block that came, verified, and its share of what its connection may have in memory.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The block.
    pub block: Block,
    _room: Option<Arc<Room>>,
}

/// The way to the engine.
#[derive(Clone)]
pub(crate) struct Commands {
    events: mpsc::UnboundedSender<Event>,
    counter: Arc<std::sync::atomic::AtomicU64>,
}

impl Commands {
    pub(super) fn new(events: mpsc::UnboundedSender<Event>) -> Self {
        Self { events, counter: Arc::default() }
    }

    /// Begins a session: its number, and its blocks as they come.
    pub(crate) fn begin(&self) -> (u64, mpsc::UnboundedReceiver<Fetched>) {
        let id = self.counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (out, blocks) = mpsc::unbounded_channel();
        self.send(Event::Begin(id, out));
        (id, blocks)
    }

    /// Follows the progress of asking connected peers for a block; none before it has begun.
    pub(crate) fn inquire(&self, id: u64, cid: Cid) -> watch::Receiver<Option<Inquiry>> {
        let (sender, inquiry) = watch::channel(None);
        self.send(Event::Inquire(id, cid, sender));
        inquiry
    }

    pub(crate) fn want(&self, id: u64, wanted: Vec<(Cid, u64)>) {
        let wanted = wanted.into_iter().map(|(cid, size)| Wanted { cid, size }).collect();
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

    /// After the engine's end nothing is fetched, which those who wait see by their closed channel.
    fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

struct Remote {
    connections: Vec<Peer>,
    share: Arc<Share>,
    /// Wants that it has of us.
    standing: HashSet<Cid>,
    recent: Recent,
    settled: Option<Instant>,
    /// Counts up with every block that came of it: who was useful is asked first.
    useful: u64,
}

impl Remote {
    fn was_asked(&self, name: &Cid) -> bool {
        self.standing.contains(name) || self.recent.contains(name)
    }

    fn settle(&mut self, name: &Cid) -> bool {
        self.recent.add(name, REMEMBERED);
        self.settled = Some(Instant::now());
        let was_standing = self.standing.remove(name);
        if self.standing.is_empty() {
            self.share.settled();
        }
        was_standing
    }

    fn expects_late_blocks(&self) -> bool {
        self.settled.is_some_and(|at| at.elapsed() < LATE)
    }

    fn knows_presences(&self) -> bool {
        self.connections.first().is_some_and(|connection| connection.version == Version::V1_2)
    }
}

struct Fetch {
    session: Session,
    out: mpsc::UnboundedSender<Fetched>,
    /// Something happened to it since its last plan.
    changed: bool,
    /// The block whose progress is followed.
    inquiry: Option<(Cid, watch::Sender<Option<Inquiry>>)>,
}

impl Fetch {
    fn report(&mut self) {
        self.inquiry.take_if(|(_, told)| told.is_closed());
        let Some((cid, told)) = &self.inquiry else { return };
        let inquiry = Some(self.session.inquiry(cid));
        told.send_if_modified(|last| std::mem::replace(last, inquiry) != inquiry);
    }
}

/// All sessions and all peers that can be asked.
pub struct Engine {
    counters: Arc<Counters>,
    fetches: BTreeMap<u64, Fetch>,
    remotes: HashMap<PeerId, Remote>,
    liars: HashMap<PeerId, Instant>,
    outbox: HashMap<PeerId, Vec<Entry>>,
    ahead: Ahead,
    /// Wants sent so far, of all sessions.
    asked: u32,
    useful: u64,
    /// Who sent the last block, and when.
    last: Option<(PeerId, Instant)>,
}

impl Engine {
    pub fn new(counters: Arc<Counters>) -> Self {
        Self {
            counters,
            fetches: BTreeMap::new(),
            remotes: HashMap::new(),
            liars: HashMap::new(),
            outbox: HashMap::new(),
            ahead: Ahead::default(),
            asked: 0,
            useful: 0,
            last: None,
        }
    }

    /// Works until both channels are closed.
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
                _ = tick.tick(), if !self.fetches.is_empty() => self.on_tick(),
                else => return,
            }
            for _ in 0..BATCH {
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
        self.fetches.values_mut().for_each(|fetch| fetch.changed = true);
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Opened(peer) => self.opened(peer),
            Event::Closed(peer, connection) => self.closed(peer, connection),
            Event::Begin(id, out) => self.begin(id, out),
            Event::Inquire(id, cid, told) => {
                if let Some(fetch) = self.fetches.get_mut(&id) {
                    fetch.inquiry = Some((cid, told));
                }
            }
            Event::Want(id, wanted) => self.want(id, wanted),
            Event::Prefer(id, cid) => self.with(id, |session| session.prefer(&cid)),
            Event::Unwant(id, cids) => self.unwant(id, &cids),
            Event::End(id) => self.end(id),
        }
    }

    fn want(&mut self, id: u64, mut wanted: Vec<Wanted>) {
        let Some(fetch) = self.fetches.get(&id) else { return };
        wanted.retain(|Wanted { cid, .. }| match self.ahead.take(cid) {
            None => true,
            Some(block) => {
                self.counters.received(block.data.len());
                let _ = fetch.out.send(Fetched { block, _room: None });
                false
            }
        });
        self.with(id, |session| session.want(wanted));
    }

    fn with(&mut self, id: u64, change: impl FnOnce(&mut Session)) {
        if let Some(fetch) = self.fetches.get_mut(&id) {
            change(&mut fetch.session);
            fetch.changed = true;
        }
    }

    fn opened(&mut self, peer: Peer) {
        let id = peer.peer;
        let remote = self.remotes.entry(id).or_insert_with(|| Remote {
            connections: Vec::new(),
            share: peer.share.clone(),
            standing: HashSet::new(),
            recent: Recent::default(),
            settled: None,
            useful: 0,
        });
        remote.connections.push(peer);
        if self.is_liar(&id) {
            return;
        }
        let (rank, knows) = (u64::MAX, self.remotes[&id].knows_presences());
        for fetch in self.fetches.values_mut() {
            fetch.session.joined(id, rank, knows);
            fetch.changed = true;
        }
    }

    /// What was said on a connection that closed may be lost, so the peer counts as gone and comes back.
    fn closed(&mut self, peer: PeerId, connection: ConnectionId) {
        let Some(remote) = self.remotes.get_mut(&peer) else { return };
        remote.connections.retain(|known| known.connection != connection);
        for name in std::mem::take(&mut remote.standing) {
            remote.settle(&name);
        }
        let left = remote.connections.pop();
        for fetch in self.fetches.values_mut() {
            fetch.session.left(&peer);
            fetch.changed = true;
        }
        if let Some(left) = left {
            self.opened(left);
        }
        // Who is gone is remembered only while blocks of it may still be on their way through here.
        self.remotes.retain(|_, remote| !remote.connections.is_empty() || remote.expects_late_blocks());
    }

    fn begin(&mut self, id: u64, out: mpsc::UnboundedSender<Fetched>) {
        let mut session = Session::default();
        for (peer, remote) in &self.remotes {
            if !remote.connections.is_empty() && !self.is_liar(peer) {
                session.joined(*peer, u64::MAX - remote.useful, remote.knows_presences());
            }
        }
        if let Some((peer, at)) = self.last
            && at.elapsed() < JUST_NOW
        {
            session.presume(&peer);
        }
        self.fetches.insert(id, Fetch { session, out, changed: false, inquiry: None });
    }

    fn end(&mut self, id: u64) {
        let Some(fetch) = self.fetches.get(&id) else { return };
        let left: Vec<Cid> = fetch.session.wants().copied().collect();
        self.unwant(id, &left);
        self.fetches.remove(&id);
    }

    fn unwant(&mut self, id: u64, cids: &[Cid]) {
        let Some(fetch) = self.fetches.get_mut(&id) else { return };
        let told: Vec<(Cid, HashSet<PeerId>)> =
            cids.iter().map(|cid| (key(cid), fetch.session.told(cid))).collect();
        fetch.session.unwant(cids);
        fetch.changed = true;
        for (name, peers) in told {
            if !self.fetches.values().any(|fetch| fetch.session.wants_block(&name)) {
                self.cancel(&name, peers);
            }
        }
    }

    fn cancel(&mut self, name: &Cid, peers: impl IntoIterator<Item = PeerId>) {
        for peer in peers {
            let Some(remote) = self.remotes.get_mut(&peer) else { continue };
            if remote.settle(name) {
                self.outbox.entry(peer).or_default().push(cancel(*name));
            }
        }
    }

    fn is_liar(&self, peer: &PeerId) -> bool {
        self.liars.get(peer).is_some_and(|at| at.elapsed() < DISTRUST)
    }

    fn on_verified(&mut self, verified: Verified) {
        let Verified { peer, presences, blocks, unusable, room } = verified;
        for (cid, have) in presences {
            self.on_presence(&peer, &cid, have);
        }
        let sent = blocks.len();
        let unasked: Vec<Block> =
            blocks.into_iter().filter_map(|block| self.on_block(&peer, block, &room)).collect();
        let came_along = unasked.len() < sent && self.ahead.keep(unasked.clone());
        let is_wrong = unusable > 0 || !(unasked.is_empty() || came_along);
        if is_wrong && self.remotes.contains_key(&peer) {
            self.distrust(peer);
        }
    }

    fn on_presence(&mut self, peer: &PeerId, cid: &Cid, have: bool) {
        if self.is_liar(peer) {
            return;
        }
        for fetch in self.fetches.values_mut() {
            fetch.changed |= match have {
                true => fetch.session.has(peer, cid),
                false => fetch.session.lacks(peer, cid),
            };
        }
    }

    /// Takes a block, or gives it back if it was never asked of this peer.
    fn on_block(&mut self, peer: &PeerId, block: Block, room: &Arc<Room>) -> Option<Block> {
        let name = key(&block.cid);
        let remote = self.remotes.get_mut(peer)?;
        if !remote.was_asked(&name) {
            return Some(block);
        }
        self.useful += 1;
        remote.useful = self.useful;
        let (now, size) = (Instant::now(), block.data.len() as u64);
        self.last = Some((*peer, now));
        // Before anybody has it, who may look at the count at once.
        if self.fetches.values().any(|fetch| fetch.session.wants_block(&name)) {
            self.counters.received(block.data.len());
            remote.share.delivered();
        }
        let mut told = HashSet::new();
        for fetch in self.fetches.values_mut() {
            if !fetch.session.wants_block(&name) {
                continue;
            }
            told.extend(fetch.session.told(&name));
            if fetch.session.came(peer, &name, size, now) {
                fetch.changed = true;
                let _ = fetch.out.send(Fetched { block: block.clone(), _room: Some(room.clone()) });
            }
        }
        // Who sent it too: some remember for a while what they sent, and would not send it again if asked.
        told.insert(*peer);
        self.cancel(&name, told);
        None
    }

    /// Asks a peer that sent wrong bytes for nothing more.
    fn distrust(&mut self, peer: PeerId) {
        tracing::warn!(%peer, "it sent blocks that are not what was asked for, and is not asked for {} s", DISTRUST.as_secs());
        if self.liars.len() >= LIARS {
            self.liars.retain(|_, at| at.elapsed() < DISTRUST);
        }
        self.liars.insert(peer, Instant::now());
        let standing: Vec<Cid> =
            self.remotes.get(&peer).into_iter().flat_map(|r| &r.standing).copied().collect();
        for name in standing {
            self.cancel(&name, [peer]);
        }
        if let Some(remote) = self.remotes.get(&peer) {
            remote.share.distrusted();
        }
        for fetch in self.fetches.values_mut() {
            fetch.session.lied(&peer);
            fetch.changed = true;
        }
    }

    fn plan(&mut self) {
        let now = Instant::now();
        let Self { fetches, remotes, outbox, asked, .. } = self;
        for fetch in fetches.values_mut() {
            if !std::mem::take(&mut fetch.changed) {
                continue;
            }
            let reach = |peer: &PeerId| match remotes.get(peer) {
                Some(remote) => Reach {
                    heard: remote.connections.iter().map(|connection| connection.heard.last()).max(),
                    room: MOST_WANTS.saturating_sub(remote.standing.len()),
                },
                None => Reach { heard: None, room: 0 },
            };
            let asks = fetch.session.plan(now, &reach);
            for ask in asks {
                // What was asked for before stays before: a peer that never ran out of newer wants would never come to it.
                *asked = asked.saturating_add(1);
                let place = HIGHEST.saturating_sub_unsigned(*asked).max(1);
                let (peer, cid, kind, priority) = match ask {
                    Ask::Block { peer, cid, urgent: true } => (peer, cid, Kind::Block, URGENT),
                    Ask::Block { peer, cid, urgent: false } => (peer, cid, Kind::Block, place),
                    Ask::Have { peer, cid } => (peer, cid, Kind::Have, place),
                    Ask::Cancel { peer, cid } => {
                        if remotes.get_mut(&peer).is_some_and(|remote| remote.settle(&key(&cid))) {
                            outbox.entry(peer).or_default().push(cancel(cid));
                        }
                        continue;
                    }
                };
                if let Some(remote) = remotes.get_mut(&peer) {
                    remote.standing.insert(key(&cid));
                }
                outbox.entry(peer).or_default().push(Entry { priority, ..entry(cid, kind) });
            }
            fetch.report();
        }
    }

    fn flush(&mut self) {
        for (peer, wants) in std::mem::take(&mut self.outbox) {
            let Some(remote) = self.remotes.get(&peer) else { continue };
            let Some(connection) = remote.connections.first() else { continue };
            if !remote.standing.is_empty() {
                remote.share.asked();
            }
            // A connection that has just closed says so by itself.
            let sent = connection.wants.try_send(Message { wants, ..Message::default() });
            if matches!(sent, Err(TrySendError::Full(_))) {
                tracing::debug!(%peer, "it does not read what it is asked for, and is asked for nothing");
                self.closed(peer, connection.connection);
            }
        }
    }
}

/// Who is asked for a block tells if it has it not; who is asked for its presence tells when it has it.
fn entry(cid: Cid, kind: Kind) -> Entry {
    Entry { cid, priority: 1, cancel: false, kind, send_dont_have: kind == Kind::Block }
}

fn cancel(cid: Cid) -> Entry {
    Entry { cancel: true, ..entry(cid, Kind::Block) }
}
