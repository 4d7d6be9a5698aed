//! A peer with wants, and the streams to it.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use libp2p::{PeerId, swarm::ConnectionId};
use tokio::sync::{Notify, Semaphore, mpsc};

use super::hold::HoldTime;
use crate::{
    ledger::Ledger,
    link::{InFlight, Outgoing, QUEUED_ANSWERS, STRIPED_STREAMS},
    locked,
};

/// Messages in flight to a peer that is alone in wanting something. Several peers share them: of many blocks sent at
/// once, none is complete and can be passed on early.
const MAX_IN_FLIGHT: usize = STRIPED_STREAMS + QUEUED_ANSWERS;

/// A peer with wants, and the streams to it.
pub struct ServedPeer {
    pub id: PeerId,
    pub wants: CountedLedger,
    pub more: Arc<Notify>,
    pub streams: Mutex<PeerStreams>,
    /// Memory for one message, reserved for this peer, so that peers that do not read cannot keep it from being served.
    pub own: Arc<Semaphore>,
    pub in_flight: Arc<InFlight>,
    pub hold: HoldTime,
    /// Whether it is an ocipfs peer, which also accepts unsolicited blocks.
    pub supports_striping: AtomicBool,
}

/// The ledger of one peer, counted while it is not empty.
pub struct CountedLedger {
    ledger: Mutex<Ledger>,
    wanting: Arc<AtomicUsize>,
}

impl CountedLedger {
    fn new(wanting: Arc<AtomicUsize>) -> Self {
        Self { ledger: Mutex::default(), wanting }
    }

    /// Reads or changes the ledger.
    pub fn with<T>(&self, change: impl FnOnce(&mut Ledger) -> T) -> T {
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
pub struct PeerStreams {
    /// Channels to the peer's connections.
    pub senders: Vec<(ConnectionId, mpsc::Sender<Outgoing>)>,
    /// Connections on which it sent wants, possibly before it can be answered.
    pub wanting: HashSet<ConnectionId>,
}

impl ServedPeer {
    pub fn new(id: PeerId, wanting: Arc<AtomicUsize>) -> Self {
        let more = Arc::new(Notify::new());
        Self {
            id,
            wants: CountedLedger::new(wanting),
            in_flight: InFlight::new(more.clone()),
            more,
            streams: Mutex::default(),
            own: Arc::new(Semaphore::new(1)),
            hold: HoldTime::default(),
            supports_striping: AtomicBool::new(false),
        }
    }

    /// Returns whether one more message may be in flight, where so many peers want something.
    pub fn may_be_sent(&self, sharing: usize) -> bool {
        self.in_flight.count() <= MAX_IN_FLIGHT / sharing.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Cid,
        wire::{Kind, WantlistEntry},
    };

    #[test]
    fn peers_with_open_wants_are_counted() {
        let wanting = Arc::default();
        let [one, other] = [(); 2].map(|()| CountedLedger::new(Arc::clone(&wanting)));
        let cid = Cid::new_v1(0x55, cid::multihash::Multihash::wrap(0x12, &[0; 32]).expect("it is short"));
        let entry =
            |cancel| WantlistEntry { cid, priority: 1, cancel, kind: Kind::Block, send_dont_have: true };
        for wants in [&one, &one, &other] {
            wants.with(|ledger| ledger.apply(false, vec![entry(false)]));
        }
        assert_eq!(wanting.load(Ordering::Relaxed), 2);
        other.with(|ledger| ledger.apply(false, vec![entry(true)]));
        assert_eq!(wanting.load(Ordering::Relaxed), 1);
        drop(one);
        assert_eq!(wanting.load(Ordering::Relaxed), 0);
    }
}
