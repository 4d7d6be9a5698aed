//! Unsigned LEB128 numbers of at most 64 bits, as protobuf and multiformats write them.

use bytes::{Buf, BufMut};

/// Reasons why bytes are not a varint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The bytes end within the number.
    Truncated,
    /// The number has more than ten bytes.
    TooLong,
}

/// Reads a number. On failure an unknown part of it was read.
///
/// # Errors
/// Fails if the bytes end within the number, or it is longer than 64 bits.
pub fn get(bytes: &mut impl Buf) -> Result<u64, Error> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        if !bytes.has_remaining() {
            return Err(Error::Truncated);
        }
        let byte = bytes.get_u8();
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Error::TooLong)
}

/// Writes a number.
pub fn put(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Returns the number of bytes that [`put`] writes.
pub fn len(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_is_read_as_it_was_written_and_has_at_most_64_bits() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!((get(&mut &out[..]), out.len()), (Ok(value), len(value)));
            assert_eq!(get(&mut &out[..out.len() - 1]), Err(Error::Truncated), "{value}");
        }
        assert_eq!(get(&mut &[0xff; 11][..]), Err(Error::TooLong));
    }
}
