//! `/libp2p/fetch/0.0.1`: fetching the value of a key from a connected peer, which is faster than a query of the
//! routing system. <https://github.com/libp2p/specs/tree/master/fetch>

use std::io;

use async_trait::async_trait;
use bytes::BytesMut;
use futures::{AsyncRead, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response};

use crate::{
    bitswap::wire::fields::{Value, put_number, put_slice},
    messages::{fields, invalid, read_message, write_message},
    routing::ipns,
};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/libp2p/fetch/0.0.1");
/// The maximum length of a key, in bytes.
const MAX_KEY_LENGTH: usize = 1024;
const MAX_RESPONSE: usize = ipns::MAX_BYTES + 64;
const OK: u64 = 0;
const NOT_FOUND: u64 = 1;

pub type Behaviour = request_response::Behaviour<Codec>;
pub type Event = request_response::Event<Key, FetchResponse>;

/// The requested key.
pub type Key = Vec<u8>;
/// The value, if the peer has it.
pub type FetchResponse = Option<Vec<u8>>;

pub fn behaviour() -> Behaviour {
    Behaviour::new([(PROTOCOL, request_response::ProtocolSupport::Full)], request_response::Config::default())
}

/// One length-prefixed message in each direction.
#[derive(Clone, Default)]
pub struct Codec;

#[async_trait]
impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Key;
    type Response = FetchResponse;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
    ) -> io::Result<Key> {
        let mut key = Key::new();
        fields(read_message(stream, MAX_KEY_LENGTH + 16).await?, |number, value| {
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
    ) -> io::Result<FetchResponse> {
        let (mut status, mut found) = (OK, Vec::new());
        fields(read_message(stream, MAX_RESPONSE).await?, |number, value| match (number, value) {
            (1, Value::Number(number)) => status = number,
            (2, Value::Slice(bytes)) => found = bytes.into(),
            _ => {}
        })?;
        match status {
            OK => Ok(Some(found)),
            NOT_FOUND => Ok(None),
            _ => Err(invalid("peer failed to look up the key")),
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
        write_message(stream, &message).await?;
        stream.close().await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        stream: &mut T,
        response: FetchResponse,
    ) -> io::Result<()> {
        let mut message = BytesMut::new();
        match response {
            // Status 0 is the default and not written.
            Some(value) => put_slice(&mut message, 2, &value),
            None => put_number(&mut message, 1, NOT_FOUND),
        }
        write_message(stream, &message).await?;
        stream.close().await
    }
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;
    use libp2p::request_response::Codec as _;

    use super::*;

    #[tokio::test]
    async fn encoded_fetch_messages_decode_to_the_same_values() {
        for key in [b"/ipns/\x00\x24".to_vec(), vec![7; 300]] {
            let mut stream = Cursor::new(Vec::new());
            Codec.write_request(&PROTOCOL, &mut stream, key.clone()).await.unwrap();
            stream.set_position(0);
            assert_eq!(Codec.read_request(&PROTOCOL, &mut stream).await.unwrap(), key);
        }
        for response in [None, Some(Vec::new()), Some(vec![1; ipns::MAX_BYTES])] {
            let mut stream = Cursor::new(Vec::new());
            Codec.write_response(&PROTOCOL, &mut stream, response.clone()).await.unwrap();
            stream.set_position(0);
            assert_eq!(
                Codec.read_response(&PROTOCOL, &mut stream).await.unwrap().unwrap_or_default(),
                response.unwrap_or_default()
            );
        }
    }

    #[tokio::test]
    async fn malformed_fetch_messages_are_rejected() {
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
