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
    LIFETIME,
    clock::Now,
    ipns,
    nearest::{Changes, Left, Nearest, Room, Row},
};

const ROOM: Room = Room { keys: 4096, bytes: 4096 * ipns::MAX_BYTES };

/// Why a value is not kept.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Only what can be verified is kept.
    #[error("the key is neither an IPNS name nor a public key's")]
    Namespace,
    /// Its key holds no peer id.
    #[error("the key names no peer")]
    Name,
    /// More bytes than any record has.
    #[error("the value is larger than {} bytes", ipns::MAX_BYTES)]
    TooLarge,
    /// No IPNS record of that name.
    #[error(transparent)]
    Ipns(#[from] ipns::Error),
    /// A public key, if any, of somebody else.
    #[error("the value is not the public key of the peer that the key names")]
    OtherKey,
    /// It came too late.
    #[error("the value has expired")]
    Expired,
    /// A better one is known.
    #[error("a newer record is kept already")]
    Older,
    /// No room.
    #[error("the store is full of nearer keys")]
    Full,
    /// Its sender has to slow down.
    #[error("the peer sends more than is verified for one")]
    TooOften,
}

/// A verified value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Ipns(ipns::Record),
    PublicKey(Vec<u8>),
}

impl Value {
    fn verify(key: &RecordKey, bytes: Vec<u8>, now: SystemTime) -> Result<Self, Refusal> {
        let name = |id| PeerId::from_bytes(id).map_err(|_| Refusal::Name);
        if bytes.len() > ipns::MAX_BYTES {
            Err(Refusal::TooLarge)
        } else if let Some(id) = key.as_ref().strip_prefix(b"/ipns/") {
            Ok(Self::Ipns(ipns::Record::verify(name(id)?, bytes, now)?))
        } else if let Some(id) = key.as_ref().strip_prefix(b"/pk/") {
            public_key(name(id)?, bytes)
        } else {
            Err(Refusal::Namespace)
        }
    }

    /// Whether it is to be kept in place of `known`, which has the same key.
    fn counts_over(&self, known: &Self) -> bool {
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

fn public_key(id: PeerId, bytes: Vec<u8>) -> Result<Value, Refusal> {
    let key = PublicKey::try_decode_protobuf(&bytes).map_err(|_| Refusal::OtherKey)?;
    // Encoded again, so that no peer can append what it likes.
    match key.to_peer_id() == id && key.encode_protobuf() == bytes {
        true => Ok(Value::PublicKey(bytes)),
        false => Err(Refusal::OtherKey),
    }
}

struct Kept {
    value: Value,
    publisher: Option<PeerId>,
    expires: Instant,
}

impl Row for Kept {
    fn weight(&self) -> usize {
        self.value.bytes().len() + size_of::<Self>()
    }

    fn expire(&mut self, now: Instant) -> Left {
        if self.expires <= now { Left::Nothing } else { Left::All }
    }
}

/// The values that peers put: each verified, and the best of each key.
pub struct Values {
    others: Nearest<Kept>,
    /// Those of keys that this node itself writes or follows: no flood of other keys takes their place.
    reserved: HashMap<RecordKey, Option<Kept>>,
}

impl Values {
    pub fn new(me: PeerId) -> Self {
        Self::with_room(me, ROOM)
    }

    fn with_room(me: PeerId, room: Room) -> Self {
        Self { others: Nearest::new(me, room), reserved: HashMap::new() }
    }

    /// Keeps the value of `key` from now on, however full it is and however far the key.
    pub fn reserve(&mut self, key: RecordKey) {
        if !self.reserved.contains_key(&key) {
            let known = self.others.remove(&key);
            self.reserved.insert(key, known);
        }
    }

    /// Keeps the value of `key` like any other from now on.
    pub fn release(&mut self, key: RecordKey) {
        if let Some(Some(kept)) = self.reserved.remove(&key) {
            self.others.changes().add(key.clone());
            self.others.put(key, kept);
        }
    }

    /// Keeps `record` if it is valid and counts over what is kept; `allow` is asked before anything is verified.
    pub fn put(&mut self, record: Record, now: Now, allow: impl FnOnce() -> bool) -> Result<(), Refusal> {
        let Record { key, value: bytes, publisher, expires } = record;
        let known = self.kept(&key);
        let value = match known.filter(|known| known.value.bytes() == bytes) {
            // Told again, as every holder does each hour: it lives on.
            Some(known) => known.value.clone(),
            None if allow() => Value::verify(&key, bytes, now.wall)?,
            None => return Err(Refusal::TooOften),
        };
        let expires = ends(expires, &value, now);
        if expires <= now.instant {
            return Err(Refusal::Expired);
        }
        if known.is_some_and(|known| known.expires > now.instant && !value.counts_over(&known.value)) {
            return Err(Refusal::Older);
        }
        let kept = Kept { value, publisher, expires };
        if let Some(place) = self.reserved.get_mut(&key) {
            *place = Some(kept);
            self.others.changes().add(key);
            return Ok(());
        }
        match self.others.put(key, kept) {
            true => Ok(()),
            false => Err(Refusal::Full),
        }
    }

    fn kept(&self, key: &RecordKey) -> Option<&Kept> {
        match self.reserved.get(key) {
            Some(place) => place.as_ref(),
            None => self.others.get(key),
        }
    }

    pub fn get(&self, key: &RecordKey, now: Instant) -> Option<Record> {
        let kept = self.kept(key).filter(|kept| kept.expires > now)?;
        Some(kept.record(key))
    }

    pub fn iter(&self) -> impl Iterator<Item = Record> {
        let reserved = self.reserved.iter().filter_map(|(key, kept)| Some(kept.as_ref()?.record(key)));
        self.others.iter().map(|(key, kept)| kept.record(key)).chain(reserved)
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

    /// See [`Nearest::sweep`]. What is reserved is replaced rather than swept: reads look at its end.
    pub fn sweep(&mut self, from: Option<KBucketDistance>, now: Instant) -> Option<KBucketDistance> {
        self.others.sweep(from, now)
    }

    /// The keys whose value is another than when this was last asked.
    pub fn changes(&mut self) -> &mut Changes {
        self.others.changes()
    }
}

impl Kept {
    fn record(&self, key: &RecordKey) -> Record {
        let value = self.value.bytes().to_vec();
        Record { key: key.clone(), value, publisher: self.publisher, expires: Some(self.expires) }
    }
}

/// When `value` is to be forgotten: when its sender says so, when it is no longer valid, or when its time is up.
fn ends(said: Option<Instant>, value: &Value, now: Now) -> Instant {
    let valid = value.until().map(|until| now.instant_of(until));
    [said, valid].into_iter().flatten().fold(now.instant + LIFETIME, Instant::min)
}

#[cfg(test)]
mod tests;
