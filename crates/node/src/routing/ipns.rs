//! IPNS records: verified, and the best of several.

use std::{
    cmp::Ordering,
    time::{Duration, SystemTime},
};

use libp2p::PeerId;

/// More is no IPNS record.
pub const MAX_BYTES: usize = 10 << 10;

/// Why bytes are no IPNS record of a name.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a record, not signed with the name's key, or not telling what was signed.
    #[error(transparent)]
    Invalid(#[from] rust_ipns::Error),
    /// It was valid once.
    #[error("the record has expired")]
    Expired,
}

/// A verified record. The greater of two is the one that counts: the higher sequence, then the later end; the rest only
/// so that all peers choose the same.
///
/// Two of the same signed content are equal: a peer may write the bytes around it in any number of ways.
#[derive(Clone, Debug)]
pub struct Record {
    sequence: u64,
    until: SystemTime,
    bytes: Vec<u8>,
    value: Vec<u8>,
    ttl: Duration,
}

impl Record {
    /// Verifies `bytes` as a record of `name`.
    pub fn verify(name: PeerId, bytes: Vec<u8>, now: SystemTime) -> Result<Self, Error> {
        let record = rust_ipns::Record::decode(&bytes)?;
        record.verify_signature(name)?;
        let until = SystemTime::from(record.validity()?);
        // What was signed, not the copies beside it that version 1 has.
        let signed = record.data()?;
        let (value, ttl) = (signed.value().to_vec(), Duration::from_nanos(signed.ttl()));
        match until > now {
            true => Ok(Self { sequence: signed.sequence(), until, bytes, value, ttl }),
            false => Err(Error::Expired),
        }
    }

    /// Counts up with each publication.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What the name means: `/ipfs/<cid>...` or `/ipns/<name>...`.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// The same as a text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.value).into_owned()
    }

    /// How long it may be used without asking again.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// When its validity ends.
    pub fn until(&self) -> SystemTime {
        self.until
    }

    fn signed(&self) -> (u64, SystemTime, &[u8], Duration) {
        (self.sequence, self.until, &self.value, self.ttl)
    }

    /// The record as it came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Ord for Record {
    fn cmp(&self, other: &Self) -> Ordering {
        self.signed().cmp(&other.signed())
    }
}

impl PartialOrd for Record {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Record {}

/// The record that counts, of those of one name.
pub fn select<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<&'a Record> {
    records.into_iter().max()
}

#[cfg(test)]
pub mod tests;
