mod addresses;
mod known;
mod own;
mod row;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    time::Instant,
};

use libp2p::{
    PeerId,
    kad::{
        KBucketDistance, ProviderRecord, RecordKey,
        store::{Error, Result},
    },
};

use self::{
    known::KnownProviders,
    own::OwnRecords,
    row::{Provider, Row},
};
use super::{
    RECORD_LIFETIME,
    clock::Seconds,
    nearest::{Capacity, Nearest, RankedChanges},
};

const CAPACITY: Capacity = Capacity { keys: 1 << 15, bytes: 12 << 20 };
/// For the providers themselves, whose records share their addresses.
const MAX_KNOWN_BYTES: usize = 4 << 20;
const MAX_PROVIDERS_PER_KEY: usize = 20;
/// boxo accepts no longer key either; a multihash has at most 68 bytes.
const MAX_KEY_BYTES: usize = 80;
const MAX_ADDRESSES_PER_PROVIDER: usize = 16;
/// A reply with all providers of a key must not exceed the 16 KiB that Kademlia reads.
const MAX_ADDRESS_BYTES: usize = 512;
/// The sender of a record, as far as its admission depends on it.
pub struct SenderInfo<P> {
    /// The network that its connection comes from.
    pub network: Option<IpAddr>,
    /// Whether records of a peer are preferred to others.
    pub is_preferred: P,
}

/// The provider records. Those of this node are stored apart, so that others cannot evict them.
pub struct Providers {
    me: PeerId,
    own: OwnRecords,
    foreign: Nearest<Row>,
    known: KnownProviders,
}

impl Providers {
    pub fn new(me: PeerId) -> Self {
        Self {
            me,
            own: OwnRecords::new(me),
            foreign: Nearest::new(me, CAPACITY),
            known: KnownProviders::default(),
        }
    }

    pub fn add(&mut self, record: ProviderRecord, now: Instant) -> Result<()> {
        self.add_from(record, now, SenderInfo { network: None, is_preferred: |_: &PeerId| false })
    }

    /// Adds a record that a peer sent.
    pub fn add_from(
        &mut self,
        record: ProviderRecord,
        now: Instant,
        sender: SenderInfo<impl Fn(&PeerId) -> bool>,
    ) -> Result<()> {
        if record.provider == self.me {
            self.own.add(record);
            return Ok(());
        }
        let ProviderRecord { key, provider, expires, addresses } = bounded(record, now)?;
        let provider = self.known.share(provider, addresses, sender.network);
        let expires = Seconds::of(expires.unwrap_or(now + RECORD_LIFETIME));
        let mut providers = self.foreign.remove(&key).map(Row::into_vec).unwrap_or_default();
        let admitted = admit(&mut providers, Provider { provider, expires }, now, sender.is_preferred);
        self.foreign.put(key.clone(), providers.into());
        while self.known.bytes() > MAX_KNOWN_BYTES && self.foreign.drop_farthest() {}
        match admitted && self.foreign.get(&key).is_some() {
            true => Ok(()),
            false => Err(Error::MaxProvidedKeys),
        }
    }

    pub fn remove(&mut self, key: &RecordKey, provider: &PeerId) {
        if *provider == self.me {
            self.own.remove(key);
        } else if let Some(mut providers) = self.foreign.remove(key).map(Row::into_vec) {
            providers.retain(|known| !known.provider.is(provider));
            if !providers.is_empty() {
                self.foreign.put(key.clone(), providers.into());
            }
        }
    }

    pub fn get(&self, key: &RecordKey, now: Instant) -> Vec<ProviderRecord> {
        self.own.get(key).into_iter().chain(self.foreign(key, now)).collect()
    }

    /// Returns the records of other peers, which are also those of the file: own ones are announced again.
    pub fn foreign(&self, key: &RecordKey, now: Instant) -> impl Iterator<Item = ProviderRecord> {
        let records = self.foreign.get(key).map(Row::as_slice).unwrap_or_default();
        records.iter().filter(move |known| !known.is_expired(now)).filter_map(|known| {
            Some(ProviderRecord {
                key: key.clone(),
                provider: known.provider.peer()?,
                expires: Some(known.expires.instant()),
                addresses: known.provider.addresses(),
            })
        })
    }

    /// See [`Nearest::sweep`].
    pub fn sweep(&mut self, from: Option<KBucketDistance>, now: Instant) -> Option<KBucketDistance> {
        self.foreign.sweep(from, now)
    }

    /// Returns the keys whose records changed.
    pub fn changes(&mut self) -> &mut RankedChanges {
        self.foreign.changes()
    }

    /// Returns the provider records of this node.
    pub fn own(&self) -> impl Iterator<Item = ProviderRecord> {
        self.own.iter()
    }
}

/// Bounds a received record.
fn bounded(mut record: ProviderRecord, now: Instant) -> Result<ProviderRecord> {
    if record.key.as_ref().len() > MAX_KEY_BYTES || record.is_expired(now) {
        return Err(Error::ValueTooLarge);
    }
    let latest = now + RECORD_LIFETIME;
    record.expires = Some(record.expires.map_or(latest, |expires| expires.min(latest)));
    let mut bytes = 0;
    record.addresses.retain(|address| {
        bytes += address.len();
        bytes <= MAX_ADDRESS_BYTES
    });
    record.addresses.truncate(MAX_ADDRESSES_PER_PROVIDER);
    Ok(record)
}

/// Adds a record to those of its key. If the key has its maximum of providers, a new one replaces
///
/// - one that missed its republication,
/// - the oldest of all, if the new one is preferred, or
/// - the oldest of the network that has the most, if the network of the new one still has fewer: sybils come from few
///   networks.
///
/// Otherwise it is refused, or sybils would evict the present providers.
fn admit(
    providers: &mut Vec<Provider>,
    new_provider: Provider,
    now: Instant,
    is_preferred: impl Fn(&PeerId) -> bool,
) -> bool {
    providers.retain(|known| !known.is_expired(now));
    let network = new_provider.provider.network();
    if let Some(known) = providers.iter_mut().find(|known| known.provider.is_same(&new_provider.provider)) {
        *known = new_provider;
        return true;
    }
    if providers.len() < MAX_PROVIDERS_PER_KEY {
        providers.push(new_provider);
        return true;
    }
    // Every node republishes within a day: Kubo after 22 hours, others after 12.
    let missed = now + RECORD_LIFETIME / 2;
    let crowded = crowded(providers, network);
    let is_preferred = |known: &Provider| known.provider.peer().is_some_and(|peer| is_preferred(&peer));
    let is_new_preferred = is_preferred(&new_provider);
    let is_replaceable = |known: &Provider| {
        known.expires.instant() < missed || is_new_preferred || crowded.contains(&known.provider.network())
    };
    let others = providers.iter_mut().filter(|known| !is_preferred(known));
    match others.filter(|known| is_replaceable(known)).min_by_key(|known| known.expires) {
        Some(oldest) => {
            *oldest = new_provider;
            true
        }
        None => false,
    }
}

/// Returns the networks that have the most providers, if `network` with one more still has fewer.
fn crowded(providers: &[Provider], network: Option<IpAddr>) -> HashSet<Option<IpAddr>> {
    let mut counts = HashMap::<_, usize>::new();
    for known in providers {
        *counts.entry(known.provider.network()).or_default() += 1;
    }
    let most = counts.values().copied().max().unwrap_or_default();
    let own = counts.get(&network).copied().unwrap_or_default();
    counts
        .into_iter()
        .filter(|(_, count)| *count == most && own + 1 < most)
        .map(|(network, _)| network)
        .collect()
}

#[cfg(test)]
mod memory;
#[cfg(test)]
mod tests;
