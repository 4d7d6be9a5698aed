//! The Bitswap server: one task per peer takes wants from its ledger, reads the blocks and sends them to the peer's
//! streams.

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
    handler::{QUEUED_ANSWERS, STRIPED_STREAMS},
    ledger::{Ledger, Want},
    unsolicited,
    wire::{Entry, MAX_BLOCK, Message, Payload, Prefix},
};
use crate::{Blocks, Cid, blocks::key, locked};

/// A block this small is sent instead of a HAVE, as boxo does.
const REPLACE_HAVE_WITH_BLOCK: u64 = 1024;
/// Presences answered in one message.
const MAX_PRESENCES: usize = 512;
/// Small blocks share a message up to this size.
const TARGET_MESSAGE_SIZE: usize = 64 << 10;
/// A block sent this recently can probably be fetched from its receiver.
const RECENT_WINDOW: Duration = Duration::from_secs(5);
const MAX_RECENT_BLOCKS: usize = 16_384;
/// For each peer that wants something, a further peer waits this long for a large block that was just sent to another
/// one, which may pass it on meanwhile.
const HOLD_TIME: Duration = Duration::from_millis(300);
/// The maximum wait for a block that the peer's reader is waiting for.
const URGENT_HOLD_TIME: Duration = Duration::from_millis(300);
const MAX_SHARING_PEERS: usize = 8;
/// Messages in flight to a peer that is alone in wanting something. Several peers share them: of many blocks sent at
/// once, none is complete and can be passed on early.
const MAX_IN_FLIGHT: usize = STRIPED_STREAMS + QUEUED_ANSWERS;

/// A message for a peer, with its share of the memory for answers.
pub struct Outgoing {
    pub message: Message,
    _memory: Option<OwnedSemaphorePermit>,
    _in_flight: InFlight,
}

#[cfg(test)]
impl Outgoing {
    pub fn unbound(message: Message) -> Self {
        let peer = Arc::new(ServedPeer::new(PeerId::random(), Arc::default()));
        Self { message, _memory: None, _in_flight: InFlight::begin(&peer) }
    }
}

/// Counts a message as in flight until it is written.
struct InFlight(Arc<ServedPeer>);

impl InFlight {
    fn begin(peer: &Arc<ServedPeer>) -> Self {
        peer.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(peer.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.more.notify_one();
    }
}

/// All peers that want something.
pub(crate) struct Server {
    blocks: Arc<dyn Blocks>,
    peers: Mutex<HashMap<PeerId, Arc<ServedPeer>>>,
    /// Number of peers with open wants.
    wanting: Arc<AtomicUsize>,
    recent: Mutex<RecentTransfers>,
    read_ahead: Arc<Semaphore>,
    pub(crate) counters: Arc<Counters>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A peer with wants, and the streams to it.
struct ServedPeer {
    id: PeerId,
    wants: CountedLedger,
    more: Notify,
    streams: Mutex<PeerStreams>,
    /// Memory for one message, reserved for this peer, so that peers that do not read cannot keep it from being served.
    own: Arc<Semaphore>,
    /// Messages that are not written yet.
    in_flight: AtomicUsize,
    /// Whether it is an ocipfs peer, which also accepts unsolicited blocks.
    supports_striping: AtomicBool,
}

/// The ledger of one peer, counted while it is not empty.
struct CountedLedger {
    ledger: Mutex<Ledger>,
    wanting: Arc<AtomicUsize>,
}

impl CountedLedger {
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

impl Drop for CountedLedger {
    fn drop(&mut self) {
        self.with(|ledger| *ledger = Ledger::default());
    }
}

#[derive(Default)]
struct PeerStreams {
    /// Channels to the peer's connections.
    senders: Vec<(ConnectionId, mpsc::Sender<Outgoing>)>,
    /// Connections on which it sent wants, possibly before it can be answered.
    wanting: HashSet<ConnectionId>,
}

/// Recently sent and received blocks, in two generations: the older one is dropped as a whole, so memory is returned as
/// soon as traffic slows down.
#[derive(Default)]
struct RecentTransfers {
    young: HashMap<Cid, Transfer>,
    old: HashMap<Cid, Transfer>,
    /// When the young generation started.
    since: Option<Instant>,
}

#[derive(Default)]
struct Transfer {
    /// How often it was sent.
    times: u32,
    at: Option<Instant>,
    /// The last peer that it was sent to.
    to: Option<PeerId>,
    large: bool,
    /// Whether it was received from others just now: only a seeder makes peers wait, not a peer that passes blocks on.
    received: bool,
}

impl RecentTransfers {
    fn entry(&mut self, cid: &Cid, now: Instant) -> &mut Transfer {
        let is_past = |at: Instant| now.duration_since(at) >= RECENT_WINDOW;
        if self.since.is_none_or(is_past) || self.young.len() >= MAX_RECENT_BLOCKS / 2 {
            self.old = std::mem::take(&mut self.young);
            self.since = Some(now);
        }
        let name = key(cid);
        let known = self.young.remove(&name).or_else(|| self.old.remove(&name));
        let known = known.filter(|transfer| transfer.at.is_some_and(|at| !is_past(at)));
        let transfer = self.young.entry(name).insert_entry(known.unwrap_or_default()).into_mut();
        transfer.at = Some(now);
        transfer
    }

    fn received(&mut self, cid: &Cid) {
        self.entry(cid, Instant::now()).received = true;
    }

    fn sent(&mut self, cid: &Cid, to: PeerId, size: usize) {
        let transfer = self.entry(cid, Instant::now());
        transfer.times += 1;
        (transfer.to, transfer.large) = (Some(to), size >= TARGET_MESSAGE_SIZE);
    }

    /// Returns how often a block was sent recently, or until when `peer` has to wait for it.
    fn times_sent(&self, cid: &Cid, peer: &PeerId, hold: Duration) -> Result<u32, Instant> {
        let name = key(cid);
        let Some(transfer) = self.young.get(&name).or_else(|| self.old.get(&name)) else { return Ok(0) };
        let Some(at) = transfer.at else { return Ok(0) };
        let elapsed = at.elapsed();
        if transfer.large && !transfer.received && transfer.to != Some(*peer) && elapsed < hold {
            return Err(at + hold);
        }
        Ok(if elapsed < RECENT_WINDOW { transfer.times } else { 0 })
    }
}

impl ServedPeer {
    fn new(id: PeerId, wanting: Arc<AtomicUsize>) -> Self {
        let own = Arc::new(Semaphore::new(1));
        Self {
            id,
            wants: CountedLedger::new(wanting),
            more: Notify::default(),
            streams: Mutex::default(),
            own,
            in_flight: AtomicUsize::new(0),
            supports_striping: AtomicBool::new(false),
        }
    }
}

impl Server {
    pub(crate) fn new(
        blocks: Arc<dyn Blocks>,
        read_ahead: Arc<Semaphore>,
        counters: Arc<Counters>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            blocks,
            peers: Mutex::default(),
            wanting: Arc::default(),
            recent: Mutex::default(),
            read_ahead,
            counters,
            tasks,
            stop,
        }
    }

    /// Applies a wantlist of a peer.
    pub fn wanted(&self, peer: PeerId, connection: ConnectionId, full: bool, entries: Vec<Entry>) {
        let peer = self.peer(peer, |streams| {
            streams.wanting.insert(connection);
        });
        peer.wants.with(|ledger| ledger.apply(full, entries));
        peer.more.notify_one();
    }

    /// Adds a connection to a peer; serving starts with the first one.
    pub fn opened(self: &Arc<Self>, peer: PeerId, connection: ConnectionId, sender: mpsc::Sender<Outgoing>) {
        let mut is_first = false;
        let peer = self.peer(peer, |streams| {
            streams.senders.push((connection, sender));
            is_first = streams.senders.len() == 1;
        });
        if is_first {
            let (server, stop) = (self.clone(), self.stop.clone());
            self.tasks.spawn(async move { stop.run_until_cancelled(server.serve(peer)).await });
        }
    }

    /// Records that a peer supports striping.
    pub fn mark_striping(&self, peer: PeerId) {
        if let Some(peer) = locked(&self.peers).get(&peer) {
            peer.supports_striping.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the peer after changing its streams under the lock, so that it cannot be removed in between.
    fn peer(&self, peer: PeerId, change: impl FnOnce(&mut PeerStreams)) -> Arc<ServedPeer> {
        let mut peers = locked(&self.peers);
        let peer = peers.entry(peer).or_insert_with(|| Arc::new(ServedPeer::new(peer, self.wanting.clone())));
        change(&mut locked(&peer.streams));
        peer.clone()
    }

    /// Removes a connection of a peer; with the last one, its wants.
    pub fn closed(&self, peer: &PeerId, connection: ConnectionId) {
        let mut peers = locked(&self.peers);
        let Some(served) = peers.get(peer).cloned() else { return };
        let mut streams = locked(&served.streams);
        streams.senders.retain(|(id, _)| *id != connection);
        streams.wanting.remove(&connection);
        if streams.senders.is_empty() {
            served.more.notify_one();
            if streams.wanting.is_empty() {
                peers.remove(peer);
            }
        }
    }

    /// Answers the wants that wait for these blocks.
    pub(crate) fn arrived(&self, cids: &[Cid]) {
        let peers: Vec<_> = locked(&self.peers).values().cloned().collect();
        if !peers.is_empty() {
            let mut recent = locked(&self.recent);
            cids.iter().for_each(|cid| recent.received(cid));
        }
        for peer in peers {
            if peer.wants.with(|ledger| cids.iter().filter(|cid| ledger.arrived(cid)).count()) > 0 {
                peer.more.notify_one();
            }
        }
    }

    async fn serve(self: Arc<Self>, peer: Arc<ServedPeer>) {
        loop {
            let sender = locked(&peer.streams).senders.first().map(|(_, sender)| sender.clone());
            let Some(sender) = sender else { return };
            if peer.in_flight.load(Ordering::Relaxed) > MAX_IN_FLIGHT / self.sharing_peers().max(1) {
                peer.more.notified().await;
                continue;
            }
            // Blocks are read once the stream has room, so that few of them are in memory.
            let Ok(slot) = sender.reserve().await else {
                locked(&peer.streams).senders.retain(|(_, sender)| !sender.is_closed());
                continue;
            };
            let (server, served) = (self.clone(), peer.clone());
            let memory = self.memory_for(&peer).await;
            let message = match tokio::task::spawn_blocking(move || server.next(&served)).await {
                Ok(Ok(message)) => message,
                Ok(Err(held)) => {
                    drop((slot, memory));
                    let more = peer.more.notified();
                    match held {
                        Some(until) => drop(tokio::time::timeout_at(until, more).await),
                        None => more.await,
                    }
                    continue;
                }
                Err(_) => return,
            };
            slot.send(Outgoing { message, _memory: memory, _in_flight: InFlight::begin(&peer) });
        }
    }

    async fn memory_for(&self, peer: &ServedPeer) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            biased;
            own = peer.own.clone().acquire_owned() => own.ok(),
            ahead = self.read_ahead.clone().acquire_many_owned((MAX_BLOCK / 1024) as u32) => ahead.ok(),
        }
    }

    /// Returns the number of peers that want something, up to a bound.
    fn sharing_peers(&self) -> usize {
        self.wanting.load(Ordering::Relaxed).min(MAX_SHARING_PEERS)
    }

    /// Builds the next message for a peer. If there is nothing to send, returns when to look again at the latest, or
    /// `None` to wait for an event.
    fn next(&self, peer: &ServedPeer) -> Result<Message, Option<Instant>> {
        let mut message = Message::default();
        loop {
            let haves = peer.wants.with(|ledger| ledger.next_haves(MAX_PRESENCES));
            let are_all = haves.len() < MAX_PRESENCES;
            for want in haves {
                self.answer_have(peer, want, &mut message);
            }
            // Some wants get no answer.
            if are_all || message != Message::default() {
                break;
            }
        }
        let hold = HOLD_TIME * self.sharing_peers() as u32;
        let mut size: usize = message.blocks.iter().map(|block| block.data.len()).sum();
        let mut held = None;
        while size < TARGET_MESSAGE_SIZE {
            let next = {
                let recent = locked(&self.recent);
                peer.wants.with(|ledger| {
                    ledger.next_block(|cid, urgent| {
                        recent.times_sent(
                            cid,
                            &peer.id,
                            if urgent { hold.min(URGENT_HOLD_TIME) } else { hold },
                        )
                    })
                })
            };
            match next {
                Ok(want) => size += self.answer_block(peer, want, &mut message),
                Err(until) => {
                    held = until;
                    break;
                }
            }
        }
        if message != Message::default() {
            return Ok(message);
        }
        // The hold time shrinks when fewer peers share, and peers may leave.
        Err(held.map(|until| until.min(Instant::now() + HOLD_TIME)))
    }

    fn answer_have(&self, peer: &ServedPeer, want: Want, message: &mut Message) {
        match self.blocks.size(&want.cid) {
            Ok(Some(size)) if size <= REPLACE_HAVE_WITH_BLOCK => {
                self.answer_block(peer, want, message);
            }
            Ok(Some(size)) if size <= MAX_BLOCK as u64 => {
                peer.wants.with(|ledger| ledger.presence_sent(&want.cid));
                message.presences.push((want.cid, true));
            }
            other => self.answer_missing(peer, want, other.err(), message),
        }
    }

    fn answer_block(&self, peer: &ServedPeer, want: Want, message: &mut Message) -> usize {
        let data = match self.blocks.get(&want.cid) {
            Ok(Some(data)) if data.len() <= MAX_BLOCK => data,
            other => {
                self.answer_missing(peer, want, other.err(), message);
                return 0;
            }
        };
        if !peer.wants.with(|ledger| ledger.block_sent(&want.cid)) {
            return 0;
        }
        let size = data.len();
        locked(&self.recent).sent(&want.cid, peer.id, size);
        let unsolicited = self.unsolicited_after(peer, &want.cid, &data);
        self.add_block(want.cid, data, message);
        size + unsolicited.map_or(0, |(cid, data)| self.add_block(cid, data, message))
    }

    fn add_block(&self, cid: Cid, data: Bytes, message: &mut Message) -> usize {
        let size = data.len();
        self.counters.sent(size);
        message.blocks.push(Payload { prefix: Prefix::of(&cid), data });
        size
    }

    /// Returns a small block that the peer will request after this one.
    fn unsolicited_after(&self, peer: &ServedPeer, cid: &Cid, data: &Bytes) -> Option<(Cid, Bytes)> {
        if data.len() > unsolicited::MAX_BLOCK_BYTES || !peer.supports_striping.load(Ordering::Relaxed) {
            return None;
        }
        let next = self.blocks.next(cid, data)?;
        let size = self.blocks.size(&next).ok().flatten()?;
        let block =
            (size <= unsolicited::MAX_BLOCK_BYTES as u64).then(|| self.blocks.get(&next).ok().flatten())?;
        block.map(|block| (next, block))
    }

    fn answer_missing(
        &self,
        peer: &ServedPeer,
        want: Want,
        error: Option<std::io::Error>,
        message: &mut Message,
    ) {
        if let Some(error) = error {
            tracing::warn!(cid = %want.cid, "cannot read block: {error}");
        }
        let (must_answer, arrived) =
            peer.wants.with(|ledger| (ledger.not_found(&want.cid), ledger.is_ready(&want.cid)));
        if must_answer {
            message.presences.push((want.cid, false));
        }
        if arrived {
            peer.more.notify_one();
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
    fn recently_sent_blocks_expire_and_their_memory_is_returned() {
        let (mut recent, start) = (RecentTransfers::default(), Instant::now());
        recent.entry(&cid(0), start).times = 1;
        for n in 1..2000 {
            recent.entry(&cid(n), start);
        }
        let later = start + RECENT_WINDOW / 2;
        assert_eq!(recent.entry(&cid(0), later).times, 1);
        assert_eq!(recent.entry(&cid(0), later + RECENT_WINDOW).times, 0, "it was long ago");
        recent.entry(&cid(0), later + 2 * RECENT_WINDOW);
        assert!(recent.young.capacity() + recent.old.capacity() < 100);
    }

    #[test]
    fn a_peer_waits_for_the_hold_time_of_a_block_that_was_just_sent_to_another() {
        let (mut recent, [one, other]) = (RecentTransfers::default(), [PeerId::random(), PeerId::random()]);
        assert_eq!(recent.times_sent(&cid(0), &one, HOLD_TIME), Ok(0));
        recent.sent(&cid(0), one, TARGET_MESSAGE_SIZE);
        let until = recent.times_sent(&cid(0), &other, HOLD_TIME * 100).unwrap_err();
        assert!(until > Instant::now() + HOLD_TIME * 99);
        assert_eq!(recent.times_sent(&cid(0), &one, HOLD_TIME * 100), Ok(1));
        assert_eq!(recent.times_sent(&cid(0), &other, Duration::ZERO), Ok(1));
    }

    #[test]
    fn peers_with_open_wants_are_counted() {
        let wanting = Arc::default();
        let [one, other] = [(); 2].map(|()| CountedLedger::new(Arc::clone(&wanting)));
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
    fn recently_sent_blocks_use_bounded_memory() {
        let (mut recent, now) = (RecentTransfers::default(), Instant::now());
        for n in 0..3 * MAX_RECENT_BLOCKS as u64 {
            recent.entry(&cid(n), now);
        }
        assert!(recent.young.len() + recent.old.len() <= MAX_RECENT_BLOCKS);
    }
}
