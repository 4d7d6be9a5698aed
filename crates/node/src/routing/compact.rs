//! Short byte strings without an allocation: keys of provider records and peer ids, of which a table has tens of thousands.

use libp2p::{PeerId, kad::RecordKey};

/// A peer id of an Ed25519 key has 38 bytes, the multihash of a block 34.
const INLINE: usize = 38;

/// Bytes, in place where they are few. It takes 40 bytes; a [`RecordKey`] takes 32, and an allocation or two.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CompactBytes {
    Inline { len: u8, bytes: [u8; INLINE] },
    Boxed(Box<[u8]>),
}

impl CompactBytes {
    pub fn new(bytes: &[u8]) -> Self {
        match u8::try_from(bytes.len()) {
            Ok(len) if bytes.len() <= INLINE => {
                let mut inline = [0; INLINE];
                inline[..bytes.len()].copy_from_slice(bytes);
                Self::Inline { len, bytes: inline }
            }
            _ => Self::Boxed(bytes.into()),
        }
    }

    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Boxed(bytes) => bytes,
        }
    }

    pub fn to_key(&self) -> RecordKey {
        RecordKey::new(&self.as_slice())
    }
}

impl From<&RecordKey> for CompactBytes {
    fn from(key: &RecordKey) -> Self {
        Self::new(key.as_ref())
    }
}

impl From<&PeerId> for CompactBytes {
    fn from(peer: &PeerId) -> Self {
        Self::new(&peer.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_any_length_come_back_and_equal_ones_are_equal() {
        for length in [0, 1, INLINE - 1, INLINE, INLINE + 1, 80, 300] {
            let bytes: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let compact = CompactBytes::new(&bytes);
            assert_eq!(compact.as_slice(), bytes);
            assert_eq!(compact, CompactBytes::from(&compact.to_key()));
            assert_eq!(matches!(compact, CompactBytes::Boxed(_)), length > INLINE);
        }
        assert_ne!(CompactBytes::new(&[0]), CompactBytes::new(&[0, 0]));
        assert_eq!(size_of::<CompactBytes>(), 40);
    }
}
