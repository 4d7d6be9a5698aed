use std::{collections::HashMap, time::Instant};

use libp2p::{
    PeerId,
    kad::{
        KBucketDistance, ProviderRecord, RecordKey,
        store::{Error, Result},
    },
};

use super::{
    LIFETIME,
    nearest::{Changes, Left, Nearest, Room, Row},
};

const ROOM: Room = Room { keys: 1 << 16, bytes: 64 << 20 };
const PROVIDERS_OF_A_KEY: usize = 20;
/// boxo takes no longer one either; a multihash is at most 68 bytes.
const KEY_BYTES: usize = 80;
const ADDRESSES_OF_A_PROVIDER: usize = 16;
const ADDRESS_BYTES: usize = 1024;
/// What a record takes besides its addresses, with some for the allocator.
const RECORD_BYTES: usize = size_of::<ProviderRecord>() + 64;

impl Row for Vec<ProviderRecord> {
    fn weight(&self) -> usize {
        let addresses = self.iter().flat_map(|record| &record.addresses).map(|address| address.len() + 48);
        self.len() * RECORD_BYTES + addresses.sum::<usize>()
    }

    fn expire(&mut self, now: Instant) -> Left {
        let before = self.len();
        self.retain(|record| !record.is_expired(now));
        match self.len() {
            0 => Left::Nothing,
            left if left == before => Left::All,
            _ => Left::Part,
        }
    }
}

/// Who provides what. What this node provides has a place of its own, which nothing of others can take.
pub struct Providers {
    me: PeerId,
    own: HashMap<RecordKey, ProviderRecord>,
    foreign: Nearest<Vec<ProviderRecord>>,
}

impl Providers {
    pub fn new(me: PeerId) -> Self {
        Self { me, own: HashMap::new(), foreign: Nearest::new(me, ROOM) }
    }

    pub fn add(&mut self, record: ProviderRecord, now: Instant) -> Result<()> {
        self.add_preferred(record, now, |_| false)
    }

    /// The same, where records of some peers are kept before those of others.
    pub fn add_preferred(
        &mut self,
        record: ProviderRecord,
        now: Instant,
        is_preferred: impl Fn(&PeerId) -> bool,
    ) -> Result<()> {
        if record.provider == self.me {
            self.own.insert(record.key.clone(), record);
            return Ok(());
        }
        let record = bounded(record, now)?;
        let key = record.key.clone();
        let mut providers = self.foreign.remove(&key).unwrap_or_default();
        let admitted = admit(&mut providers, record, now, is_preferred);
        match self.foreign.put(key, providers) && admitted {
            true => Ok(()),
            false => Err(Error::MaxProvidedKeys),
        }
    }

    pub fn remove(&mut self, key: &RecordKey, provider: &PeerId) {
        if *provider == self.me {
            self.own.remove(key);
        } else if let Some(mut providers) = self.foreign.remove(key) {
            providers.retain(|record| record.provider != *provider);
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
        let records = self.foreign.get(key).into_iter().flatten();
        records.filter(move |record| !record.is_expired(now)).cloned()
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

/// Where a key has all the providers it may have, one that missed its repetition gives way, and no
/// other: else newcomers made up for the purpose would push out those who are there. Those who are there may be made up
/// as well, so they give way to a peer that is preferred.
fn admit(
    providers: &mut Vec<ProviderRecord>,
    record: ProviderRecord,
    now: Instant,
    is_preferred: impl Fn(&PeerId) -> bool,
) -> bool {
    providers.retain(|known| !known.is_expired(now));
    if let Some(known) = providers.iter_mut().find(|known| known.provider == record.provider) {
        *known = record;
        return true;
    }
    if providers.len() < PROVIDERS_OF_A_KEY {
        // Most keys have one provider, and a vector that grows by itself begins with room for four.
        providers.reserve_exact(1);
        providers.push(record);
        return true;
    }
    // Everybody repeats within a day: Kubo after 22 hours, others after 12.
    let missed = Some(now + LIFETIME / 2);
    let gives_way = |known: &ProviderRecord| known.expires < missed || is_preferred(&record.provider);
    let others = providers.iter_mut().filter(|known| !is_preferred(&known.provider));
    match others.min_by_key(|known| known.expires).filter(|stalest| gives_way(stalest)) {
        Some(stalest) => {
            *stalest = record;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests;
