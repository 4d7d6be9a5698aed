//! Length-prefixed protobuf messages on a stream: those of `fetch`, of the members of a swarm and of the relay service.

use std::{io, marker::PhantomData};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response};

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

/// A message of a protocol with one request and one response.
pub trait WireMessage: Sized + Send + Sync + 'static {
    /// The most that is read.
    const MAX_BYTES: usize;

    fn decode(bytes: Vec<u8>) -> io::Result<Self>;

    fn encode(&self) -> BytesMut;
}

pub(crate) async fn read<M: WireMessage>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<M> {
    M::decode(read_message(stream, M::MAX_BYTES).await?)
}

pub(crate) async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &impl WireMessage,
) -> io::Result<()> {
    write_message(stream, &message.encode()).await?;
    stream.close().await
}

/// One length-prefixed message in each direction.
pub struct Codec<Q, A>(PhantomData<fn() -> (Q, A)>);

impl<Q, A> Clone for Codec<Q, A> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<Q, A> Default for Codec<Q, A> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

#[async_trait]
impl<Q: WireMessage, A: WireMessage> request_response::Codec for Codec<Q, A> {
    type Protocol = StreamProtocol;
    type Request = Q;
    type Response = A;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
    ) -> io::Result<Q> {
        read(stream).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
    ) -> io::Result<A> {
        read(stream).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        request: Q,
    ) -> io::Result<()> {
        write(stream, &request).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        response: A,
    ) -> io::Result<()> {
        write(stream, &response).await
    }
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
