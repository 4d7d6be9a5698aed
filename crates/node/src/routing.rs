//! What peers tell this node of the routing system: who provides what, and the values they put.
//!
//! ```text
//! Behaviour ── RecordStore ──► Store ──► providers, values ──► nearest (bounded, the farthest gives way)
//!           └─ offer ─────────►   │         └► ipns, rate (verified before it is kept)
//! Keeper ──── changes ─────────►  │
//!           └───────────────────► disk (routing.redb)
//! ```

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
    vec,
};

use libp2p::{
    PeerId,
    kad::{
        ProviderRecord, Record, RecordKey,
        store::{Error, RecordStore, Result},
    },
};

use clock::Now;
use disk::Rows;
use providers::Providers;
pub(crate) use providers::Sender;
use values::{Refusal, Values};

use crate::locked;

mod clock;
mod disk;
pub(crate) mod ipns;
mod keeper;
mod nearest;
mod providers;
mod rate;
mod values;

pub(crate) use keeper::{FILE, Keeper};
pub(crate) use rate::Rates;

/// What is not said again in this time is forgotten, as everywhere in the network.
const LIFETIME: Duration = Duration::from_secs(48 * 60 * 60);
/// One verification takes a tenth of a millisecond, so a peer costs less than a hundredth of a core.
const VERIFIED_EVERY: Duration = Duration::from_millis(40);
/// What a peer may send at once: another node's hourly replication is one burst.
const VERIFIED_AT_ONCE: u32 = 256;

/// The node's part of the routing system, in memory. Clones are handles on the same store: the swarm's
/// task answers from it, and the keeper writes it down.
#[derive(Clone)]
pub(crate) struct Store(Arc<Mutex<Records>>);

struct Records {
    providers: Providers,
    values: Values,
    rates: Rates,
}

impl Store {
    fn new(me: PeerId) -> Self {
        let (providers, values) = (Providers::new(me), Values::new(me));
        let rates = Rates::new(VERIFIED_EVERY, VERIFIED_AT_ONCE);
        Self(Arc::new(Mutex::new(Records { providers, values, rates })))
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        locked(&self.0)
    }

    /// Keeps a value that `source` put, if it is valid and counts over what is kept.
    pub(crate) fn offer(&self, source: PeerId, record: Record) -> std::result::Result<(), Refusal> {
        let (now, mut records) = (Now::read(), self.lock());
        let Records { values, rates, .. } = &mut *records;
        values.put(record, now, || rates.allow(source, now.instant))
    }

    /// Keeps a provider record that a peer sent.
    pub(crate) fn add_provider_from(
        &self,
        record: ProviderRecord,
        sender: Sender<impl Fn(&PeerId) -> bool>,
    ) -> Result<()> {
        self.lock().providers.add_from(record, Instant::now(), sender)
    }

    /// Keeps the value of a key of this node, own or followed, whatever peers put.
    pub(crate) fn reserve(&self, key: RecordKey) {
        self.lock().values.reserve(key);
    }

    /// Keeps the value of a key like any other.
    pub(crate) fn release(&self, key: RecordKey) {
        self.lock().values.release(key);
    }

    /// Forgets what has expired.
    fn sweep(&self, now: Instant) {
        let mut from = None;
        while let Some(last) = { self.lock().providers.sweep(from, now) } {
            from = Some(last);
        }
        from = None;
        while let Some(last) = { self.lock().values.sweep(from, now) } {
            from = Some(last);
        }
    }

    /// Takes what the file held, by the rules for what peers say.
    fn restore(&self, rows: Rows, now: Now) {
        let mut records = self.lock();
        let Records { providers, values, .. } = &mut *records;
        for (key, held) in rows.providers {
            let refused =
                held.into_iter().filter_map(|record| providers.add(record, now.instant).err()).count();
            providers.changes().restored(key, refused == 0);
        }
        for (key, held) in rows.values {
            let whole = held.is_some_and(|record| values.put(record, now, || true).is_ok());
            values.changes().restored(key, whole);
        }
    }

    /// The keys of providers and of values that the file has to be told of.
    fn take_changes(&self) -> (Vec<RecordKey>, Vec<RecordKey>) {
        let mut records = self.lock();
        (records.providers.changes().take(), records.values.changes().take())
    }

    /// Gives back what was taken and could not be written.
    fn return_changes(&self, (providers, values): (Vec<RecordKey>, Vec<RecordKey>)) {
        let mut records = self.lock();
        providers.into_iter().for_each(|key| records.providers.changes().add(key));
        values.into_iter().for_each(|key| records.values.changes().add(key));
    }

    /// What is kept under these keys of providers and of values, as the file holds it.
    fn rows(&self, providers: &[RecordKey], values: &[RecordKey]) -> Rows {
        let (records, now) = (self.lock(), Instant::now());
        let providers =
            providers.iter().map(|key| (key.clone(), records.providers.foreign(key, now).collect()));
        let values = values.iter().map(|key| (key.clone(), records.values.get(key, now)));
        Rows { providers: providers.collect(), values: values.collect() }
    }
}

impl RecordStore for Store {
    type RecordsIter<'a> = vec::IntoIter<Cow<'a, Record>>;
    type ProvidedIter<'a> = vec::IntoIter<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        self.lock().values.get(key, Instant::now()).map(Cow::Owned)
    }

    fn put(&mut self, record: Record) -> Result<()> {
        self.lock().values.put(record, Now::read(), || true).map_err(|refusal| match refusal {
            Refusal::TooLarge => Error::ValueTooLarge,
            // Kademlia knows no other reason.
            _ => Error::MaxRecords,
        })
    }

    fn remove(&mut self, key: &RecordKey) {
        self.lock().values.remove(key);
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        let records = self.lock().values.iter().map(Cow::Owned).collect::<Vec<_>>();
        records.into_iter()
    }

    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        let sender = Sender { network: None, is_preferred: |_: &PeerId| false };
        self.add_provider_from(record, sender)
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        self.lock().providers.get(key, Instant::now())
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        let own = self.lock().providers.own().cloned().map(Cow::Owned).collect::<Vec<_>>();
        own.into_iter()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        self.lock().providers.remove(key, provider);
    }
}

#[cfg(test)]
mod tests;
