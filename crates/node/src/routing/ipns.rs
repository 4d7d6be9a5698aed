//! Verified IPNS records, and the choice of the best one.

mod signed;

use std::{
    cmp::Ordering,
    time::{Duration, SystemTime},
};

use libp2p::PeerId;

/// The maximum length of a record in bytes.
pub const MAX_BYTES: usize = 10 << 10;

/// Why bytes are not an IPNS record of a name.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Malformed, not signed with the name's key, or with copies that differ from the signed data.
    #[error(transparent)]
    Invalid(#[from] rust_ipns::Error),
    /// It was valid once.
    #[error("record has expired")]
    Expired,
}

/// A verified record. The greater of two wins: the one with the higher sequence, then the later expiry; the rest only
/// makes all peers choose the same.
///
/// Records with the same signed content are equal: a peer may encode the rest in different ways.
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
        let signed = signed::open(name, &bytes)?;
        let until = until(signed.validity())?;
        let (value, ttl) = (signed.value().to_vec(), Duration::from_nanos(signed.ttl()));
        match until > now {
            true => Ok(Self { sequence: signed.sequence(), until, bytes, value, ttl }),
            false => Err(Error::Expired),
        }
    }

    /// Returns the sequence, which increases with each publication.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns the value: `/ipfs/<cid>...` or `/ipns/<name>...`.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// Returns the value as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.value).into_owned()
    }

    /// Returns how long it may be cached.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Returns when its validity ends.
    pub fn until(&self) -> SystemTime {
        self.until
    }

    fn signed(&self) -> (u64, SystemTime, &[u8], Duration) {
        (self.sequence, self.until, &self.value, self.ttl)
    }

    /// Returns the record as received.
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

/// Parses the end of a validity, in the format of RFC 3339.
fn until(validity: &[u8]) -> Result<SystemTime, rust_ipns::Error> {
    let text = String::from_utf8_lossy(validity);
    Ok(chrono::DateTime::parse_from_rfc3339(&text)?.into())
}

/// Returns the best of several records of one name.
pub fn select<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<&'a Record> {
    records.into_iter().max()
}

#[cfg(test)]
pub mod tests;
