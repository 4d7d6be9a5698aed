use std::{
    collections::HashMap,
    time::{Instant, SystemTime},
};

use libp2p::{
    PeerId,
    identity::PublicKey,
    kad::{KBucketDistance, Record, RecordKey},
};

use super::{
    RECORD_LIFETIME,
    clock::Now,
    ipns,
    nearest::{Capacity, Nearest, RankedChanges, RankedRow, Remaining},
};

const CAPACITY: Capacity = Capacity { keys: 4096, bytes: 4096 * ipns::MAX_BYTES };

/// Why a value was not stored.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// Only values that can be verified are stored.
    #[error("key is neither an IPNS name nor a public key")]
    Namespace,
    /// The key holds no peer id.
    #[error("key holds no peer id")]
    Name,
    /// The value is longer than any record.
    #[error("value is longer than {} bytes", ipns::MAX_BYTES)]
    TooLarge,
    /// The value is not a valid IPNS record of this name.
    #[error(transparent)]
    Ipns(#[from] ipns::Error),
    /// The value is not the public key with this hash.
    #[error("value is not the public key of this peer id")]
    OtherKey,
    /// The record has expired.
    #[error("value has expired")]
    Expired,
    /// A newer record is stored.
    #[error("a newer record is stored already")]
    Older,
    /// The store is full of nearer keys.
    #[error("store is full of nearer keys")]
    Full,
    /// The sender exceeds its rate limit.
    #[error("peer exceeds its rate limit")]
    TooOften,
}

/// A verified value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum VerifiedValue {
    Ipns(ipns::Record),
    PublicKey(Vec<u8>),
}

impl VerifiedValue {
    fn verify(key: &RecordKey, bytes: Vec<u8>, now: SystemTime) -> Result<Self, PutError> {
        let name = |id| PeerId::from_bytes(id).map_err(|_| PutError::Name);
        if bytes.len() > ipns::MAX_BYTES {
            Err(PutError::TooLarge)
        } else if let Some(id) = key.as_ref().strip_prefix(b"/ipns/") {
            Ok(Self::Ipns(ipns::Record::verify(name(id)?, bytes, now)?))
        } else if let Some(id) = key.as_ref().strip_prefix(b"/pk/") {
            public_key(name(id)?, bytes)
        } else {
            Err(PutError::Namespace)
        }
    }

    /// Returns whether it replaces `known`, a value of the same key.
    fn supersedes(&self, known: &Self) -> bool {
        match (self, known) {
            (Self::Ipns(offered), Self::Ipns(known)) => ipns::select([known, offered]) == Some(offered),
            // A public key has one encoding.
            _ => true,
        }
    }

    fn until(&self) -> Option<SystemTime> {
        match self {
            Self::Ipns(record) => Some(record.until()),
            Self::PublicKey(_) => None,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Ipns(record) => record.bytes(),
            Self::PublicKey(bytes) => bytes,
        }
    }
}

fn public_key(id: PeerId, bytes: Vec<u8>) -> Result<VerifiedValue, PutError> {
    let key = PublicKey::try_decode_protobuf(&bytes).map_err(|_| PutError::OtherKey)?;
    // Compared with its canonical encoding, so that no peer can append bytes.
    match key.to_peer_id() == id && key.encode_protobuf() == bytes {
        true => Ok(VerifiedValue::PublicKey(bytes)),
        false => Err(PutError::OtherKey),
    }
}

struct StoredValue {
    value: VerifiedValue,
    publisher: Option<PeerId>,
    expires: Instant,
}

impl RankedRow for StoredValue {
    fn weight(&self) -> usize {
        self.value.bytes().len() + size_of::<Self>()
    }

    fn expire(&mut self, now: Instant) -> Remaining {
        if self.expires <= now { Remaining::Nothing } else { Remaining::All }
    }
}

/// The values that peers put: verified, and the best one of each key.
pub struct Values {
    others: Nearest<StoredValue>,
    /// Values of own and followed keys, which a flood of other keys cannot evict.
    reserved: HashMap<RecordKey, Option<StoredValue>>,
    /// Whether records whose validity has ended are stored too: where clocks may be wrong.
    uses_expired: bool,
}

impl Values {
    pub fn new(me: PeerId) -> Self {
        Self::with_capacity(me, CAPACITY)
    }

    fn with_capacity(me: PeerId, capacity: Capacity) -> Self {
        Self { others: Nearest::new(me, capacity), reserved: HashMap::new(), uses_expired: false }
    }

    /// Stores records whose validity has ended by the clock of this machine, too.
    pub fn use_expired(&mut self) {
        self.uses_expired = true;
    }

    /// Reserves space for the value of `key`, however full the store is and however far the key.
    pub fn reserve(&mut self, key: RecordKey) {
        if !self.reserved.contains_key(&key) {
            let known = self.others.remove(&key);
            self.reserved.insert(key, known);
        }
    }

    /// Stores the value of `key` like any other from now on.
    pub fn release(&mut self, key: RecordKey) {
        if let Some(Some(kept)) = self.reserved.remove(&key) {
            self.others.changes().add(key.clone());
            self.others.put(key, kept);
        }
    }

    /// Stores `record` if it is valid and supersedes the stored one; `allow` is called before a verification.
    pub fn put(&mut self, record: Record, now: Now, allow: impl FnOnce() -> bool) -> Result<(), PutError> {
        let Record { key, value: bytes, publisher, expires } = record;
        let known = self.stored(&key);
        let value = match known.filter(|known| known.value.bytes() == bytes) {
            // Republished, as every holder does each hour: its lifetime is extended.
            Some(known) => known.value.clone(),
            None if allow() => VerifiedValue::verify(&key, bytes, self.valid_at(now))?,
            None => return Err(PutError::TooOften),
        };
        let until = value.until().filter(|_| !self.uses_expired);
        let expires = expiry(expires, until, now);
        if expires <= now.instant {
            return Err(PutError::Expired);
        }
        if known.is_some_and(|known| known.expires > now.instant && !value.supersedes(&known.value)) {
            return Err(PutError::Older);
        }
        let kept = StoredValue { value, publisher, expires };
        if let Some(place) = self.reserved.get_mut(&key) {
            *place = Some(kept);
            self.others.changes().add(key);
            return Ok(());
        }
        match self.others.put(key, kept) {
            true => Ok(()),
            false => Err(PutError::Full),
        }
    }

    fn valid_at(&self, now: Now) -> SystemTime {
        if self.uses_expired { SystemTime::UNIX_EPOCH } else { now.wall }
    }

    fn stored(&self, key: &RecordKey) -> Option<&StoredValue> {
        match self.reserved.get(key) {
            Some(place) => place.as_ref(),
            None => self.others.get(key),
        }
    }

    pub fn get(&self, key: &RecordKey, now: Instant) -> Option<Record> {
        let kept = self.stored(key).filter(|kept| kept.expires > now)?;
        Some(kept.record(key))
    }

    pub fn iter(&self) -> impl Iterator<Item = Record> {
        let reserved = self.reserved.iter().filter_map(|(key, kept)| Some(kept.as_ref()?.record(key)));
        self.others.iter().map(|(key, kept)| kept.record(&key)).chain(reserved)
    }

    pub fn remove(&mut self, key: &RecordKey) {
        match self.reserved.get_mut(key) {
            Some(place) => {
                *place = None;
                self.others.changes().add(key.clone());
            }
            None => drop(self.others.remove(key)),
        }
    }

    /// See [`Nearest::sweep`]. Reserved values are replaced rather than swept; reads check their expiry.
    pub fn sweep(&mut self, from: Option<KBucketDistance>, now: Instant) -> Option<KBucketDistance> {
        self.others.sweep(from, now)
    }

    /// Returns the keys whose values changed.
    pub fn changes(&mut self) -> &mut RankedChanges {
        self.others.changes()
    }
}

impl StoredValue {
    fn record(&self, key: &RecordKey) -> Record {
        let value = self.value.bytes().to_vec();
        Record { key: key.clone(), value, publisher: self.publisher, expires: Some(self.expires) }
    }
}

/// Returns when a value expires: as its sender says, when its validity ends, or after [`RECORD_LIFETIME`].
fn expiry(said: Option<Instant>, until: Option<SystemTime>, now: Now) -> Instant {
    let valid = until.map(|until| now.instant_of(until));
    [said, valid].into_iter().flatten().fold(now.instant + RECORD_LIFETIME, Instant::min)
}

#[cfg(test)]
mod tests;
