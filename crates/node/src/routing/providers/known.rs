//! Providers and their addresses, each stored once for all records that name it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use libp2p::{Multiaddr, PeerId};

/// Bytes of a provider besides its addresses, including its place in this table.
const PROVIDER_OVERHEAD: usize = size_of::<KnownProvider>() + 160;
/// Bytes of an address's allocation, besides its length.
const ADDRESS_OVERHEAD: usize = 48;

/// A peer that provides keys.
pub struct KnownProvider {
    pub peer: PeerId,
    pub addresses: Vec<Multiaddr>,
    /// The network that its connection came from.
    pub network: Option<IpAddr>,
    weight: usize,
    total: Arc<AtomicUsize>,
}

impl Drop for KnownProvider {
    fn drop(&mut self) {
        self.total.fetch_sub(self.weight, Relaxed);
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
    /// Returns the known provider, or a new one if its addresses or network changed.
    pub fn share(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        network: Option<IpAddr>,
    ) -> Arc<KnownProvider> {
        let known = self.latest.get(&peer).and_then(Weak::upgrade);
        if let Some(known) = known
            && known.addresses == addresses
            && known.network == network
        {
            return known;
        }
        let bytes: usize = addresses.iter().map(|address| address.len() + ADDRESS_OVERHEAD).sum();
        let weight = PROVIDER_OVERHEAD + bytes;
        self.total.fetch_add(weight, Relaxed);
        let source =
            Arc::new(KnownProvider { peer, addresses, network, weight, total: Arc::clone(&self.total) });
        if self.latest.len() >= self.full {
            self.latest.retain(|_, source| source.strong_count() > 0);
            self.full = 2 * self.latest.len() + 64;
        }
        self.latest.insert(peer, Arc::downgrade(&source));
        source
    }

    /// Returns the approximate number of bytes of all providers.
    pub fn bytes(&self) -> usize {
        self.total.load(Relaxed)
    }
}
