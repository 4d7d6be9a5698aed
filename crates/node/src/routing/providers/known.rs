//! Providers and their addresses, each stored once for all records that name it.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    net::IpAddr,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use libp2p::{Multiaddr, PeerId};

use super::addresses::PackedAddresses;
use crate::{locked, routing::compact::CompactBytes};

/// Bytes of a provider besides its addresses, including its place in this table.
const PROVIDER_OVERHEAD: usize = size_of::<KnownProvider>() + 64;

/// A peer that provides keys.
pub struct KnownProvider {
    id: CompactBytes,
    whereabouts: Mutex<Whereabouts>,
    total: Arc<AtomicUsize>,
}

/// Where a provider was last: all its records say the same, or each change of its addresses would take memory again.
#[derive(Default)]
struct Whereabouts {
    addresses: PackedAddresses,
    /// The network that its connection came from.
    network: Option<IpAddr>,
}

impl Whereabouts {
    fn weight(&self) -> usize {
        PROVIDER_OVERHEAD + self.addresses.len()
    }
}

impl KnownProvider {
    /// Returns the id; it is that of a peer, so there always is one.
    pub fn peer(&self) -> Option<PeerId> {
        PeerId::from_bytes(self.id.as_slice()).ok()
    }

    pub fn is(&self, peer: &PeerId) -> bool {
        self.id == CompactBytes::from(peer)
    }

    pub fn is_same(&self, other: &Self) -> bool {
        self.id == other.id
    }

    pub fn addresses(&self) -> Vec<Multiaddr> {
        locked(&self.whereabouts).addresses.to_vec()
    }

    /// Returns the network that its connection came from.
    pub fn network(&self) -> Option<IpAddr> {
        locked(&self.whereabouts).network
    }

    fn update(&self, addresses: &[Multiaddr], network: Option<IpAddr>) {
        let newest = Whereabouts { addresses: PackedAddresses::new(addresses), network };
        let mut whereabouts = locked(&self.whereabouts);
        self.total.fetch_add(newest.weight(), Relaxed);
        self.total.fetch_sub(whereabouts.weight(), Relaxed);
        *whereabouts = newest;
    }
}

impl Drop for KnownProvider {
    fn drop(&mut self) {
        self.total.fetch_sub(locked(&self.whereabouts).weight(), Relaxed);
    }
}

/// The providers that stored records name.
#[derive(Default)]
pub struct KnownProviders {
    /// By a hash of their ids. Of two with one hash, the later is here, and the other shares its addresses no longer.
    latest: HashMap<u64, Weak<KnownProvider>>,
    hasher: RandomState,
    /// The table size at which providers without records are removed.
    full: usize,
    total: Arc<AtomicUsize>,
}

impl KnownProviders {
    /// Returns the provider, with these addresses and this network from now on.
    pub fn share(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        network: Option<IpAddr>,
    ) -> Arc<KnownProvider> {
        let id = CompactBytes::from(&peer);
        let hash = self.hasher.hash_one(&id);
        let known = self.latest.get(&hash).and_then(Weak::upgrade).filter(|known| known.id == id);
        let known = known.unwrap_or_else(|| self.add(hash, id));
        known.update(&addresses, network);
        known
    }

    fn add(&mut self, hash: u64, id: CompactBytes) -> Arc<KnownProvider> {
        if self.latest.len() >= self.full {
            self.latest.retain(|_, provider| provider.strong_count() > 0);
            self.full = 2 * self.latest.len() + 64;
        }
        let (whereabouts, total) = (Mutex::<Whereabouts>::default(), Arc::clone(&self.total));
        total.fetch_add(locked(&whereabouts).weight(), Relaxed);
        let provider = Arc::new(KnownProvider { id, whereabouts, total });
        self.latest.insert(hash, Arc::downgrade(&provider));
        provider
    }

    /// Returns the approximate number of bytes of all providers.
    pub fn bytes(&self) -> usize {
        self.total.load(Relaxed)
    }
}
