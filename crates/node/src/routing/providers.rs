mod sources;

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::Instant,
};

use libp2p::{
    PeerId,
    kad::{
        KBucketDistance, ProviderRecord, RecordKey,
        store::{Error, Result},
    },
};

use self::sources::{Source, Sources};
use super::{
    LIFETIME,
    nearest::{Changes, Left, Nearest, Room, Row},
};

const ROOM: Room = Room { keys: 1 << 15, bytes: 12 << 20 };
/// For the providers themselves, whose records share their addresses.
const SOURCES_BYTES: usize = 4 << 20;
const PROVIDERS_OF_A_KEY: usize = 20;
/// boxo takes no longer one either; a multihash is at most 68 bytes.
const KEY_BYTES: usize = 80;
const ADDRESSES_OF_A_PROVIDER: usize = 16;
const ADDRESS_BYTES: usize = 1024;
/// What a key takes besides its providers, with some for the allocator.
const ROW_BYTES: usize = 200;

/// A record of another peer.
struct Provider {
    source: Arc<Source>,
    expires: Instant,
}

impl Row for Vec<Provider> {
    fn weight(&self) -> usize {
        ROW_BYTES + self.len() * size_of::<Provider>()
    }

    fn expire(&mut self, now: Instant) -> Left {
        let before = self.len();
        self.retain(|known| known.expires > now);
        match self.len() {
            0 => Left::Nothing,
            left if left == before => Left::All,
            _ => Left::Part,
        }
    }
}

/// What counts for the admission of a record, beside the record itself.
pub struct Sender<P> {
    /// The network that its connection comes from.
    pub network: Option<IpAddr>,
    /// Whether records of a peer are kept before those of others.
    pub is_preferred: P,
}

/// Who provides what. What this node provides has a place of its own, which nothing of others can take.
pub struct Providers {
    me: PeerId,
    own: HashMap<RecordKey, ProviderRecord>,
    foreign: Nearest<Vec<Provider>>,
    sources: Sources,
}

impl Providers {
    pub fn new(me: PeerId) -> Self {
        Self { me, own: HashMap::new(), foreign: Nearest::new(me, ROOM), sources: Sources::default() }
    }

    pub fn add(&mut self, record: ProviderRecord, now: Instant) -> Result<()> {
        self.add_from(record, now, Sender { network: None, is_preferred: |_: &PeerId| false })
    }

    /// Adds a record that a peer sent.
    pub fn add_from(
        &mut self,
        record: ProviderRecord,
        now: Instant,
        sender: Sender<impl Fn(&PeerId) -> bool>,
    ) -> Result<()> {
        if record.provider == self.me {
            self.own.insert(record.key.clone(), record);
            return Ok(());
        }
        let ProviderRecord { key, provider, expires, addresses } = bounded(record, now)?;
        let source = self.sources.share(provider, addresses, sender.network);
        let newcomer = Provider { source, expires: expires.unwrap_or(now + LIFETIME) };
        let mut providers = self.foreign.remove(&key).unwrap_or_default();
        let admitted = admit(&mut providers, newcomer, now, sender.is_preferred);
        self.foreign.put(key.clone(), providers);
        while self.sources.bytes() > SOURCES_BYTES && self.foreign.drop_farthest() {}
        match admitted && self.foreign.get(&key).is_some() {
            true => Ok(()),
            false => Err(Error::MaxProvidedKeys),
        }
    }

    pub fn remove(&mut self, key: &RecordKey, provider: &PeerId) {
        if *provider == self.me {
            self.own.remove(key);
        } else if let Some(mut providers) = self.foreign.remove(key) {
            providers.retain(|known| known.source.peer != *provider);
            if !providers.is_empty() {
                self.foreign.put(key.clone(), providers);
            }
        }
    }

    pub fn get(&self, key: &RecordKey, now: Instant) -> Vec<ProviderRecord> {
        self.own.get(key).cloned().into_iter().chain(self.foreign(key, now)).collect()
    }

    /// What others said, which is all that a file keeps: what is this node's own it announces anew.
    pub fn foreign(&self, key: &RecordKey, now: Instant) -> impl Iterator<Item = ProviderRecord> {
        let records = self.foreign.get(key).into_iter().flatten().filter(move |known| known.expires > now);
        records.map(|Provider { source, expires }| ProviderRecord {
            key: key.clone(),
            provider: source.peer,
            expires: Some(*expires),
            addresses: source.addresses.clone(),
        })
    }

    /// See [`Nearest::sweep`].
    pub fn sweep(&mut self, from: Option<KBucketDistance>, now: Instant) -> Option<KBucketDistance> {
        self.foreign.sweep(from, now)
    }

    /// The keys that others said something new of.
    pub fn changes(&mut self) -> &mut Changes {
        self.foreign.changes()
    }

    /// What this node provides itself.
    pub fn own(&self) -> impl Iterator<Item = &ProviderRecord> {
        self.own.values()
    }
}

/// Cuts what a peer said down to what is kept of it.
fn bounded(mut record: ProviderRecord, now: Instant) -> Result<ProviderRecord> {
    if record.key.as_ref().len() > KEY_BYTES || record.is_expired(now) {
        return Err(Error::ValueTooLarge);
    }
    let latest = now + LIFETIME;
    record.expires = Some(record.expires.map_or(latest, |expires| expires.min(latest)));
    let mut bytes = 0;
    record.addresses.retain(|address| {
        bytes += address.len();
        bytes <= ADDRESS_BYTES
    });
    record.addresses.truncate(ADDRESSES_OF_A_PROVIDER);
    Ok(record)
}

/// Adds a record to those of its key. Where the key has all the providers it may have, a newcomer takes the place of
///
/// - one that missed its repetition,
/// - the oldest of all, if the newcomer is preferred, or
/// - the oldest of the network that has the most, if the newcomer's has fewer even with it: peers made up for the purpose
///   come from few networks.
///
/// Otherwise it is refused: else such peers would push out those that are there.
fn admit(
    providers: &mut Vec<Provider>,
    newcomer: Provider,
    now: Instant,
    is_preferred: impl Fn(&PeerId) -> bool,
) -> bool {
    providers.retain(|known| known.expires > now);
    let (peer, network) = (newcomer.source.peer, newcomer.source.network);
    if let Some(known) = providers.iter_mut().find(|known| known.source.peer == peer) {
        *known = newcomer;
        return true;
    }
    if providers.len() < PROVIDERS_OF_A_KEY {
        // Most keys have one provider, and a vector that grows by itself begins with room for four.
        providers.reserve_exact(1);
        providers.push(newcomer);
        return true;
    }
    // Everybody repeats within a day: Kubo after 22 hours, others after 12.
    let missed = now + LIFETIME / 2;
    let crowded = crowded(providers, network);
    let gives_way = |known: &Provider| {
        known.expires < missed || is_preferred(&peer) || crowded.contains(&known.source.network)
    };
    let others = providers.iter_mut().filter(|known| !is_preferred(&known.source.peer));
    match others.filter(|known| gives_way(known)).min_by_key(|known| known.expires) {
        Some(oldest) => {
            *oldest = newcomer;
            true
        }
        None => false,
    }
}

/// The networks that have the most providers, if one more of `network` is still fewer.
fn crowded(providers: &[Provider], network: Option<IpAddr>) -> HashSet<Option<IpAddr>> {
    let mut counts = HashMap::<_, usize>::new();
    for known in providers {
        *counts.entry(known.source.network).or_default() += 1;
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
mod tests;
