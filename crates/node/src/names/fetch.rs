//! `/libp2p/fetch/0.0.1`: asks a connected peer for the value of a key, which is quicker than a search where that peer has it.
//! <https://github.com/libp2p/specs/tree/master/fetch>

use std::io;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response};

use crate::{
    bitswap::wire::fields::{self, Value, put_number, put_slice, put_varint},
    routing::ipns,
};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/libp2p/fetch/0.0.1");
/// No key is longer.
const MAX_KEY: usize = 1024;
const MAX_ANSWER: usize = ipns::MAX_BYTES + 64;
const OK: u64 = 0;
const NOT_FOUND: u64 = 1;

pub type Behaviour = request_response::Behaviour<Codec>;
pub type Event = request_response::Event<Key, Answer>;

/// What is asked for.
pub type Key = Vec<u8>;
/// The value, if the peer has it.
pub type Answer = Option<Vec<u8>>;

pub fn behaviour() -> Behaviour {
    Behaviour::new([(PROTOCOL, request_response::ProtocolSupport::Full)], request_response::Config::default())
}

/// One message each way, behind its length.
#[derive(Clone, Default)]
pub struct Codec;

#[async_trait]
impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Key;
    type Response = Answer;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
    ) -> io::Result<Key> {
        let mut key = Key::new();
        fields(read_message(stream, MAX_KEY + 16).await?, |number, value| {
            if let (1, Value::Slice(bytes)) = (number, value) {
                key = bytes.into();
            }
        })?;
        Ok(key)
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
    ) -> io::Result<Answer> {
        let (mut status, mut found) = (OK, Vec::new());
        fields(read_message(stream, MAX_ANSWER).await?, |number, value| match (number, value) {
            (1, Value::Number(number)) => status = number,
            (2, Value::Slice(bytes)) => found = bytes.into(),
            _ => {}
        })?;
        match status {
            OK => Ok(Some(found)),
            NOT_FOUND => Ok(None),
            _ => Err(invalid("the peer could not look it up")),
        }
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        key: Key,
    ) -> io::Result<()> {
        let mut message = BytesMut::new();
        put_slice(&mut message, 1, &key);
        write_message(stream, &message).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        answer: Answer,
    ) -> io::Result<()> {
        let mut message = BytesMut::new();
        match answer {
            // A status of 0 is what is meant where none is written.
            Some(value) => put_slice(&mut message, 2, &value),
            None => put_number(&mut message, 1, NOT_FOUND),
        }
        write_message(stream, &message).await
    }
}

async fn read_message(stream: &mut (impl AsyncRead + Unpin), most: usize) -> io::Result<Vec<u8>> {
    let (mut length, mut shift) = (0usize, 0);
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        if length > most {
            return Err(invalid("a message that is too long"));
        }
        if byte[0] & 0x80 == 0 {
            break;
        }
        shift += 7;
        if shift > 21 {
            return Err(invalid("a length that is too long"));
        }
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let mut bytes = BytesMut::with_capacity(message.len() + 4);
    put_varint(&mut bytes, message.len() as u64);
    bytes.extend_from_slice(message);
    stream.write_all(&bytes).await?;
    stream.close().await
}

/// Gives each field to `each`: its number and what it holds.
fn fields(message: Vec<u8>, mut each: impl FnMut(u64, Value)) -> io::Result<()> {
    let mut rest = Bytes::from(message);
    while let Some((number, value)) = fields::next(&mut rest).map_err(|malformed| invalid(malformed.0))? {
        match value {
            Value::Other => return Err(invalid("a field of another type")),
            value => each(number, value),
        }
    }
    Ok(())
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;
    use libp2p::request_response::Codec as _;

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_again() {
        for key in [b"/ipns/\x00\x24".to_vec(), vec![7; 300]] {
            let mut stream = Cursor::new(Vec::new());
            Codec.write_request(&PROTOCOL, &mut stream, key.clone()).await.unwrap();
            stream.set_position(0);
            assert_eq!(Codec.read_request(&PROTOCOL, &mut stream).await.unwrap(), key);
        }
        for answer in [None, Some(Vec::new()), Some(vec![1; ipns::MAX_BYTES])] {
            let mut stream = Cursor::new(Vec::new());
            Codec.write_response(&PROTOCOL, &mut stream, answer.clone()).await.unwrap();
            stream.set_position(0);
            assert_eq!(
                Codec.read_response(&PROTOCOL, &mut stream).await.unwrap().unwrap_or_default(),
                answer.unwrap_or_default()
            );
        }
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused() {
        for bytes in [
            vec![0x80],
            vec![5, 1],
            vec![0xff, 0xff, 0xff, 0x7f],
            vec![3, 0x0a, 9, 1],
            vec![2, 0x0d, 1],
            vec![2, 8, 2],
        ] {
            assert!(Codec.read_response(&PROTOCOL, &mut Cursor::new(&bytes)).await.is_err(), "{bytes:?}");
        }
    }
}
