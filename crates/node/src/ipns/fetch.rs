//! `/libp2p/fetch/0.0.1`: fetching the value of a key from a connected peer, which is faster than a query of the
//! routing system. <https://github.com/libp2p/specs/tree/master/fetch>

use std::io;

use bytes::BytesMut;
use libp2p::{StreamProtocol, request_response};

use crate::{
    bitswap::wire::fields::{Value, put_number, put_slice},
    messages::{Codec, WireMessage, fields, invalid},
    routing::ipns,
};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/libp2p/fetch/0.0.1");
/// The maximum length of a key, in bytes.
const MAX_KEY_LENGTH: usize = 1024;
const MAX_RESPONSE: usize = ipns::MAX_BYTES + 64;
const OK: u64 = 0;
const NOT_FOUND: u64 = 1;

pub type Behaviour = request_response::Behaviour<Codec<Key, FetchResponse>>;
pub type Event = request_response::Event<Key, FetchResponse>;

/// The requested key.
pub type Key = Vec<u8>;
/// The value, if the peer has it.
pub type FetchResponse = Option<Vec<u8>>;

pub fn behaviour() -> Behaviour {
    Behaviour::new([(PROTOCOL, request_response::ProtocolSupport::Full)], request_response::Config::default())
}

impl WireMessage for Key {
    const MAX_BYTES: usize = MAX_KEY_LENGTH + 16;

    fn decode(bytes: Vec<u8>) -> io::Result<Self> {
        let mut key = Key::new();
        fields(bytes, |number, value| {
            if let (1, Value::Slice(bytes)) = (number, value) {
                key = bytes.into();
            }
        })?;
        Ok(key)
    }

    fn encode(&self) -> BytesMut {
        let mut message = BytesMut::new();
        put_slice(&mut message, 1, self);
        message
    }
}

impl WireMessage for FetchResponse {
    const MAX_BYTES: usize = MAX_RESPONSE;

    fn decode(bytes: Vec<u8>) -> io::Result<Self> {
        let (mut status, mut found) = (OK, Vec::new());
        fields(bytes, |number, value| match (number, value) {
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

    fn encode(&self) -> BytesMut {
        let mut message = BytesMut::new();
        match self {
            // Status 0 is the default and not written.
            Some(value) => put_slice(&mut message, 2, value),
            None => put_number(&mut message, 1, NOT_FOUND),
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;
    use libp2p::request_response::Codec as _;

    use super::*;

    fn codec() -> Codec<Key, FetchResponse> {
        Codec::default()
    }

    #[tokio::test]
    async fn encoded_fetch_messages_decode_to_the_same_values() {
        for key in [b"/ipns/\x00\x24".to_vec(), vec![7; 300]] {
            let mut stream = Cursor::new(Vec::new());
            codec().write_request(&PROTOCOL, &mut stream, key.clone()).await.unwrap();
            stream.set_position(0);
            assert_eq!(codec().read_request(&PROTOCOL, &mut stream).await.unwrap(), key);
        }
        for response in [None, Some(Vec::new()), Some(vec![1; ipns::MAX_BYTES])] {
            let mut stream = Cursor::new(Vec::new());
            codec().write_response(&PROTOCOL, &mut stream, response.clone()).await.unwrap();
            stream.set_position(0);
            assert_eq!(
                codec().read_response(&PROTOCOL, &mut stream).await.unwrap().unwrap_or_default(),
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
            assert!(codec().read_response(&PROTOCOL, &mut Cursor::new(&bytes)).await.is_err(), "{bytes:?}");
        }
    }
}
