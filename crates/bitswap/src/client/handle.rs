//! A handle to the client task.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{mpsc, watch};

use crate::{
    Cid,
    link::{Event, FetchedBlock},
    session::{Inquiry, WantedBlock},
};

/// A handle to the client task.
#[derive(Clone)]
pub struct ClientHandle {
    events: mpsc::UnboundedSender<Event>,
    counter: Arc<AtomicU64>,
}

impl ClientHandle {
    pub(crate) fn new(events: mpsc::UnboundedSender<Event>) -> Self {
        Self { events, counter: Arc::default() }
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
        let wanted = wanted.into_iter().map(|(cid, size)| WantedBlock { cid, size }).collect();
        self.send(Event::Want(id, wanted));
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
