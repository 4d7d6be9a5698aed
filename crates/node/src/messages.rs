//! Length-prefixed protobuf messages on a stream: those of `fetch` and of the relay service.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::bitswap::wire::fields::{self, Value, put_varint};

/// Reads a message of at most `max` bytes, and nothing behind it.
pub(crate) async fn read_message(stream: &mut (impl AsyncRead + Unpin), max: usize) -> io::Result<Vec<u8>> {
    let (mut length, mut shift) = (0usize, 0);
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        if length > max {
            return Err(invalid("message too long"));
        }
        if byte[0] & 0x80 == 0 {
            break;
        }
        shift += 7;
        if shift > 21 {
            return Err(invalid("length prefix too long"));
        }
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes a message.
pub(crate) async fn write_message(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let mut bytes = BytesMut::with_capacity(message.len() + 4);
    put_varint(&mut bytes, message.len() as u64);
    bytes.extend_from_slice(message);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// Calls `each` with the number and value of each field.
pub(crate) fn fields(message: Vec<u8>, mut each: impl FnMut(u64, Value)) -> io::Result<()> {
    let mut rest = Bytes::from(message);
    while let Some((number, value)) = fields::next(&mut rest).map_err(|malformed| invalid(malformed.0))? {
        match value {
            Value::Other => return Err(invalid("unknown wire type")),
            value => each(number, value),
        }
    }
    Ok(())
}

pub(crate) fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
