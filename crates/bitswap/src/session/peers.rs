//! The peers of a session, indexed by what they have, so that the many peers without blocks are not scanned.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use libp2p::PeerId;
use tokio::time::Instant;

use super::peer::{Availability, IndexKey, Rank, SessionPeer};

/// The peers of a session.
#[derive(Debug, Default)]
pub struct SessionPeers {
    known: HashMap<PeerId, SessionPeer>,
    complete: BTreeSet<PeerId>,
    partial: BTreeSet<PeerId>,
    /// Unproven peers in the order in which they are asked.
    unknown: BTreeSet<(Rank, PeerId)>,
    /// Unproven peers that were never sent a want.
    unasked: BTreeSet<(Rank, PeerId)>,
    last_asked: Option<Instant>,
    /// Number of peers that do not support presences.
    silent: usize,
    /// Number of peers that were scanned.
    #[cfg(test)]
    pub looks: std::cell::Cell<usize>,
}

impl SessionPeers {
    /// Returns the number of peers.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Returns the state of a peer.
    pub fn get(&self, peer: &PeerId) -> Option<&SessionPeer> {
        self.known.get(peer)
    }

    /// Returns the peers that are presumed to have all blocks.
    pub fn complete(&self) -> impl Iterator<Item = (&PeerId, &SessionPeer)> {
        self.each(self.complete.iter())
    }

    /// Returns the peers that have part of the blocks.
    pub fn partial(&self) -> impl Iterator<Item = (&PeerId, &SessionPeer)> {
        self.each(self.partial.iter())
    }

    /// Returns the unproven peers in the order in which they are asked.
    pub fn unknown(&self) -> impl Iterator<Item = (&PeerId, &SessionPeer)> {
        self.each(self.unknown.iter().map(|(_, peer)| peer))
    }

    /// Returns the unproven peers that were never sent a want.
    pub fn unasked(&self) -> impl Iterator<Item = (&PeerId, &SessionPeer)> {
        self.each(self.unasked.iter().map(|(_, peer)| peer))
    }

    fn each<'a>(
        &'a self,
        peers: impl Iterator<Item = &'a PeerId>,
    ) -> impl Iterator<Item = (&'a PeerId, &'a SessionPeer)> {
        peers.filter_map(|peer| {
            #[cfg(test)]
            self.looks.set(self.looks.get() + 1);
            Some((peer, self.known.get(peer)?))
        })
    }

    /// Returns whether there are both complete and partial peers.
    pub fn are_mixed(&self) -> bool {
        !self.complete.is_empty() && !self.partial.is_empty()
    }

    /// Returns how long a block of the fastest peer takes.
    pub fn fastest(&self) -> Duration {
        let delivered = self.complete().chain(self.partial()).filter(|(_, state)| state.has_delivered());
        delivered.map(|(_, state)| state.latency()).min().unwrap_or_default()
    }

    /// Returns whether one peer has more than twice as much to send as another one.
    pub fn are_unbalanced(&self) -> bool {
        let busy = self.complete().chain(self.partial()).map(|(_, state)| state.in_flight_bytes());
        let (least, most) = busy.fold((u64::MAX, 0), |(least, most), busy| (busy.min(least), busy.max(most)));
        least < most / 2
    }

    /// Returns whether some peers do not support presences.
    pub fn has_peers_without_presences(&self) -> bool {
        self.silent > 0
    }

    /// Returns when a peer was last sent its first want.
    pub fn last_asked(&self) -> Option<Instant> {
        self.last_asked
    }

    /// Adds a peer, unless it is known.
    pub fn insert(&mut self, peer: PeerId, state: SessionPeer) {
        if !self.known.contains_key(&peer) {
            self.index(peer, state.index_key());
            self.silent += usize::from(!state.supports_presences);
            self.known.insert(peer, state);
        }
    }

    /// Removes a peer.
    pub fn remove(&mut self, peer: &PeerId) {
        if let Some(state) = self.known.remove(peer) {
            self.unindex(*peer, state.index_key());
            self.silent -= usize::from(!state.supports_presences);
        }
    }

    /// Updates a peer and its index. Returns `None` if it is unknown.
    pub fn change<T>(&mut self, peer: &PeerId, change: impl FnOnce(&mut SessionPeer) -> T) -> Option<T> {
        let state = self.known.get_mut(peer)?;
        let before = state.index_key();
        let changed = change(state);
        let (after, asked_at) = (state.index_key(), state.asked_at);
        if after != before {
            self.unindex(*peer, before);
            self.index(*peer, after);
            self.last_asked = self.last_asked.max(asked_at);
        }
        Some(changed)
    }

    fn index(&mut self, peer: PeerId, key: IndexKey) {
        match key.availability {
            Availability::Complete => drop(self.complete.insert(peer)),
            Availability::Partial => drop(self.partial.insert(peer)),
            Availability::Unknown => drop(self.unknown.insert((key.rank, peer))),
        }
        if key.availability == Availability::Unknown && !key.was_asked {
            self.unasked.insert((key.rank, peer));
        }
    }

    fn unindex(&mut self, peer: PeerId, key: IndexKey) {
        match key.availability {
            Availability::Complete => self.complete.remove(&peer),
            Availability::Partial => self.partial.remove(&peer),
            Availability::Unknown => self.unknown.remove(&(key.rank, peer)),
        };
        self.unasked.remove(&(key.rank, peer));
    }
}
