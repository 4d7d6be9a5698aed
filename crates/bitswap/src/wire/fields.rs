//! The part of protobuf that Bitswap and fetch need. Slices share the memory of their message.

use bytes::{BufMut, Bytes, BytesMut};
use ocipfs_block::varint;
pub use ocipfs_block::varint::{len as varint_len, put as put_varint};

use super::Malformed;

/// The value of a field.
#[derive(Debug, PartialEq, Eq)]
pub enum Value {
    /// A varint.
    Number(u64),
    /// A length-delimited field.
    Slice(Bytes),
    /// Of a wire type that no known field has.
    Other,
}

/// Reads the next field: its number and value.
pub fn next(bytes: &mut Bytes) -> Result<Option<(u64, Value)>, Malformed> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let tag = varint(bytes)?;
    let value = match tag & 7 {
        0 => Value::Number(varint(bytes)?),
        1 => split(bytes, 8).map(|_| Value::Other)?,
        2 => {
            let length = varint(bytes)?;
            Value::Slice(split(bytes, length)?)
        }
        5 => split(bytes, 4).map(|_| Value::Other)?,
        _ => return Err(Malformed("unknown wire type")),
    };
    Ok(Some((tag >> 3, value)))
}

fn split(bytes: &mut Bytes, length: u64) -> Result<Bytes, Malformed> {
    match usize::try_from(length) {
        Ok(length) if length <= bytes.len() => Ok(bytes.split_to(length)),
        _ => Err(Malformed("truncated field")),
    }
}

/// Reads an unsigned LEB128 number.
pub fn varint(bytes: &mut Bytes) -> Result<u64, Malformed> {
    varint::get(bytes).map_err(|error| match error {
        varint::Error::Truncated => Malformed("truncated varint"),
        varint::Error::TooLong => Malformed("varint longer than 64 bits"),
    })
}

/// Writes a varint field, unless it is 0, the default.
pub fn put_number(out: &mut BytesMut, field: u64, value: u64) {
    if value != 0 {
        put_varint(out, field << 3);
        put_varint(out, value);
    }
}

/// Writes the tag and length of a bytes field.
pub fn put_head(out: &mut BytesMut, field: u64, length: usize) {
    put_varint(out, field << 3 | 2);
    put_varint(out, length as u64);
}

/// Writes a bytes field.
pub fn put_slice(out: &mut BytesMut, field: u64, bytes: &[u8]) {
    put_head(out, field, bytes.len());
    out.put_slice(bytes);
}
