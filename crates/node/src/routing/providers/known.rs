//! Providers and their addresses, each stored once for all records that name it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use libp2p::{Multiaddr, PeerId};

use crate::locked;

/// Bytes of a provider besides its addresses, including its place in this table.
const PROVIDER_OVERHEAD: usize = size_of::<KnownProvider>() + 160;
/// Bytes of an address's allocation, besides its length.
const ADDRESS_OVERHEAD: usize = 48;

/// A peer that provides keys.
pub struct KnownProvider {
    pub peer: PeerId,
    whereabouts: Mutex<Whereabouts>,
    total: Arc<AtomicUsize>,
}

/// Where a provider was last: all its records say the same, or each change of its addresses would take memory again.
#[derive(Default)]
struct Whereabouts {
    addresses: Vec<Multiaddr>,
    /// The network that its connection came from.
    network: Option<IpAddr>,
    weight: usize,
}

impl KnownProvider {
    pub fn addresses(&self) -> Vec<Multiaddr> {
        locked(&self.whereabouts).addresses.clone()
    }

    /// Returns the network that its connection came from.
    pub fn network(&self) -> Option<IpAddr> {
        locked(&self.whereabouts).network
    }

    fn update(&self, addresses: Vec<Multiaddr>, network: Option<IpAddr>) {
        let bytes: usize = addresses.iter().map(|address| address.len() + ADDRESS_OVERHEAD).sum();
        let weight = PROVIDER_OVERHEAD + bytes;
        let mut whereabouts = locked(&self.whereabouts);
        self.total.fetch_add(weight, Relaxed);
        self.total.fetch_sub(whereabouts.weight, Relaxed);
        *whereabouts = Whereabouts { addresses, network, weight };
    }
}

impl Drop for KnownProvider {
    fn drop(&mut self) {
        self.total.fetch_sub(locked(&self.whereabouts).weight, Relaxed);
    }
}

/// The providers that stored records name.
#[derive(Default)]
pub struct KnownProviders {
    latest: HashMap<PeerId, Weak<KnownProvider>>,
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
        let known = self.latest.get(&peer).and_then(Weak::upgrade).unwrap_or_else(|| self.add(peer));
        known.update(addresses, network);
        known
    }

    fn add(&mut self, peer: PeerId) -> Arc<KnownProvider> {
        if self.latest.len() >= self.full {
            self.latest.retain(|_, provider| provider.strong_count() > 0);
            self.full = 2 * self.latest.len() + 64;
        }
        let total = Arc::clone(&self.total);
        let provider = Arc::new(KnownProvider { peer, whereabouts: Mutex::default(), total });
        self.latest.insert(peer, Arc::downgrade(&provider));
        provider
    }

    /// Returns the approximate number of bytes of all providers.
    pub fn bytes(&self) -> usize {
        self.total.load(Relaxed)
    }
}
