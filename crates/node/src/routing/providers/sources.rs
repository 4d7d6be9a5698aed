//! Providers and their addresses, each kept once however many records name it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use libp2p::{Multiaddr, PeerId};

/// What a source takes besides its addresses, in this table as well.
const SOURCE_BYTES: usize = size_of::<Source>() + 160;
/// An address's allocation, besides its bytes.
const ADDRESS_BYTES: usize = 48;

/// A peer that provides keys.
pub struct Source {
    pub peer: PeerId,
    pub addresses: Vec<Multiaddr>,
    /// The network that its connection came from.
    pub network: Option<IpAddr>,
    weight: usize,
    total: Arc<AtomicUsize>,
}

impl Drop for Source {
    fn drop(&mut self) {
        self.total.fetch_sub(self.weight, Relaxed);
    }
}

/// The sources that records name now.
#[derive(Default)]
pub struct Sources {
    latest: HashMap<PeerId, Weak<Source>>,
    /// The size of the table at which those that no record names are taken out.
    full: usize,
    total: Arc<AtomicUsize>,
}

impl Sources {
    /// Returns the source that is known, or a new one where it says something new.
    pub fn share(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, network: Option<IpAddr>) -> Arc<Source> {
        let known = self.latest.get(&peer).and_then(Weak::upgrade);
        if let Some(known) = known
            && known.addresses == addresses
            && known.network == network
        {
            return known;
        }
        let bytes: usize = addresses.iter().map(|address| address.len() + ADDRESS_BYTES).sum();
        let weight = SOURCE_BYTES + bytes;
        self.total.fetch_add(weight, Relaxed);
        let source = Arc::new(Source { peer, addresses, network, weight, total: Arc::clone(&self.total) });
        if self.latest.len() >= self.full {
            self.latest.retain(|_, source| source.strong_count() > 0);
            self.full = 2 * self.latest.len() + 64;
        }
        self.latest.insert(peer, Arc::downgrade(&source));
        source
    }

    /// Returns about how many bytes all sources take.
    pub fn bytes(&self) -> usize {
        self.total.load(Relaxed)
    }
}
