//! The peers of a session, by what they have. Most have nothing: they are not looked at where others are chosen from.

use std::collections::{BTreeSet, HashMap};

use libp2p::PeerId;
use tokio::time::Instant;

use super::source::{Place, Rank, Role, Source};

/// The peers of a session.
#[derive(Debug, Default)]
pub struct Sources {
    known: HashMap<PeerId, Source>,
    with_all: BTreeSet<PeerId>,
    with_parts: BTreeSet<PeerId>,
    /// Those of which nothing is known, the first to be asked first.
    unknown: BTreeSet<(Rank, PeerId)>,
    /// Those among them that were never asked for anything.
    unasked: BTreeSet<(Rank, PeerId)>,
    last_asked: Option<Instant>,
    /// Peers that know no presences.
    silent: usize,
    /// Peers that were looked at.
    #[cfg(test)]
    pub looks: std::cell::Cell<usize>,
}

impl Sources {
    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Returns a peer.
    pub fn get(&self, peer: &PeerId) -> Option<&Source> {
        self.known.get(peer)
    }

    /// Returns the peers that are presumed to have all.
    pub fn with_all(&self) -> impl Iterator<Item = (&PeerId, &Source)> {
        self.each(self.with_all.iter())
    }

    /// Returns the peers that have parts.
    pub fn with_parts(&self) -> impl Iterator<Item = (&PeerId, &Source)> {
        self.each(self.with_parts.iter())
    }

    /// Returns the peers of which nothing is known, the first to be asked first.
    pub fn unknown(&self) -> impl Iterator<Item = (&PeerId, &Source)> {
        self.each(self.unknown.iter().map(|(_, peer)| peer))
    }

    /// Returns those among them that were never asked for anything.
    pub fn unasked(&self) -> impl Iterator<Item = (&PeerId, &Source)> {
        self.each(self.unasked.iter().map(|(_, peer)| peer))
    }

    fn each<'a>(
        &'a self,
        peers: impl Iterator<Item = &'a PeerId>,
    ) -> impl Iterator<Item = (&'a PeerId, &'a Source)> {
        peers.filter_map(|peer| {
            #[cfg(test)]
            self.looks.set(self.looks.get() + 1);
            Some((peer, self.known.get(peer)?))
        })
    }

    /// Returns whether some peers have all and others have parts.
    pub fn are_mixed(&self) -> bool {
        !self.with_all.is_empty() && !self.with_parts.is_empty()
    }

    /// Returns whether there are peers that do not say what they have.
    pub fn knows_silent_ones(&self) -> bool {
        self.silent > 0
    }

    /// Returns when a peer was last asked for the first time.
    pub fn last_asked(&self) -> Option<Instant> {
        self.last_asked
    }

    /// Adds a peer, unless it is there.
    pub fn insert(&mut self, peer: PeerId, source: Source) {
        if !self.known.contains_key(&peer) {
            self.file(peer, source.place());
            self.silent += usize::from(!source.knows_presences);
            self.known.insert(peer, source);
        }
    }

    /// Removes a peer.
    pub fn remove(&mut self, peer: &PeerId) {
        if let Some(source) = self.known.remove(peer) {
            self.unfile(*peer, source.place());
            self.silent -= usize::from(!source.knows_presences);
        }
    }

    /// Changes a peer, if it is there.
    pub fn change<T>(&mut self, peer: &PeerId, change: impl FnOnce(&mut Source) -> T) -> Option<T> {
        let source = self.known.get_mut(peer)?;
        let before = source.place();
        let changed = change(source);
        let (after, asked_at) = (source.place(), source.asked_at);
        if after != before {
            self.unfile(*peer, before);
            self.file(*peer, after);
            self.last_asked = self.last_asked.max(asked_at);
        }
        Some(changed)
    }

    fn file(&mut self, peer: PeerId, place: Place) {
        match place.role {
            Role::All => drop(self.with_all.insert(peer)),
            Role::Parts => drop(self.with_parts.insert(peer)),
            Role::Unknown => drop(self.unknown.insert((place.rank, peer))),
        }
        if place.role == Role::Unknown && !place.was_asked {
            self.unasked.insert((place.rank, peer));
        }
    }

    fn unfile(&mut self, peer: PeerId, place: Place) {
        match place.role {
            Role::All => self.with_all.remove(&peer),
            Role::Parts => self.with_parts.remove(&peer),
            Role::Unknown => self.unknown.remove(&(place.rank, peer)),
        };
        self.unasked.remove(&(place.rank, peer));
    }
}
