//! Replacing the swarm key. For the first half of the overlap members dial with the old key, and accept both; by then those that
//! are online have the new one. In the second half they dial with the new key, and still accept both. Then only the new one counts.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use libp2p::{
    PeerId,
    identity::{Keypair, SigningError},
};
use libp2p_pnet::Keys;

use super::signed::{self, Refused};
use crate::{
    SwarmKey,
    bitswap::wire::fields::{self, Value, put_number, put_slice},
};

const KIND: &[u8] = b"ocipfs swarm key 1\n";

/// A swarm key and the one that takes its place, as the admin signed them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollover {
    /// Grows with each new key.
    pub sequence: u64,
    /// The key that is replaced.
    pub old: SwarmKey,
    /// The key that takes its place.
    pub new: SwarmKey,
    /// How long both are accepted.
    pub overlap: Duration,
}

impl Rollover {
    /// Returns the time at which members begin to dial with the new key, if the overlap ends at `ends`.
    pub(super) fn switches(&self, ends: u64) -> u64 {
        ends.saturating_sub(self.overlap.as_secs() / 2)
    }

    /// Returns the keys that count at a time.
    pub(super) fn keys(&self, now: u64, ends: u64) -> Keys {
        let (old, new) = (self.old.bytes(), self.new.bytes());
        match now {
            now if now >= ends => Keys { dial: new, accepted: Vec::new() },
            now if now >= self.switches(ends) => Keys { dial: new, accepted: vec![old] },
            _ => Keys { dial: old, accepted: vec![new] },
        }
    }

    /// Fields of protobuf: 1 is the sequence number, 2 the old and 3 the new key, 4 the overlap in seconds.
    fn encode(&self) -> BytesMut {
        let mut bytes = BytesMut::new();
        put_number(&mut bytes, 1, self.sequence);
        put_slice(&mut bytes, 2, &self.old.bytes());
        put_slice(&mut bytes, 3, &self.new.bytes());
        put_number(&mut bytes, 4, self.overlap.as_secs());
        bytes
    }

    fn decode(mut bytes: Bytes) -> Result<Self, Refused> {
        let (mut sequence, mut old, mut new, mut overlap) = (0, None, None, Duration::ZERO);
        while let Some((number, value)) = fields::next(&mut bytes)? {
            match (number, value) {
                (1, Value::Number(number)) => sequence = number,
                (2, Value::Slice(key)) => old = SwarmKey::from_bytes(&key),
                (3, Value::Slice(key)) => new = SwarmKey::from_bytes(&key),
                (4, Value::Number(seconds)) => overlap = Duration::from_secs(seconds),
                _ => {}
            }
        }
        match (sequence, old, new) {
            (1.., Some(old), Some(new)) => Ok(Self { sequence, old, new, overlap }),
            _ => Err(Refused::Malformed("a key or the sequence number is missing")),
        }
    }
}

/// Signs a rollover.
pub(super) fn seal(rollover: &Rollover, admin: &Keypair) -> Result<Vec<u8>, SigningError> {
    signed::seal(admin, KIND, &rollover.encode())
}

/// Reads a rollover that the admin signed.
pub(super) fn open(bytes: &[u8], admin: &PeerId) -> Result<Rollover, Refused> {
    Rollover::decode(Bytes::copy_from_slice(signed::open(bytes, KIND, admin)?))
}

/// Reads a rollover without knowing its admin: from this node's own file, for which it was verified before.
pub(super) fn unverified(bytes: &[u8]) -> Result<Rollover, Refused> {
    let (_, document) = signed::parts(bytes)?;
    Rollover::decode(Bytes::copy_from_slice(document))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollover() -> Rollover {
        let (old, new) = (SwarmKey::generate(), SwarmKey::generate());
        Rollover { sequence: 3, old, new, overlap: Duration::from_secs(100) }
    }

    #[test]
    fn a_rollover_is_read_as_the_admin_signed_it() {
        let (admin, rollover) = (Keypair::generate_ed25519(), rollover());
        let bytes = seal(&rollover, &admin).unwrap();
        assert_eq!(open(&bytes, &admin.public().to_peer_id()).unwrap(), rollover);
        let other = Keypair::generate_ed25519().public().to_peer_id();
        assert!(matches!(open(&bytes, &other), Err(Refused::Signature(_))));
        assert!(!format!("{rollover:?}").contains(&hex::encode(rollover.new.bytes())));
    }

    #[test]
    fn both_keys_are_accepted_until_the_overlap_ends() {
        let rollover = rollover();
        let (old, new) = (rollover.old.bytes(), rollover.new.bytes());
        for (now, dial, accepted) in [
            (900, old, vec![new]),
            (949, old, vec![new]),
            (950, new, vec![old]),
            (999, new, vec![old]),
            (1000, new, vec![]),
        ] {
            assert_eq!(rollover.keys(now, 1000), Keys { dial, accepted }, "{now}");
        }
    }
}
