//! Own names: signing records, and detecting another node that signs them too.
//!
//! The sequence continues from every record that was ever signed under the key. A fresh node does not know the
//! records signed elsewhere before (by the machine that the key comes from, or by this node after its backup was made). So
//! until peers were queried once, a newer record only raises the sequence; after that it means that another process
//! publishes under the name now.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use libp2p::{PeerId, identity::Keypair};

use super::{IpnsNames, RECORD_LIFETIME, verify_ignoring_expiry};
use crate::{IpnsName, RecordError, command::Verdict, locked, routing::ipns};

/// Previous own records that are remembered, to detect a conflicting one with the same sequence.
const MAX_PREVIOUS_RECORDS: usize = 16;

/// The records of own names.
#[derive(Default)]
pub struct OwnRecords {
    state: Mutex<OwnState>,
    /// Serializes signing and ingesting, whose outcome depends on the previous records.
    signing: Mutex<()>,
}

/// Held while a record is signed or ingested.
type SigningGuard<'a> = MutexGuard<'a, ()>;

#[derive(Default)]
struct OwnState {
    /// The last record that this node signed under each name, as in the record store.
    records: HashMap<PeerId, ipns::Record>,
    /// The records before that, signed by this process.
    previous: HashMap<PeerId, VecDeque<ipns::Record>>,
    /// Names published since the start of this process.
    published: HashSet<PeerId>,
    /// Names for whose newest record peers were queried since the start.
    queried: HashSet<PeerId>,
    /// Names for which a query before a publication is running.
    looking_up: HashSet<PeerId>,
    /// Names that another node publishes too, and its last sequence.
    conflicting_writers: BTreeMap<PeerId, u64>,
    /// Names signed in the background whose subscribers were not notified yet.
    unannounced: HashSet<PeerId>,
}

impl OwnRecords {
    pub fn new(records: impl IntoIterator<Item = (PeerId, ipns::Record)>) -> Self {
        let records = records.into_iter().collect();
        Self { state: Mutex::new(OwnState { records, ..OwnState::default() }), signing: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, OwnState> {
        locked(&self.state)
    }

    fn signing(&self) -> SigningGuard<'_> {
        locked(&self.signing)
    }

    /// Removes and returns the last own record of a name.
    pub fn remove(&self, name: &PeerId) -> Option<ipns::Record> {
        self.lock().records.remove(name)
    }

    fn insert(&self, name: PeerId, record: ipns::Record) {
        let mut state = self.lock();
        if let Some(last) = state.records.insert(name, record) {
            let previous = state.previous.entry(name).or_default();
            previous.push_front(last);
            previous.truncate(MAX_PREVIOUS_RECORDS);
        }
    }

    /// Returns whether this node signed another value with the sequence of `record` before its last one.
    fn contradicts(&self, name: &PeerId, record: &ipns::Record) -> bool {
        let state = self.lock();
        let mut previous = state.previous.get(name).into_iter().flatten();
        previous.any(|own| own.sequence() == record.sequence() && own.value() != record.value())
    }

    /// Returns the names that this node signed.
    pub fn names(&self) -> HashSet<PeerId> {
        self.lock().records.keys().copied().collect()
    }

    /// Returns whether a name that is not in `left` was not queried since the start, or its record has expired.
    pub fn needs_lookup(&self, now: SystemTime, left: &HashSet<PeerId>) -> bool {
        let state = self.lock();
        let mut watched = state.records.iter().filter(|(name, _)| !left.contains(name));
        watched.any(|(name, own)| own.until() <= now || !state.queried.contains(name))
    }

    /// Returns whether peers were queried for a name since the start.
    pub fn is_queried(&self, name: &PeerId) -> bool {
        self.lock().queried.contains(name)
    }

    pub fn mark_queried(&self, name: PeerId) {
        self.lock().queried.insert(name);
    }

    /// Starts a lookup before a publication. Returns false if one is running.
    pub fn begin_lookup(&self, name: PeerId) -> bool {
        self.lock().looking_up.insert(name)
    }

    pub fn end_lookup(&self, name: &PeerId) {
        self.lock().looking_up.remove(name);
    }

    pub fn mark_published(&self, name: PeerId) {
        self.lock().published.insert(name);
    }

    /// Returns whether the subscribers of a name have to be notified, and resets that.
    pub fn clear_unannounced(&self, name: &PeerId) -> bool {
        self.lock().unannounced.remove(name)
    }

    pub fn conflicting_writers(&self) -> Vec<(IpnsName, u64)> {
        self.lock()
            .conflicting_writers
            .iter()
            .map(|(name, sequence)| (IpnsName::from(*name), *sequence))
            .collect()
    }
}

impl IpnsNames {
    /// Returns the last record that this node signed under a name.
    pub fn own(&self, name: &IpnsName) -> Option<ipns::Record> {
        self.0.own.lock().records.get(name.peer()).cloned()
    }

    /// Signs a new value of a name. The sequence increases if the value changes, whatever the clock says, and continues
    /// from records that were signed elsewhere under the same key.
    pub fn sign(
        &self,
        key: &Keypair,
        value: Vec<u8>,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<ipns::Record, RecordError> {
        self.sign_in(&self.0.own.signing(), key, value, ttl, now)
    }

    fn sign_in(
        &self,
        _turn: &SigningGuard,
        key: &Keypair,
        value: Vec<u8>,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<ipns::Record, RecordError> {
        let name = key.public().to_peer_id();
        let foreign = self.foreign(&name)?.map(|foreign| foreign.sequence());
        let previous = verify_ignoring_expiry(name, self.0.record_store.own(&name)?);
        let last = previous.as_ref().map(|previous| previous.sequence());
        let sequence = match previous {
            Some(previous) if previous.value() == value && foreign < last => previous.sequence(),
            _ => next(last.max(foreign)).ok_or(RecordError::LastSequence(IpnsName::from(name)))?,
        };
        let until = chrono::DateTime::<chrono::Utc>::from(now + RECORD_LIFETIME);
        let record = rust_ipns::Record::new(key, &value, until, sequence, ttl);
        let bytes = record.and_then(|record| record.encode()).map_err(|e| RecordError::Sign(e.into()))?;
        self.0.record_store.put_own(&name, &bytes)?;
        let record = ipns::Record::verify(name, bytes, now).map_err(RecordError::Sign)?;
        self.0.own.insert(name, record.clone());
        Ok(record)
    }

    /// Renews the record of a name after half of its lifetime.
    pub fn extend_validity(
        &self,
        key: &Keypair,
        now: SystemTime,
    ) -> Result<Option<ipns::Record>, RecordError> {
        let signing = self.0.own.signing();
        match self.own(&IpnsName::of(key)) {
            Some(own) if own.until() < now + RECORD_LIFETIME / 2 => {
                self.sign_in(&signing, key, own.value().to_vec(), own.ttl(), now).map(Some)
            }
            own => Ok(own),
        }
    }

    /// Signs a record in the background; subscribers and the routing system get it soon.
    fn sign_again(
        &self,
        signing: &SigningGuard,
        key: &Keypair,
        own: &ipns::Record,
        now: SystemTime,
    ) -> Result<ipns::Record, RecordError> {
        let record = self.sign_in(signing, key, own.value().to_vec(), own.ttl(), now)?;
        self.0.own.lock().unannounced.insert(key.public().to_peer_id());
        self.0.signed.notify_one();
        Ok(record)
    }

    /// Ingests a record under a key of this node. One that is as new as the own record and has another value was signed
    /// elsewhere.
    pub fn ingest_own(
        &self,
        key: &Keypair,
        record: &ipns::Record,
        now: SystemTime,
    ) -> Result<Verdict, RecordError> {
        let name = key.public().to_peer_id();
        let signing = self.0.own.signing();
        let own = self.own(&IpnsName::from(name));
        let is_here =
            |own: &ipns::Record| own.sequence() == record.sequence() && own.value() == record.value();
        if own.as_ref().is_some_and(is_here) {
            return Ok(Verdict::Accept);
        }
        let is_older = own.as_ref().is_some_and(|own| own.sequence() > record.sequence());
        if is_older && !self.0.own.contradicts(&name, record) {
            return Ok(Verdict::Ignore);
        }
        let verdict = if is_older { Verdict::Ignore } else { Verdict::Accept };
        // Peers send a record more than once; one that was already taken into account is ignored.
        if self.foreign(&name)?.is_some_and(|known| known >= *record) {
            return Ok(verdict);
        }
        self.0.record_store.put_foreign(&name, record.bytes())?;
        match own {
            Some(_) if self.0.own.is_queried(&name) => {
                self.report_conflicting_writer(name, record.sequence())
            }
            _ if is_older => {}
            own => self.continue_sequence(&signing, key, own, record, now)?,
        }
        Ok(verdict)
    }

    fn report_conflicting_writer(&self, name: PeerId, sequence: u64) {
        if self.0.own.lock().conflicting_writers.insert(name, sequence) != Some(sequence) {
            tracing::warn!(
                name = %IpnsName::from(name),
                sequence,
                "two nodes write this name: another machine uses a copy of its key or of this node directory; the \
                 last publication wins"
            );
        }
    }

    /// Continues the sequence of records that were signed elsewhere before this node queried peers: a value published
    /// meanwhile is signed again.
    fn continue_sequence(
        &self,
        signing: &SigningGuard,
        key: &Keypair,
        own: Option<ipns::Record>,
        record: &ipns::Record,
        now: SystemTime,
    ) -> Result<(), RecordError> {
        let name = key.public().to_peer_id();
        let is_published = self.0.own.lock().published.contains(&name);
        let signed = match own.filter(|_| is_published) {
            Some(own) => Some(self.sign_again(signing, key, &own, now)?.sequence()),
            None => None,
        };
        let sequence = record.sequence();
        tracing::info!(name = %IpnsName::from(name), sequence, signed, "another machine published under this name before");
        Ok(())
    }

    /// Signs the last value of a name again, unless `found`, a valid record, has another value.
    pub fn renew(
        &self,
        key: &Keypair,
        found: Option<ipns::Record>,
        now: SystemTime,
    ) -> Result<bool, RecordError> {
        let peer = key.public().to_peer_id();
        let signing = self.0.own.signing();
        let Some(own) = self.own(&IpnsName::from(peer)) else { return Ok(false) };
        let found = found.max(self.foreign(&peer)?.filter(|foreign| foreign.until() > now));
        if let Some(found) = found.filter(|found| found.value() != own.value()) {
            tracing::warn!(
                name = %IpnsName::from(peer),
                sequence = found.sequence(),
                "IPNS record expired, and another machine publishes under this name now; this node stops publishing it"
            );
            drop(signing);
            self.ingest(peer, found.bytes().to_vec(), now)?;
            return Ok(false);
        }
        self.sign_again(&signing, key, &own, now)?;
        Ok(true)
    }
}

/// Returns the next sequence, or `None` after the highest one, which only the key's owner can have signed.
fn next(last: Option<u64>) -> Option<u64> {
    last.map_or(Some(0), |last| last.checked_add(1))
}

#[cfg(test)]
mod tests;
