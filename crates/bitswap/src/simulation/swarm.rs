//! The event loop of the simulation.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use bytes::Bytes;
use libp2p::PeerId;
use tokio::time::{self, Instant};

use super::{
    Link, Manner, TICK,
    links::Sent,
    node::{Connection, File, Node, cid, number},
};
use crate::{
    Block, Cid,
    link::Outgoing,
    server::ServeWait,
    session::LOST_WANT_TIMEOUT,
    slots::SlotTicket,
    verify::Verified,
    wire::{Kind, Message, Payload, Prefix, WantlistEntry},
};

/// Long enough that a peer may not send it unsolicited.
const FORGED_BYTES: usize = 100_000;

enum Happening {
    /// Wants arrive at `to`.
    Wants {
        from: usize,
        to: usize,
        message: Message,
    },
    /// A chunk was sent.
    Sent {
        from: usize,
        sent: Option<Sent>,
    },
    /// Part of a message arrives.
    Chunk {
        from: usize,
        to: usize,
        bytes: usize,
    },
    /// A message of the server arrives as a whole.
    Message {
        from: usize,
        to: usize,
        message: Message,
    },
    /// A server looks at a peer's wants again.
    Poll {
        server: usize,
        peer: usize,
    },
    /// A node starts to fetch the file.
    Fetch(usize),
    /// A node disconnects from all others.
    Leave(usize),
    Tick,
}

/// All nodes, and what happens next.
pub struct Swarm {
    pub nodes: Vec<Node>,
    begun: Instant,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    happenings: HashMap<u64, Happening>,
    scheduled: u64,
    busy_uplinks: BTreeSet<usize>,
    polls: BTreeMap<(usize, usize), Instant>,
    /// For each server, the places of its peers among those that wait for a slot.
    tickets: Vec<BTreeMap<usize, SlotTicket>>,
    /// Clients whose sessions may have changed.
    changed: BTreeSet<usize>,
    /// Blocks that a client requested from a peer and that are neither answered nor cancelled.
    requested: HashMap<(usize, usize, Cid), Instant>,
    pub violations: Vec<String>,
    trace: DefaultHasher,
}

impl Swarm {
    /// Creates nodes that are all connected to each other.
    pub fn new(seed: u64, file: &File, nodes: &[(Manner, Link)]) -> Self {
        Self::connected(seed, file, nodes, |_, _| true)
    }

    /// Creates nodes of which some pairs, each in both orders, are connected.
    pub fn connected(
        seed: u64,
        file: &File,
        nodes: &[(Manner, Link)],
        are_connected: impl Fn(usize, usize) -> bool,
    ) -> Self {
        let node =
            |(index, (manner, link)): (usize, &(Manner, Link))| Node::new(index, seed, *manner, *link, file);
        let nodes: Vec<Node> = nodes.iter().enumerate().map(node).collect();
        let mut swarm = Self {
            begun: Instant::now(),
            queue: BinaryHeap::new(),
            happenings: HashMap::new(),
            scheduled: 0,
            busy_uplinks: BTreeSet::new(),
            polls: BTreeMap::new(),
            tickets: nodes.iter().map(|_| BTreeMap::new()).collect(),
            changed: BTreeSet::new(),
            requested: HashMap::new(),
            violations: Vec::new(),
            trace: DefaultHasher::new(),
            nodes,
        };
        let ids: Vec<PeerId> = swarm.nodes.iter().map(|node| node.id).collect();
        for (from, node) in swarm.nodes.iter_mut().enumerate() {
            for (to, id) in ids.iter().enumerate().filter(|(to, _)| *to != from && are_connected(from, *to)) {
                node.connect(to, *id);
            }
        }
        swarm.schedule(Duration::ZERO, Happening::Tick);
        swarm
    }

    /// Lets a node start to fetch after a delay.
    pub fn fetch_after(&mut self, delay: Duration, node: usize) {
        self.schedule(delay, Happening::Fetch(node));
    }

    /// Lets a node disconnect after a delay.
    pub fn leave_after(&mut self, delay: Duration, node: usize) {
        self.schedule(delay, Happening::Leave(node));
    }

    /// Runs until these nodes have the file. Fails after `limit` of virtual time.
    pub async fn run(&mut self, readers: &[usize], limit: Duration) -> Result<Duration, String> {
        let deadline = self.begun + limit;
        loop {
            self.settle();
            if readers.iter().all(|reader| self.nodes[*reader].done_at.is_some()) {
                return Ok(self.begun.elapsed());
            }
            let Some(Reverse((at, id))) = self.queue.pop() else {
                return Err("nothing happens any more".into());
            };
            if at > deadline {
                let left = readers.iter().filter(|reader| self.nodes[**reader].done_at.is_none());
                let left: Vec<_> = left.map(|n| (*n, self.nodes[*n].stored_blocks())).collect();
                return Err(format!("after {limit:?} without the file, with so many blocks: {left:?}"));
            }
            time::advance(at.saturating_duration_since(Instant::now())).await;
            if let Some(happening) = self.happenings.remove(&id) {
                self.happen(happening);
            }
        }
    }

    /// Returns a hash of all that was sent, and when.
    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }

    fn schedule(&mut self, delay: Duration, happening: Happening) {
        self.schedule_at(Instant::now() + delay, happening);
    }

    fn schedule_at(&mut self, at: Instant, happening: Happening) {
        self.scheduled += 1;
        self.queue.push(Reverse((at, self.scheduled)));
        self.happenings.insert(self.scheduled, happening);
    }

    fn delay(&self, from: usize, to: usize) -> Duration {
        (self.nodes[from].link.delay + self.nodes[to].link.delay) / 2
    }

    fn record(&mut self, what: impl Hash) {
        (self.begun.elapsed(), what).hash(&mut self.trace);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wants { from, to, message } => self.on_wants(from, to, message),
            Happening::Sent { from, sent } => self.on_sent(from, sent),
            Happening::Chunk { from, to, bytes } => {
                self.nodes[from].uplink.received(to, bytes);
                self.start_uplink(from);
                if let Some(connection) = self.nodes[to].connections.get_mut(&from) {
                    connection.receive();
                }
            }
            Happening::Message { from, to, message } => self.on_message(from, to, message),
            Happening::Poll { server, peer } => {
                self.polls.remove(&(server, peer));
                self.poll_server(server, peer);
            }
            Happening::Fetch(node) => {
                self.nodes[node].fetch();
                self.changed.insert(node);
            }
            Happening::Leave(node) => self.leave(node),
            Happening::Tick => {
                for index in 0..self.nodes.len() {
                    if self.nodes[index].is_fetching() {
                        self.nodes[index].client.on_tick();
                        self.changed.insert(index);
                    }
                }
                self.schedule(TICK, Happening::Tick);
            }
        }
    }

    /// Lets clients store and plan until nothing changes any more at this moment.
    fn settle(&mut self) {
        while let Some(index) = self.changed.pop_first() {
            let node = &mut self.nodes[index];
            if node.store_fetched(Instant::now()) {
                let peers: Vec<usize> = node.connections.keys().copied().collect();
                peers.into_iter().for_each(|peer| self.poll_server(index, peer));
            }
            self.nodes[index].client.send_wants();
            self.send_wants(index);
        }
    }

    fn send_wants(&mut self, from: usize) {
        let mut messages = Vec::new();
        for (to, connection) in &mut self.nodes[from].connections {
            while let Ok(message) = connection.wants.try_recv() {
                messages.push((*to, message));
            }
        }
        for (to, message) in messages {
            for entry in &message.wants {
                self.record((from, to, number(&entry.cid), entry.cancel, entry.kind == Kind::Block));
                self.check_request(from, to, entry);
            }
            self.schedule(self.delay(from, to), Happening::Wants { from, to, message });
        }
    }

    /// A block is requested again only from a peer that may have lost its wants: it was silent, or owes the block for
    /// very long.
    fn check_request(&mut self, from: usize, to: usize, entry: &WantlistEntry) {
        let (request, now) = ((from, to, entry.cid), Instant::now());
        let silent = self.nodes[from].connections.get(&to).map(Connection::last_silence);
        if entry.cancel {
            self.requested.remove(&request);
        } else if entry.kind == Kind::Block
            && let Some(before) = self.requested.insert(request, now)
            && silent.flatten().is_none_or(|silent| silent < before)
            && now - before < LOST_WANT_TIMEOUT
        {
            let n = number(&entry.cid);
            self.violations.push(format!("{from} requests block {n} of {to} again after {:?}", now - before));
        }
    }

    fn on_wants(&mut self, from: usize, to: usize, message: Message) {
        let Some(connection) = self.nodes[to].connections.get_mut(&from) else { return };
        connection.receive();
        match self.nodes[to].manner {
            Manner::Honest => {
                let peer = self.nodes[from].id;
                let connection = libp2p::swarm::ConnectionId::new_unchecked(0);
                self.nodes[to].server.wanted(peer, connection, message.full, message.wants);
                self.poll_server(to, from);
            }
            Manner::Silent => {}
            Manner::Claims | Manner::Forges => self.lie(to, from, &message.wants),
        }
    }

    fn lie(&mut self, liar: usize, to: usize, wants: &[WantlistEntry]) {
        let mut message = Message::default();
        for entry in wants.iter().filter(|entry| !entry.cancel) {
            match (entry.kind, self.nodes[liar].manner) {
                (Kind::Have, _) => message.presences.push((entry.cid, true)),
                (Kind::Block, Manner::Forges) => {
                    let mut forged = vec![0; FORGED_BYTES];
                    forged[..4].copy_from_slice(&(!number(&entry.cid)).to_be_bytes());
                    message.blocks.push(Payload { prefix: Prefix::of(&entry.cid), data: forged.into() });
                }
                (Kind::Block, _) => {}
            }
        }
        if message != Message::default() {
            self.nodes[liar].uplink.push(to, Outgoing::unbound(message));
            self.start_uplink(liar);
        }
    }

    fn poll_server(&mut self, server: usize, peer: usize) {
        let (id, node) = (self.nodes[peer].id, &mut self.nodes[server]);
        let ticket = self.tickets[server].entry(peer).or_insert_with(|| node.server.ticket());
        if node.manner != Manner::Honest || !node.connections.contains_key(&peer) {
            return;
        }
        let wait = loop {
            match node.server.poll_message(&id, ticket) {
                Ok(outgoing) => node.uplink.push(peer, outgoing),
                Err(wait) => break wait,
            }
        };
        let at = match wait {
            ServeWait::Event => None,
            ServeWait::Until(at) => Some(at),
            ServeWait::Slot => Some(ticket.next_expiry().unwrap_or_else(Instant::now)),
        };
        self.start_uplink(server);
        let Some(at) = at else { return };
        if self.polls.get(&(server, peer)).is_none_or(|known| at < *known) {
            self.polls.insert((server, peer), at);
            self.schedule_at(at, Happening::Poll { server, peer });
        }
    }

    /// Polls the peers that were granted a slot.
    fn poll_granted(&mut self, server: usize) {
        let granted =
            self.tickets[server].iter_mut().filter_map(|(peer, ticket)| ticket.is_granted().then_some(*peer));
        let granted: Vec<usize> = granted.collect();
        granted.into_iter().for_each(|peer| self.poll_server(server, peer));
    }

    fn start_uplink(&mut self, from: usize) {
        let now = Instant::now();
        if self.busy_uplinks.contains(&from) {
            return;
        }
        let Some((at, to, chunk, sent)) = self.nodes[from].uplink.send_chunk(now) else { return };
        self.busy_uplinks.insert(from);
        let arrives = at + self.delay(from, to);
        let received = self.nodes[to].downlink.receive(arrives, chunk);
        self.schedule_at(received, Happening::Chunk { from, to, bytes: chunk });
        if let Some(sent) = &sent {
            let message = sent.outgoing.message.clone();
            self.schedule_at(received, Happening::Message { from, to, message });
        }
        self.schedule_at(at, Happening::Sent { from, sent });
    }

    fn on_sent(&mut self, from: usize, sent: Option<Sent>) {
        self.busy_uplinks.remove(&from);
        if let Some(Sent { to, outgoing, .. }) = sent {
            drop(outgoing);
            self.poll_server(from, to);
            self.poll_granted(from);
        }
        self.start_uplink(from);
    }

    fn on_message(&mut self, from: usize, to: usize, message: Message) {
        if !self.nodes[to].connections.contains_key(&from) {
            return;
        }
        let Message { blocks, presences, .. } = message;
        let blocks: Vec<Block> = blocks.into_iter().map(block).collect();
        self.nodes[to].received_blocks += blocks.len();
        self.record((from, to, blocks.len(), presences.len()));
        let lacking = presences.iter().filter(|(_, have)| !have).map(|(cid, _)| *cid);
        for cid in blocks.iter().map(|block| block.cid).chain(lacking) {
            self.requested.remove(&(to, from, cid));
        }
        let peer = self.nodes[from].id;
        let verified = Verified { peer, presences, blocks, unusable: 0, memory: Default::default() };
        self.nodes[to].client.on_verified(verified);
        self.changed.insert(to);
    }

    fn leave(&mut self, leaving: usize) {
        let peers: Vec<usize> = self.nodes[leaving].connections.keys().copied().collect();
        for peer in peers {
            for (one, other) in [(leaving, peer), (peer, leaving)] {
                let id = self.nodes[other].id;
                self.nodes[one].disconnect(other, id);
                self.requested.retain(|(from, to, _), _| (*from, *to) != (one, other));
                self.changed.insert(one);
            }
        }
    }
}

/// Blocks are not hashed: each tells its number.
fn block(Payload { data, .. }: Payload) -> Block {
    let n = u32::from_be_bytes(data[..4].try_into().expect("it is long enough"));
    Block { cid: cid(n), data: Bytes::clone(&data) }
}
