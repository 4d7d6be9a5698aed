//! Inline blocks: a CID with the identity hash function carries the bytes of its block.

use bytes::Bytes;
use cid::{multibase, multihash::Multihash};
use multihash_codetable::{Code, MultihashDigest};

use crate::{Block, Cid, varint};

pub(crate) const IDENTITY: u64 = 0x00;
/// The maximum length of an inline block in bytes, as in Kubo and IPIP-512.
pub const MAX_INLINE_BYTES: usize = 128;
/// The longest digest that a [`Cid`] holds.
const MAX_DIGEST_BYTES: u64 = 64;

/// A CID carries more bytes than are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InlineTooLong(
    /// The number of bytes.
    pub u64,
);

impl std::fmt::Display for InlineTooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "inline block of {} bytes: at most {MAX_INLINE_BYTES} are allowed", self.0)
    }
}

impl std::error::Error for InlineTooLong {}

/// Returns the bytes of the block that the CID carries, if it has the identity hash function.
pub fn inline_bytes(cid: &Cid) -> Option<&[u8]> {
    (cid.hash().code() == IDENTITY).then(|| cid.hash().digest())
}

/// Returns the CID that carries these bytes; none for more than a [`Cid`] has room for, which are 64.
pub fn inline_cid(codec: u64, bytes: &[u8]) -> Option<Cid> {
    Some(Cid::new_v1(codec, Multihash::wrap(IDENTITY, bytes).ok()?))
}

/// Reads a binary CID that carries 65 to 128 bytes, which a [`Cid`] has no room for: a larger [`Cid`] would take memory for
/// every block of every DAG. Returns the same block under the CID with its sha2-256, or none for any other CID.
///
/// # Errors
/// Fails if the CID carries more bytes than are allowed.
pub fn long_inline(mut cid: &[u8]) -> Result<Option<Block>, InlineTooLong> {
    let Some((codec, length)) = prefix(&mut cid).filter(|(_, length)| *length > MAX_DIGEST_BYTES) else {
        return Ok(None);
    };
    if length > MAX_INLINE_BYTES as u64 {
        return Err(InlineTooLong(length));
    }
    let block =
        || Block { cid: Cid::new_v1(codec, Code::Sha2_256.digest(cid)), data: Bytes::copy_from_slice(cid) };
    Ok((cid.len() as u64 == length).then(block))
}

/// Reads a CID as text like [`long_inline`].
///
/// # Errors
/// Fails if the CID carries more bytes than are allowed.
pub fn long_inline_text(cid: &str) -> Result<Option<Block>, InlineTooLong> {
    match multibase::decode(cid) {
        Ok((_, bytes)) => long_inline(&bytes),
        Err(_) => Ok(None),
    }
}

/// Returns the CID, in base32, that carries the bytes of a block.
pub fn inline_text(block: &Block) -> String {
    let mut cid = vec![1];
    for number in [block.cid.codec(), IDENTITY, block.data.len() as u64] {
        varint::put(&mut cid, number);
    }
    cid.extend_from_slice(&block.data);
    multibase::encode(multibase::Base::Base32Lower, cid)
}

/// Takes version, codec, hash function and length of a CIDv1 with the identity hash function.
fn prefix(cid: &mut &[u8]) -> Option<(u64, u64)> {
    let mut number = || varint::get(cid).ok();
    if number()? != 1 {
        return None;
    }
    let codec = number()?;
    if number()? != IDENTITY {
        return None;
    }
    Some((codec, number()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the binary CID that carries so many bytes.
    fn inline(codec: &[u8], length: usize) -> Vec<u8> {
        let mut cid = [&[1], codec, &[0]].concat();
        varint::put(&mut cid, length as u64);
        cid.resize(cid.len() + length, 7);
        cid
    }

    #[test]
    fn an_inline_block_of_128_bytes_is_read_from_its_cid_and_a_longer_one_is_refused() {
        for codec in [&[0x55][..], &[0x70], &[0xb2, 1]] {
            for length in [0, 1, 64] {
                let cid = Cid::try_from(inline(codec, length)).unwrap();
                assert_eq!(inline_bytes(&cid), Some(&vec![7; length][..]));
                assert_eq!(long_inline(&inline(codec, length)), Ok(None));
            }
            for length in [65, 100, 127, 128] {
                assert!(Cid::try_from(inline(codec, length)).is_err());
                let block = long_inline(&inline(codec, length)).unwrap().unwrap();
                assert!(crate::is_block(&block.cid, &[7; 128][..length]) && block.data.len() == length);
                let text = inline_text(&block);
                assert_eq!(multibase::decode(&text).unwrap().1, inline(codec, length));
                assert_eq!(long_inline_text(&text), Ok(Some(block)));
                let text = multibase::encode(multibase::Base::Base58Btc, inline(codec, length));
                assert!(long_inline_text(&text).unwrap().is_some());
            }
            for length in [129, 1000] {
                let refused = long_inline(&inline(codec, length)).unwrap_err();
                assert_eq!(refused, InlineTooLong(length as u64));
                assert!(refused.to_string().contains("at most 128"));
            }
        }
    }

    #[test]
    fn a_cid_with_another_hash_function_carries_no_block() {
        let cid = Cid::new_v1(0x55, Code::Sha2_256.digest(b"hello"));
        assert_eq!(inline_bytes(&cid), None);
        let other = Cid::new_v1(0x55, Multihash::wrap(0x13, &[0; 64]).unwrap());
        let cut = inline(&[0x55], 100);
        for bytes in [&cid.to_bytes()[..], &other.to_bytes(), &cut[..90], b"", &[1], &[0xff; 20]] {
            assert_eq!(long_inline(bytes), Ok(None), "{bytes:?}");
        }
        assert_eq!(long_inline_text("Qmfoo"), Ok(None));
    }
}
