//! How members tell each other of admission lists and keys: `/ocipfs/members/1.0.0`, one message in each direction.
//!
//! Each says what it has. The answer has what is newer; so has the request, where something has just changed.

use std::io;

use async_trait::async_trait;
use bytes::BytesMut;
use futures::{AsyncRead, AsyncWrite, AsyncWriteExt};
use libp2p::{
    StreamProtocol,
    request_response::{self, ProtocolSupport},
};

use super::signed;
use crate::{
    bitswap::wire::fields::{Value, put_number, put_slice},
    messages::{fields, read_message, write_message},
};

pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/ocipfs/members/1.0.0");
/// A list and a key.
const MAX_MESSAGE: usize = 2 * signed::MAX_BYTES + 64;
/// Messages that one connection sends and receives at a time.
const MAX_STREAMS: usize = 4;

pub(crate) type Behaviour = request_response::Behaviour<Codec>;
pub(crate) type Event = request_response::Event<Message, Message>;

/// What a member has: by numbers, 0 for nothing, and perhaps itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) list_sequence: u64,
    pub(crate) key_sequence: u64,
    /// A signed admission list, or nothing.
    pub(crate) list: Vec<u8>,
    /// A signed rollover, or nothing.
    pub(crate) key: Vec<u8>,
    /// Seconds until the overlap of that rollover ends.
    pub(crate) remaining: u64,
}

pub(crate) fn behaviour() -> Behaviour {
    let config = request_response::Config::default().with_max_concurrent_streams(MAX_STREAMS);
    Behaviour::new([(PROTOCOL, ProtocolSupport::Full)], config)
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Message> {
    let mut message = Message::default();
    fields(read_message(stream, MAX_MESSAGE).await?, |number, value| match (number, value) {
        (1, Value::Number(sequence)) => message.list_sequence = sequence,
        (2, Value::Number(sequence)) => message.key_sequence = sequence,
        (3, Value::Slice(list)) => message.list = list.into(),
        (4, Value::Slice(key)) => message.key = key.into(),
        (5, Value::Number(seconds)) => message.remaining = seconds,
        _ => {}
    })?;
    Ok(message)
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), message: &Message) -> io::Result<()> {
    let mut bytes = BytesMut::new();
    put_number(&mut bytes, 1, message.list_sequence);
    put_number(&mut bytes, 2, message.key_sequence);
    if !message.list.is_empty() {
        put_slice(&mut bytes, 3, &message.list);
    }
    if !message.key.is_empty() {
        put_slice(&mut bytes, 4, &message.key);
    }
    put_number(&mut bytes, 5, message.remaining);
    write_message(stream, &bytes).await?;
    stream.close().await
}

/// One length-prefixed message in each direction.
#[derive(Clone, Default)]
pub(crate) struct Codec;

#[async_trait]
impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Message;
    type Response = Message;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
    ) -> io::Result<Message> {
        read(stream).await
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
    ) -> io::Result<Message> {
        read(stream).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        message: Message,
    ) -> io::Result<()> {
        write(stream, &message).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        message: Message,
    ) -> io::Result<()> {
        write(stream, &message).await
    }
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;

    use super::*;

    #[tokio::test]
    async fn a_message_is_read_as_it_was_written() {
        let full =
            Message { list_sequence: 1, key_sequence: 2, list: vec![3; 300], key: vec![4], remaining: 5 };
        for message in [Message::default(), full] {
            let mut stream = Cursor::new(Vec::new());
            write(&mut stream, &message).await.unwrap();
            assert_eq!(read(&mut Cursor::new(stream.into_inner())).await.unwrap(), message);
        }
    }

    #[tokio::test]
    async fn an_oversized_message_is_refused_before_it_is_read() {
        let mut stream = Cursor::new(Vec::new());
        let message = Message { list: vec![0; MAX_MESSAGE + 1], ..Message::default() };
        write(&mut stream, &message).await.unwrap();
        let error = read(&mut Cursor::new(stream.into_inner())).await.unwrap_err();
        assert_eq!(error.to_string(), "message too long");
    }
}
