//! Serving: a task a peer takes wants from its ledger, reads their blocks and hands them to the peer's streams.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use libp2p::{PeerId, swarm::ConnectionId};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Counters,
    engine::ahead,
    handler::{LANE, MORE_LANES},
    ledger::{Ledger, Want},
    wire::{Entry, MAX_BLOCK, Message, Payload, Prefix},
};
use crate::{Blocks, Cid, blocks::key, locked};

/// A block this small is sent where only its presence was asked for, as boxo does.
const SMALLER_THAN_ASKING: u64 = 1024;
/// Presences answered in one message.
const PRESENCES: usize = 512;
/// Small blocks share a message up to here.
const FULL: usize = 64 << 10;
/// What was sent so lately may be had from whom it was sent to.
const JUST_NOW: Duration = Duration::from_secs(5);
const RECENT: usize = 16_384;
/// For each peer that wants something, a second one waits so long for a large block that was just sent to a first, which
/// may pass it on meanwhile.
const HOLD: Duration = Duration::from_millis(300);
/// But no longer than this where its reader waits for the block.
const URGENT_HOLD: Duration = Duration::from_millis(300);
const MOST_HOLDS: usize = 8;
/// Messages on their way to the only peer that wants something. Where several want something they share these: what
/// goes out in many streams at once comes whole, and can be passed on, only late.
const FLYING: usize = MORE_LANES + LANE;

/// A message for a peer, and its share of what may lie in memory.
pub struct Outgoing {
    pub message: Message,
    _room: Option<OwnedSemaphorePermit>,
    _flight: Flight,
}

#[cfg(test)]
impl Outgoing {
    pub fn unbound(message: Message) -> Self {
        let client = Arc::new(Client::new(PeerId::random(), Arc::default()));
        Self { message, _room: None, _flight: Flight::begin(&client) }
    }
}

/// A message on its way to a peer, until it is written.
struct Flight(Arc<Client>);

impl Flight {
    fn begin(client: &Arc<Client>) -> Self {
        client.flying.fetch_add(1, Ordering::Relaxed);
        Self(client.clone())
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.flying.fetch_sub(1, Ordering::Relaxed);
        self.0.more.notify_one();
    }
}

/// All peers that want something.
pub(crate) struct Server {
    blocks: Arc<dyn Blocks>,
    clients: Mutex<HashMap<PeerId, Arc<Client>>>,
    /// How many of them want something now.
    wanting: Arc<AtomicUsize>,
    recent: Mutex<Recent>,
    ahead: Arc<Semaphore>,
    pub(crate) counters: Arc<Counters>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// One peer: what it wants, and the ways to it.
struct Client {
    peer: PeerId,
    wants: Wants,
    more: Notify,
    ways: Mutex<Ways>,
    /// Room for one message, which nobody else can take: peers that do not read keep no others from being served.
    own: Arc<Semaphore>,
    /// Messages that are not written yet.
    flying: AtomicUsize,
    /// It is a node of this kind, which takes what comes along with what it asked for.
    is_kin: AtomicBool,
}

/// What one peer wants, and the count of peers that want something.
struct Wants {
    ledger: Mutex<Ledger>,
    wanting: Arc<AtomicUsize>,
}

impl Wants {
    fn new(wanting: Arc<AtomicUsize>) -> Self {
        Self { ledger: Mutex::default(), wanting }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut ledger = locked(&self.ledger);
        let was_empty = ledger.is_empty();
        let changed = change(&mut ledger);
        match (was_empty, ledger.is_empty()) {
            (true, false) => drop(self.wanting.fetch_add(1, Ordering::Relaxed)),
            (false, true) => drop(self.wanting.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
        changed
    }
}

impl Drop for Wants {
    fn drop(&mut self) {
        self.with(|ledger| *ledger = Ledger::default());
    }
}

#[derive(Default)]
struct Ways {
    /// Where it is answered.
    lanes: Vec<(ConnectionId, mpsc::Sender<Outgoing>)>,
    /// Where it has said what it wants, which may be before it can be answered.
    heard: HashSet<ConnectionId>,
}

/// What was sent and what came just now, in two generations: the older one is dropped whole, so that memory is given back
/// as soon as nothing moves as fast as before.
#[derive(Default)]
struct Recent {
    young: HashMap<Cid, Moved>,
    old: HashMap<Cid, Moved>,
    /// When the young generation began.
    since: Option<Instant>,
}

#[derive(Default)]
struct Moved {
    /// How often it was sent.
    times: u32,
    at: Option<Instant>,
    /// Where it was sent last.
    to: Option<PeerId>,
    large: bool,
    /// It came from others just now: who passes things on does not make anybody wait, only who has had them for long.
    came: bool,
}

impl Recent {
    fn moved(&mut self, cid: &Cid, now: Instant) -> &mut Moved {
        let is_past = |at: Instant| now.duration_since(at) >= JUST_NOW;
        if self.since.is_none_or(is_past) || self.young.len() >= RECENT / 2 {
            self.old = std::mem::take(&mut self.young);
            self.since = Some(now);
        }
        let name = key(cid);
        let known = self.young.remove(&name).or_else(|| self.old.remove(&name));
        let known = known.filter(|moved| moved.at.is_some_and(|at| !is_past(at)));
        let moved = self.young.entry(name).insert_entry(known.unwrap_or_default()).into_mut();
        moved.at = Some(now);
        moved
    }

    fn came(&mut self, cid: &Cid) {
        self.moved(cid, Instant::now()).came = true;
    }

    fn sent(&mut self, cid: &Cid, to: PeerId, size: usize) {
        let moved = self.moved(cid, Instant::now());
        moved.times += 1;
        (moved.to, moved.large) = (Some(to), size >= FULL);
    }

    /// How often a block was sent just now, or until when `peer` has to wait for it.
    fn times(&self, cid: &Cid, peer: &PeerId, hold: Duration) -> Result<u32, Instant> {
        let name = key(cid);
        let Some(moved) = self.young.get(&name).or_else(|| self.old.get(&name)) else { return Ok(0) };
        let Some(at) = moved.at else { return Ok(0) };
        let elapsed = at.elapsed();
        if moved.large && !moved.came && moved.to != Some(*peer) && elapsed < hold {
            return Err(at + hold);
        }
        Ok(if elapsed < JUST_NOW { moved.times } else { 0 })
    }
}

impl Client {
    fn new(peer: PeerId, wanting: Arc<AtomicUsize>) -> Self {
        let own = Arc::new(Semaphore::new(1));
        Self {
            peer,
            wants: Wants::new(wanting),
            more: Notify::default(),
            ways: Mutex::default(),
            own,
            flying: AtomicUsize::new(0),
            is_kin: AtomicBool::new(false),
        }
    }
}

impl Server {
    pub(crate) fn new(
        blocks: Arc<dyn Blocks>,
        ahead: Arc<Semaphore>,
        counters: Arc<Counters>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            blocks,
            clients: Mutex::default(),
            wanting: Arc::default(),
            recent: Mutex::default(),
            ahead,
            counters,
            tasks,
            stop,
        }
    }

    /// Takes a peer's want list.
    pub fn wanted(&self, peer: PeerId, connection: ConnectionId, full: bool, entries: Vec<Entry>) {
        let client = self.client(peer, |ways| {
            ways.heard.insert(connection);
        });
        client.wants.with(|ledger| ledger.apply(full, entries));
        client.more.notify_one();
    }

    /// Takes a way to a peer; with the first one it begins to be served.
    pub fn opened(self: &Arc<Self>, peer: PeerId, connection: ConnectionId, lane: mpsc::Sender<Outgoing>) {
        let mut is_first = false;
        let client = self.client(peer, |ways| {
            ways.lanes.push((connection, lane));
            is_first = ways.lanes.len() == 1;
        });
        if is_first {
            let (server, stop) = (self.clone(), self.stop.clone());
            self.tasks.spawn(async move { stop.run_until_cancelled(server.serve(client)).await });
        }
    }

    /// Notes that a peer is a node of this kind.
    pub fn is_kin(&self, peer: PeerId) {
        if let Some(client) = locked(&self.clients).get(&peer) {
            client.is_kin.store(true, Ordering::Relaxed);
        }
    }

    /// The peer, once its ways are changed: nobody may forget it in between.
    fn client(&self, peer: PeerId, change: impl FnOnce(&mut Ways)) -> Arc<Client> {
        let mut clients = locked(&self.clients);
        let client = clients.entry(peer).or_insert_with(|| Arc::new(Client::new(peer, self.wanting.clone())));
        change(&mut locked(&client.ways));
        client.clone()
    }

    /// Forgets a way to a peer; with the last one, what the peer wanted.
    pub fn closed(&self, peer: &PeerId, connection: ConnectionId) {
        let mut clients = locked(&self.clients);
        let Some(client) = clients.get(peer).cloned() else { return };
        let mut ways = locked(&client.ways);
        ways.lanes.retain(|(id, _)| *id != connection);
        ways.heard.remove(&connection);
        if ways.lanes.is_empty() {
            client.more.notify_one();
            if ways.heard.is_empty() {
                clients.remove(peer);
            }
        }
    }

    /// Tells those who wait for them that blocks are here now.
    pub(crate) fn arrived(&self, cids: &[Cid]) {
        let clients: Vec<_> = locked(&self.clients).values().cloned().collect();
        if !clients.is_empty() {
            let mut recent = locked(&self.recent);
            cids.iter().for_each(|cid| recent.came(cid));
        }
        for client in clients {
            if client.wants.with(|ledger| cids.iter().filter(|cid| ledger.arrived(cid)).count()) > 0 {
                client.more.notify_one();
            }
        }
    }

    async fn serve(self: Arc<Self>, client: Arc<Client>) {
        loop {
            let lane = locked(&client.ways).lanes.first().map(|(_, lane)| lane.clone());
            let Some(lane) = lane else { return };
            if client.flying.load(Ordering::Relaxed) > FLYING / self.sharing().max(1) {
                client.more.notified().await;
                continue;
            }
            // Blocks are read when the stream before them has room, so that little lies in memory.
            let Ok(slot) = lane.reserve().await else {
                locked(&client.ways).lanes.retain(|(_, lane)| !lane.is_closed());
                continue;
            };
            let (server, served) = (self.clone(), client.clone());
            let room = self.room_for(&client).await;
            let message = match tokio::task::spawn_blocking(move || server.next(&served)).await {
                Ok(Ok(message)) => message,
                Ok(Err(held)) => {
                    drop((slot, room));
                    let more = client.more.notified();
                    match held {
                        Some(until) => drop(tokio::time::timeout_at(until, more).await),
                        None => more.await,
                    }
                    continue;
                }
                Err(_) => return,
            };
            slot.send(Outgoing { message, _room: room, _flight: Flight::begin(&client) });
        }
    }

    async fn room_for(&self, client: &Client) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            own = client.own.clone().acquire_owned() => own.ok(),
            ahead = self.ahead.clone().acquire_many_owned((MAX_BLOCK / 1024) as u32) => ahead.ok(),
        }
    }

    /// How many peers want something, up to a bound.
    fn sharing(&self) -> usize {
        self.wanting.load(Ordering::Relaxed).min(MOST_HOLDS)
    }

    /// Makes the next message for a peer; while there is nothing to say, until when that is so at least, if it ends by itself.
    fn next(&self, client: &Client) -> Result<Message, Option<Instant>> {
        let mut message = Message::default();
        loop {
            let haves = client.wants.with(|ledger| ledger.take_haves(PRESENCES));
            let are_all = haves.len() < PRESENCES;
            for want in haves {
                self.answer_have(client, want, &mut message);
            }
            // Of some nothing is said.
            if are_all || message != Message::default() {
                break;
            }
        }
        let hold = HOLD * self.sharing() as u32;
        let mut size: usize = message.blocks.iter().map(|block| block.data.len()).sum();
        let mut held = None;
        while size < FULL {
            let next = {
                let recent = locked(&self.recent);
                client.wants.with(|ledger| {
                    ledger.take_block(|cid, urgent| {
                        recent.times(cid, &client.peer, if urgent { hold.min(URGENT_HOLD) } else { hold })
                    })
                })
            };
            match next {
                Ok(want) => size += self.answer_block(client, want, &mut message),
                Err(until) => {
                    held = until;
                    break;
                }
            }
        }
        if message != Message::default() {
            return Ok(message);
        }
        // The fewer share, the shorter the wait, and some may leave.
        Err(held.map(|until| until.min(Instant::now() + HOLD)))
    }

    fn answer_have(&self, client: &Client, want: Want, message: &mut Message) {
        match self.blocks.size(&want.cid) {
            Ok(Some(size)) if size <= SMALLER_THAN_ASKING => {
                self.answer_block(client, want, message);
            }
            Ok(Some(size)) if size <= MAX_BLOCK as u64 => {
                client.wants.with(|ledger| ledger.told(&want.cid));
                message.presences.push((want.cid, true));
            }
            other => self.missing(client, want, other.err(), message),
        }
    }

    fn answer_block(&self, client: &Client, want: Want, message: &mut Message) -> usize {
        let data = match self.blocks.get(&want.cid) {
            Ok(Some(data)) if data.len() <= MAX_BLOCK => data,
            other => {
                self.missing(client, want, other.err(), message);
                return 0;
            }
        };
        if !client.wants.with(|ledger| ledger.answered(&want.cid)) {
            return 0;
        }
        let size = data.len();
        locked(&self.recent).sent(&want.cid, client.peer, size);
        let along = self.next_of(client, &want.cid, &data);
        self.give(want.cid, data, message);
        size + along.map_or(0, |(cid, data)| self.give(cid, data, message))
    }

    fn give(&self, cid: Cid, data: Bytes, message: &mut Message) -> usize {
        let size = data.len();
        self.counters.sent(size);
        message.blocks.push(Payload { prefix: Prefix::of(&cid), data });
        size
    }

    /// The short block that a peer asks for after this one.
    fn next_of(&self, client: &Client, cid: &Cid, data: &Bytes) -> Option<(Cid, Bytes)> {
        if data.len() > ahead::LONGEST || !client.is_kin.load(Ordering::Relaxed) {
            return None;
        }
        let next = self.blocks.next(cid, data)?;
        let size = self.blocks.size(&next).ok().flatten()?;
        let block = (size <= ahead::LONGEST as u64).then(|| self.blocks.get(&next).ok().flatten())?;
        block.map(|block| (next, block))
    }

    fn missing(&self, client: &Client, want: Want, error: Option<std::io::Error>, message: &mut Message) {
        if let Some(error) = error {
            tracing::warn!(cid = %want.cid, "a block cannot be read: {error}");
        }
        let (is_told, came) =
            client.wants.with(|ledger| (ledger.missing(&want.cid), ledger.is_ready(&want.cid)));
        if is_told {
            message.presences.push((want.cid, false));
        }
        if came {
            client.more.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::wire::Kind, *};

    fn cid(n: u64) -> Cid {
        Cid::new_v1(0x55, cid::multihash::Multihash::wrap(0x12, &n.to_be_bytes()).expect("it is short"))
    }

    #[test]
    fn sent_blocks_are_remembered_for_a_while_and_their_memory_is_returned_afterwards() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        recent.moved(&cid(0), start).times = 1;
        for n in 1..2000 {
            recent.moved(&cid(n), start);
        }
        let later = start + JUST_NOW / 2;
        assert_eq!(recent.moved(&cid(0), later).times, 1);
        assert_eq!(recent.moved(&cid(0), later + JUST_NOW).times, 0, "it was long ago");
        recent.moved(&cid(0), later + 2 * JUST_NOW);
        assert!(recent.young.capacity() + recent.old.capacity() < 100);
    }

    #[test]
    fn a_peer_waits_for_a_block_that_another_was_just_sent_until_it_may_have_it() {
        let (mut recent, [one, other]) = (Recent::default(), [PeerId::random(), PeerId::random()]);
        assert_eq!(recent.times(&cid(0), &one, HOLD), Ok(0));
        recent.sent(&cid(0), one, FULL);
        let until = recent.times(&cid(0), &other, HOLD * 100).unwrap_err();
        assert!(until > Instant::now() + HOLD * 99);
        assert_eq!(recent.times(&cid(0), &one, HOLD * 100), Ok(1));
        assert_eq!(recent.times(&cid(0), &other, Duration::ZERO), Ok(1));
    }

    #[test]
    fn peers_that_want_something_are_counted_as_their_wants_come_and_go() {
        let wanting = Arc::default();
        let [one, other] = [(); 2].map(|()| Wants::new(Arc::clone(&wanting)));
        let entry =
            |cancel| Entry { cid: cid(0), priority: 1, cancel, kind: Kind::Block, send_dont_have: true };
        for wants in [&one, &one, &other] {
            wants.with(|ledger| ledger.apply(false, vec![entry(false)]));
        }
        assert_eq!(wanting.load(Ordering::Relaxed), 2);
        other.with(|ledger| ledger.apply(false, vec![entry(true)]));
        assert_eq!(wanting.load(Ordering::Relaxed), 1);
        drop(one);
        assert_eq!(wanting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_flood_of_sent_blocks_is_remembered_in_bounded_memory() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        for n in 0..3 * RECENT as u64 {
            recent.moved(&cid(n), now);
        }
        assert!(recent.young.len() + recent.old.len() <= RECENT);
    }
}
