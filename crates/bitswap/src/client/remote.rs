//! A connected peer, and the wants that this node has sent to it.

use std::{collections::HashSet, sync::Arc};

use tokio::time::Instant;

use crate::{
    Cid,
    budget::{LATE_BLOCK_TIMEOUT, Share},
    link::PeerConnection,
    recent_wants::RecentWants,
    session::PeerState,
    wire::Version,
};

/// Less than boxo keeps for a peer.
const MAX_WANTS_PER_PEER: usize = 1000;
/// Cancelled wants remembered for a peer, twice the number it may have: their blocks may still arrive.
const MAX_RECENT_WANTS: usize = 2 * MAX_WANTS_PER_PEER;

/// A connected peer.
pub struct RemotePeer {
    pub connections: Vec<PeerConnection>,
    pub share: Arc<Share>,
    /// Wants that this node has sent to it and that have not ended.
    pub open_wants: HashSet<Cid>,
    recent: RecentWants,
    last_ended: Option<Instant>,
    /// The value of the client's counter at the peer's last block: peers that delivered recently are asked first.
    pub useful: u64,
}

impl RemotePeer {
    pub fn new(share: Arc<Share>) -> Self {
        Self {
            connections: Vec::new(),
            share,
            open_wants: HashSet::new(),
            recent: RecentWants::default(),
            last_ended: None,
            useful: 0,
        }
    }

    /// Returns what a session needs to know of the peer.
    pub fn state(&self) -> PeerState {
        PeerState {
            last_activity: self
                .connections
                .iter()
                .map(|connection| connection.activity.last_received())
                .max(),
            free_wants: MAX_WANTS_PER_PEER.saturating_sub(self.open_wants.len()),
        }
    }

    /// Returns whether this node ever asked the peer for a block, as far as it is remembered.
    pub fn was_asked(&self, cid_v1: &Cid) -> bool {
        self.open_wants.contains(cid_v1) || self.recent.contains(cid_v1)
    }

    pub fn end_want(&mut self, cid_v1: &Cid) -> bool {
        self.recent.add(cid_v1, MAX_RECENT_WANTS);
        self.last_ended = Some(Instant::now());
        let was_open = self.open_wants.remove(cid_v1);
        if self.open_wants.is_empty() {
            self.share.requests_ended();
        }
        was_open
    }

    pub fn expects_late_blocks(&self) -> bool {
        self.last_ended.is_some_and(|at| at.elapsed() < LATE_BLOCK_TIMEOUT)
    }

    pub fn supports_presences(&self) -> bool {
        self.connections.first().is_some_and(|connection| connection.version == Version::V1_2)
    }
}
