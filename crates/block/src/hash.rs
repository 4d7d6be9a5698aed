//! The hash functions that blocks are accepted with: those of boxo's `verifcid` that are implemented here.

use multihash_codetable::{Code, MultihashDigest};

use crate::{
    Cid,
    inline::{IDENTITY, MAX_INLINE_BYTES},
};

/// The accepted digest lengths: shorter digests can be forged.
const DIGEST_BYTES: std::ops::RangeInclusive<u64> = 20..=128;

/// Returns whether blocks are accepted with a hash function and digests of `size` bytes.
pub fn is_trusted(code: u64, size: u64) -> bool {
    match code {
        IDENTITY => size <= MAX_INLINE_BYTES as u64,
        // SHA-1 (for Git), SHA-2-256 and -512, SHA-3, SHAKE-256, Keccak, BLAKE3, double SHA-2-256.
        0x11..=0x17 | 0x19..=0x1e | 0x56 => DIGEST_BYTES.contains(&size),
        // BLAKE2b and BLAKE2s, whose codes are numbered by digest length.
        0xb201..=0xb240 => code - 0xb200 == size && DIGEST_BYTES.contains(&size),
        0xb241..=0xb260 => code - 0xb240 == size && DIGEST_BYTES.contains(&size),
        _ => false,
    }
}

/// Returns whether a CID uses an accepted hash function.
pub fn is_trusted_cid(cid: &Cid) -> bool {
    is_trusted(cid.hash().code(), cid.hash().size().into())
}

/// Returns whether these bytes hash to the CID. Always false for a hash function that is not accepted.
pub fn is_block(cid: &Cid, bytes: &[u8]) -> bool {
    let hash = cid.hash();
    match hash.code() {
        _ if !is_trusted_cid(cid) => false,
        IDENTITY => hash.digest() == bytes,
        code => Code::try_from(code).is_ok_and(|code| code.digest(bytes) == *hash),
    }
}

#[cfg(test)]
mod tests {
    use cid::multihash::Multihash;

    use super::*;

    #[test]
    fn trusted_hash_functions_match_boxo_and_short_digests_are_rejected() {
        for (code, size) in [
            (0x00, 0),
            (0x00, 128),
            (0x11, 20),
            (0x12, 32),
            (0x13, 64),
            (0x14, 64),
            (0x1b, 32),
            (0x1e, 32),
            (0x56, 32),
            (0xb220, 32),
            (0xb240, 64),
            (0xb260, 32),
        ] {
            assert!(is_trusted(code, size), "0x{code:x}, {size}");
        }
        for (code, size) in [
            (0x00, 129),
            (0x12, 19),
            (0x1e, 16),
            (0x1e, 129),
            (0xd5, 16),
            (0x1052, 16),
            (0x1053, 20),
            (0x1054, 32),
            (0xb210, 16),
            (0xb250, 16),
            (0x7777, 32),
        ] {
            assert!(!is_trusted(code, size), "0x{code:x}, {size}");
        }
    }

    #[test]
    fn blocks_with_an_unknown_or_weak_hash_function_are_rejected() {
        let cid = |code, digest: &[u8]| Cid::new_v1(0x55, Multihash::wrap(code, digest).unwrap());
        let sha256 = Cid::new_v1(0x55, Code::Sha2_256.digest(b"hello"));
        assert!(is_block(&sha256, b"hello") && !is_block(&sha256, b"other"));
        assert!(is_block(&cid(IDENTITY, b"hello"), b"hello") && !is_block(&cid(IDENTITY, b"hello"), b""));
        assert!(!is_block(&cid(0x7777, &[0; 32]), b"hello"), "an unknown one");
        assert!(!is_block(&cid(0x1052, &[0; 20]), b"hello"), "RIPEMD-128");
    }
}
