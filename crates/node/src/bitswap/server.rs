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
const HOLD_CHECK: Duration = Duration::from_millis(30);

/// A message for a peer, and its share of what may lie in memory.
pub struct Outgoing {
    pub message: Message,
    _room: Option<OwnedSemaphorePermit>,
    _flight: Flight,
}

#[cfg(test)]
impl Outgoing {
    pub fn unbound(message: Message) -> Self {
        let client = Arc::new(Client::new(PeerId::random()));
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
    recent: Mutex<Recent>,
    ahead: Arc<Semaphore>,
    pub(crate) counters: Arc<Counters>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// One peer: what it wants, and the ways to it.
struct Client {
    peer: PeerId,
    ledger: Mutex<Ledger>,
    more: Notify,
    ways: Mutex<Ways>,
    /// Room for one message, which nobody else can take: peers that do not read keep no others from being served.
    own: Arc<Semaphore>,
    /// Messages that are not written yet.
    flying: AtomicUsize,
    /// It is a node of this kind, which takes what comes along with what it asked for.
    is_kin: AtomicBool,
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

    /// How often a block was sent just now; nothing where `peer` has to wait for it.
    fn times(&self, cid: &Cid, peer: &PeerId, hold: Duration) -> Option<u32> {
        let name = key(cid);
        let Some(moved) = self.young.get(&name).or_else(|| self.old.get(&name)) else { return Some(0) };
        let elapsed = moved.at.map_or(Duration::MAX, |at| at.elapsed());
        if moved.large && !moved.came && moved.to != Some(*peer) && elapsed < hold {
            return None;
        }
        Some(if elapsed < JUST_NOW { moved.times } else { 0 })
    }
}

impl Client {
    fn new(peer: PeerId) -> Self {
        let own = Arc::new(Semaphore::new(1));
        Self {
            peer,
            ledger: Mutex::default(),
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
        Self { blocks, clients: Mutex::default(), recent: Mutex::default(), ahead, counters, tasks, stop }
    }

    /// Takes a peer's want list.
    pub fn wanted(&self, peer: PeerId, connection: ConnectionId, full: bool, entries: Vec<Entry>) {
        let client = self.client(peer, |ways| {
            ways.heard.insert(connection);
        });
        locked(&client.ledger).apply(full, entries);
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
        let client = clients.entry(peer).or_insert_with(|| Arc::new(Client::new(peer)));
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
            let mut ledger = locked(&client.ledger);
            if cids.iter().filter(|cid| ledger.arrived(cid)).count() > 0 {
                client.more.notify_one();
            }
        }
    }

    async fn serve(self: Arc<Self>, client: Arc<Client>) {
        loop {
            let lane = locked(&client.ways).lanes.first().map(|(_, lane)| lane.clone());
            let Some(lane) = lane else { return };
            if client.flying.load(Ordering::Relaxed) > FLYING / self.wanting().max(1) {
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
                Ok(Some(message)) => message,
                Ok(None) => {
                    drop((slot, room));
                    let waits = locked(&client.ledger).has_ready();
                    let more = client.more.notified();
                    match waits {
                        true => drop(tokio::time::timeout(HOLD_CHECK, more).await),
                        false => more.await,
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
    fn wanting(&self) -> usize {
        let clients: Vec<_> = locked(&self.clients).values().cloned().collect();
        let wanting = clients.iter().filter(|client| !locked(&client.ledger).is_empty());
        wanting.take(MOST_HOLDS).count()
    }

    /// Makes the next message for a peer; none while there is nothing to say.
    fn next(&self, client: &Client) -> Option<Message> {
        let mut message = Message::default();
        let haves = locked(&client.ledger).take_haves(PRESENCES);
        for want in haves {
            self.answer_have(client, want, &mut message);
        }
        let hold = HOLD * self.wanting() as u32;
        let mut size: usize = message.blocks.iter().map(|block| block.data.len()).sum();
        while size < FULL {
            let want = {
                let recent = locked(&self.recent);
                locked(&client.ledger).take_block(|cid, urgent| {
                    recent.times(cid, &client.peer, if urgent { hold.min(URGENT_HOLD) } else { hold })
                })
            };
            let Some(want) = want else { break };
            size += self.answer_block(client, want, &mut message);
        }
        (message != Message::default()).then_some(message)
    }

    fn answer_have(&self, client: &Client, want: Want, message: &mut Message) {
        match self.blocks.size(&want.cid) {
            Ok(Some(size)) if size <= SMALLER_THAN_ASKING => {
                self.answer_block(client, want, message);
            }
            Ok(Some(size)) if size <= MAX_BLOCK as u64 => {
                locked(&client.ledger).answered(&want.cid);
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
        let mut ledger = locked(&client.ledger);
        if !ledger.is_taken(&want.cid) {
            return 0;
        }
        ledger.answered(&want.cid);
        drop(ledger);
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
        if locked(&client.ledger).missing(&want.cid) {
            message.presences.push((want.cid, false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_flood_of_sent_blocks_is_remembered_in_bounded_memory() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        for n in 0..3 * RECENT as u64 {
            recent.moved(&cid(n), now);
        }
        assert!(recent.young.len() + recent.old.len() <= RECENT);
    }
}
