//! The node's part of the routing system: provider records and values received from peers.
//!
//! ```text
//!   Behaviour ── RecordStore ──► Store ──► providers, values ──► nearest (bounded, the farthest key is evicted)
//!             └─ offer ─────────►   │         └► ipns, rate (verified before it is stored)
//!   Keeper ──── changes ─────────►  │
//!             └───────────────────► disk (routing.redb)
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
pub(crate) use providers::SenderInfo;
use values::{PutError, Values};

use crate::{address::is_local, locked};

mod clock;
mod compact;
mod disk;
pub(crate) mod ipns;
mod keeper;
mod nearest;
mod providers;
mod rate;
mod values;

pub(crate) use keeper::{FILE, Keeper};
pub(crate) use rate::RateLimiter;

/// The lifetime of a record that is not republished, as everywhere in the network.
const RECORD_LIFETIME: Duration = Duration::from_secs(48 * 60 * 60);
/// The allowance of one peer: a verification takes 0.1 ms, so a peer costs less than 1 % of a core.
const VERIFY_INTERVAL: Duration = Duration::from_millis(40);
/// Records that a peer may send at once: the hourly replication of another node is one burst.
const VERIFY_BURST: u32 = 256;

/// The routing store, in memory. Clones share it: the swarm's task answers from it, and the keeper writes it to disk.
#[derive(Clone)]
pub(crate) struct Store {
    records: Arc<Mutex<Records>>,
    /// Whether the private addresses of providers are kept from whom it answers.
    hides_private: bool,
}

struct Records {
    providers: Providers,
    values: Values,
    limiter: RateLimiter,
}

impl Store {
    fn new(me: PeerId) -> Self {
        let (providers, values) = (Providers::new(me), Values::new(me));
        let limiter = RateLimiter::new(VERIFY_INTERVAL, VERIFY_BURST);
        let records = Arc::new(Mutex::new(Records { providers, values, limiter }));
        Self { records, hides_private: false }
    }

    /// Returns the same store for peers of the public network, who are told public addresses only.
    pub(crate) fn hiding_private_addresses(&self) -> Self {
        Self { records: self.records.clone(), hides_private: true }
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        locked(&self.records)
    }

    /// Stores a value that `source` put, if it is valid and supersedes the stored one.
    pub(crate) fn offer(&self, source: PeerId, record: Record) -> std::result::Result<(), PutError> {
        let (now, mut records) = (Now::read(), self.lock());
        let Records { values, limiter, .. } = &mut *records;
        values.put(record, now, || limiter.allow(source, now.instant))
    }

    /// Stores a provider record that a peer sent.
    pub(crate) fn add_provider_from(
        &self,
        record: ProviderRecord,
        sender: SenderInfo<impl Fn(&PeerId) -> bool>,
    ) -> Result<()> {
        self.lock().providers.add_from(record, Instant::now(), sender)
    }

    /// Reserves space for the value of an own or followed key, whatever peers put.
    pub(crate) fn reserve(&self, key: RecordKey) {
        self.lock().values.reserve(key);
    }

    /// Stores IPNS records whose validity has ended by the clock of this machine, too.
    pub(crate) fn use_expired(&self) {
        self.lock().values.use_expired();
    }

    /// Stores the value of a key like any other from now on.
    pub(crate) fn release(&self, key: RecordKey) {
        self.lock().values.release(key);
    }

    /// Removes expired records.
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

    /// Loads the rows of the file by the rules for records from peers.
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

    /// Returns the keys of providers and of values that changed since the last call.
    fn drain_changes(&self) -> (Vec<RecordKey>, Vec<RecordKey>) {
        let mut records = self.lock();
        (records.providers.changes().drain(), records.values.changes().drain())
    }

    /// Marks keys as changed again after a failed write.
    fn return_changes(&self, (providers, values): (Vec<RecordKey>, Vec<RecordKey>)) {
        let mut records = self.lock();
        providers.into_iter().for_each(|key| records.providers.changes().add(key));
        values.into_iter().for_each(|key| records.values.changes().add(key));
    }

    /// Returns the records under these keys of providers and of values, as stored in the file.
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
            PutError::TooLarge => Error::ValueTooLarge,
            // Kademlia has no better error.
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
        self.lock().providers.add(record, Instant::now())
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        let mut records = self.lock().providers.get(key, Instant::now());
        if self.hides_private {
            // A record of this node has no addresses: they are added to the answer.
            records.retain_mut(|record| {
                let is_own = record.addresses.is_empty();
                record.addresses.retain(|address| !is_local(address));
                is_own || !record.addresses.is_empty()
            });
        }
        records
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        let own = self.lock().providers.own().map(Cow::Owned).collect::<Vec<_>>();
        own.into_iter()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        self.lock().providers.remove(key, provider);
    }
}

#[cfg(test)]
mod tests;
