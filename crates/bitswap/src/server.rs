//! The Bitswap server: one task per peer takes wants from its ledger, reads the blocks and sends them to the peer's
//! streams.

mod connections;
mod hold;
mod peer;
#[cfg(test)]
mod simulated;
mod transfers;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use libp2p::{PeerId, swarm::ConnectionId};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    ledger::{Ledger, Want},
    link::Outgoing,
    slots::{SendSlot, SendSlots, SlotTicket},
    traffic::{Counters, Traffic},
    unsolicited,
    wire::{MAX_BLOCK, Message, Payload, Prefix, WantlistEntry},
};
use crate::{Blocks, Cid, locked};
use peer::ServedPeer;
use transfers::{LARGE_BLOCK, RecentTransfers};

/// Large blocks that wait for a slot while small ones behind them are sent.
const MAX_SET_ASIDE: usize = 8;
/// A block this small is sent instead of a HAVE, as boxo does.
const REPLACE_HAVE_WITH_BLOCK: u64 = 1024;
/// Presences answered in one message.
const MAX_PRESENCES: usize = 512;
/// Small blocks share a message up to this size.
const TARGET_MESSAGE_SIZE: usize = 64 << 10;
/// Held blocks are looked at again after this time: the hold time shrinks when fewer peers share, and peers may leave.
const HOLD_CHECK_INTERVAL: Duration = Duration::from_millis(300);
const MAX_SHARING_PEERS: usize = 8;

/// A message to send, and its slot if it is large.
struct NextMessage {
    message: Message,
    slot: Option<SendSlot>,
}

/// The next event after which there may be something to send to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServeWait {
    /// A want, a block, or the end of a message.
    Event,
    /// The time at which a block is no longer held, if no event comes before.
    Until(Instant),
    /// A slot for a large block.
    Slot,
}

/// All peers that want something.
pub struct Server {
    blocks: Arc<dyn Blocks>,
    peers: Mutex<HashMap<PeerId, Arc<ServedPeer>>>,
    /// Number of peers with open wants.
    wanting: Arc<AtomicUsize>,
    recent: Mutex<RecentTransfers>,
    slots: Arc<SendSlots>,
    read_ahead: Arc<Semaphore>,
    counters: Arc<Counters>,
    tasks: TaskTracker,
    stop: CancellationToken,
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
            slots: Arc::default(),
            read_ahead,
            counters,
            tasks,
            stop,
        }
    }

    /// Applies a wantlist of a peer.
    pub(crate) fn wanted(
        &self,
        peer: PeerId,
        connection: ConnectionId,
        full: bool,
        entries: Vec<WantlistEntry>,
    ) {
        let peer = self.peer(peer, |streams| {
            streams.wanting.insert(connection);
        });
        peer.wants.with(|ledger| {
            let cancelled =
                entries.iter().filter(|entry| entry.cancel && ledger.was_held(&entry.cid)).count();
            ledger.apply(full, entries);
            // A peer that wants nothing any more may have given up.
            if !ledger.is_empty() {
                (0..cancelled).for_each(|_| peer.hold.came_from_another());
            }
        });
        peer.more.notify_one();
    }

    /// Returns how many blocks were sent and received.
    pub fn traffic(&self) -> Traffic {
        self.counters.traffic()
    }

    /// Returns how many blocks were sent to, and received from, each of these peers.
    pub fn traffic_with(&self, peers: &[PeerId]) -> Vec<Traffic> {
        self.counters.traffic_with(peers)
    }

    /// Answers the wants that wait for these blocks. The store calls it for each block that it has from now on.
    pub fn arrived(&self, cids: &[Cid]) {
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
        let mut ticket = SlotTicket::new(&self.slots);
        loop {
            let sender = locked(&peer.streams).senders.first().map(|(_, sender)| sender.clone());
            let Some(sender) = sender else { return };
            if !peer.may_be_sent(self.sharing_peers()) {
                ticket.give_up();
                peer.more.notified().await;
                continue;
            }
            // Blocks are read once the stream has room, so that few of them are in memory.
            let Ok(permit) = sender.reserve().await else {
                locked(&peer.streams).senders.retain(|(_, sender)| !sender.is_closed());
                continue;
            };
            let (server, served) = (self.clone(), peer.clone());
            let memory = self.memory_for(&peer).await;
            let next = move || (server.next(&served, &mut ticket), ticket);
            let (next, given_back) = match tokio::task::spawn_blocking(next).await {
                Ok(built) => built,
                Err(error) if error.is_cancelled() => return,
                // The peer asks again for what was taken. What was not is served without waiting for that.
                Err(error) => {
                    tracing::error!(%error, "cannot build a message to a peer");
                    peer.wants.with(Ledger::abandon);
                    ticket = SlotTicket::new(&self.slots);
                    continue;
                }
            };
            ticket = given_back;
            match next {
                Ok(NextMessage { message, slot }) => permit.send(Outgoing {
                    message,
                    _slot: slot,
                    _in_flight: peer.in_flight.begin(),
                    _memory: memory,
                }),
                Err(wait) => {
                    drop((permit, memory));
                    let more = peer.more.notified();
                    match wait {
                        ServeWait::Event => more.await,
                        ServeWait::Until(until) => drop(tokio::time::timeout_at(until, more).await),
                        ServeWait::Slot => tokio::select! {
                            () = more => {}
                            () = ticket.granted() => {}
                        },
                    }
                }
            }
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

    /// Builds the next message for a peer, or returns what to wait for.
    fn next(&self, peer: &ServedPeer, ticket: &mut SlotTicket) -> Result<NextMessage, ServeWait> {
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
        let mut size: usize = message.blocks.iter().map(|block| block.data.len()).sum();
        let (mut wait, mut slot, mut set_aside) = (ServeWait::Event, None, Vec::new());
        while size < TARGET_MESSAGE_SIZE && set_aside.len() < MAX_SET_ASIDE {
            match self.next_block(peer) {
                Ok(want) => match self.slot_for(&want.cid, ticket) {
                    Ok(granted) => {
                        let sent = self.answer_block(peer, want, &mut message);
                        size += sent;
                        slot = granted.or_else(|| (sent >= LARGE_BLOCK).then(|| ticket.slot_at_once(sent)));
                    }
                    // Small blocks are not delayed by large ones.
                    Err(wait_for_slot) => {
                        wait = wait_for_slot;
                        set_aside.push(want.cid);
                    }
                },
                Err(until) => {
                    let check = Instant::now() + HOLD_CHECK_INTERVAL;
                    let until = until.map(|until| ServeWait::Until(until.min(check)));
                    wait = if wait == ServeWait::Event { until.unwrap_or(wait) } else { wait };
                    break;
                }
            }
        }
        peer.wants.with(|ledger| set_aside.iter().for_each(|cid| ledger.put_back(cid)));
        match message == Message::default() {
            true => Err(wait),
            false => Ok(NextMessage { message, slot }),
        }
    }

    /// Returns the slot that a block needs, if slots are short and it is large.
    fn slot_for(&self, cid: &Cid, ticket: &mut SlotTicket) -> Result<Option<SendSlot>, ServeWait> {
        if !ticket.is_waiting() && !self.slots.are_used_up(Instant::now()) {
            return Ok(None);
        }
        match self.blocks.size(cid).ok().flatten() {
            Some(size) if size >= LARGE_BLOCK as u64 => {
                ticket.slot(size as usize).map(Some).ok_or(ServeWait::Slot)
            }
            _ => Ok(None),
        }
    }

    /// Takes the next block of a peer's wants, or returns until when all of them are held.
    fn next_block(&self, peer: &ServedPeer) -> Result<Want, Option<Instant>> {
        let recent = locked(&self.recent);
        let hold = peer.hold.among(self.sharing_peers());
        peer.wants.with(|ledger| {
            ledger.next_block(|cid, urgent| {
                // A block that the peer's reader is waiting for is held for half the time.
                recent.times_sent(cid, &peer.id, if urgent { hold / 2 } else { hold }, 2 * hold)
            })
        })
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
        let (was_held, is_sent) =
            peer.wants.with(|ledger| (ledger.was_held(&want.cid), ledger.block_sent(&want.cid)));
        if !is_sent {
            return 0;
        }
        if was_held {
            peer.hold.waited_in_vain();
        }
        let size = data.len();
        locked(&self.recent).sent(&want.cid, peer.id, size);
        let unsolicited = self.unsolicited_after(peer, &want.cid, &data);
        self.add_block(peer, want.cid, data, message);
        size + unsolicited.map_or(0, |(cid, data)| self.add_block(peer, cid, data, message))
    }

    fn add_block(&self, peer: &ServedPeer, cid: Cid, data: Bytes, message: &mut Message) -> usize {
        let size = data.len();
        self.counters.sent(&peer.id, size);
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
