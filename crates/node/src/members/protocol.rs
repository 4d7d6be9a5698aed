//! How members tell each other of admission lists and keys: `/ocipfs/members/1.0.0`, one message in each direction.
//!
//! Each says what it has. The answer has what is newer; so has the request, where something has just changed.

use std::io;

use bytes::BytesMut;
use libp2p::{
    PeerId, StreamProtocol,
    request_response::{self, ProtocolSupport},
};

use super::signed;
use crate::{
    bitswap::wire::fields::{Value, put_number, put_slice},
    messages::{Codec, WireMessage, fields},
};

pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/ocipfs/members/1.0.0");
/// A list and a key.
const MAX_MESSAGE: usize = 2 * signed::MAX_BYTES + 128;
/// Messages that one connection sends and receives at a time.
const MAX_STREAMS: usize = 4;

pub(crate) type Behaviour = request_response::Behaviour<Codec<Message, Message>>;
pub(crate) type Event = request_response::Event<Message, Message>;

/// What a member has: by numbers, 0 for nothing, and perhaps the documents themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) list_sequence: u64,
    /// When that list was signed, in seconds since 1970.
    pub(crate) list_issued: u64,
    /// The admin that signed it; a peer of an earlier version does not say it.
    pub(crate) list_admin: Option<PeerId>,
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

impl Message {
    /// Returns the numbers alone.
    pub(crate) fn sequences(&self) -> Self {
        let Self { list_sequence, list_issued, list_admin, key_sequence, .. } = *self;
        Self { list_sequence, list_issued, list_admin, key_sequence, ..Self::default() }
    }

    /// Returns what orders lists.
    pub(crate) fn list_version(&self) -> (u64, u64) {
        (self.list_sequence, self.list_issued)
    }
}

impl WireMessage for Message {
    const MAX_BYTES: usize = MAX_MESSAGE;

    fn decode(bytes: Vec<u8>) -> io::Result<Self> {
        let mut message = Self::default();
        fields(bytes, |number, value| match (number, value) {
            (1, Value::Number(sequence)) => message.list_sequence = sequence,
            (2, Value::Number(sequence)) => message.key_sequence = sequence,
            (3, Value::Slice(list)) => message.list = list.into(),
            (4, Value::Slice(key)) => message.key = key.into(),
            (5, Value::Number(seconds)) => message.remaining = seconds,
            (6, Value::Number(issued)) => message.list_issued = issued,
            (7, Value::Slice(admin)) => message.list_admin = PeerId::from_bytes(&admin).ok(),
            _ => {}
        })?;
        Ok(message)
    }

    fn encode(&self) -> BytesMut {
        let mut bytes = BytesMut::new();
        put_number(&mut bytes, 1, self.list_sequence);
        put_number(&mut bytes, 2, self.key_sequence);
        if !self.list.is_empty() {
            put_slice(&mut bytes, 3, &self.list);
        }
        if !self.key.is_empty() {
            put_slice(&mut bytes, 4, &self.key);
        }
        put_number(&mut bytes, 5, self.remaining);
        put_number(&mut bytes, 6, self.list_issued);
        if let Some(admin) = &self.list_admin {
            put_slice(&mut bytes, 7, &admin.to_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;

    use super::*;
    use crate::messages::{read, write};

    #[tokio::test]
    async fn a_message_is_read_as_it_was_written() {
        let full = Message {
            list_sequence: 1,
            list_issued: 6,
            list_admin: Some(PeerId::random()),
            key_sequence: 2,
            list: vec![3; 300],
            key: vec![4],
            remaining: 5,
        };
        for message in [Message::default(), full] {
            let mut stream = Cursor::new(Vec::new());
            write(&mut stream, &message).await.unwrap();
            assert_eq!(read::<Message>(&mut Cursor::new(stream.into_inner())).await.unwrap(), message);
        }
    }

    #[tokio::test]
    async fn an_oversized_message_is_refused_before_it_is_read() {
        let mut stream = Cursor::new(Vec::new());
        let message = Message { list: vec![0; MAX_MESSAGE + 1], ..Message::default() };
        write(&mut stream, &message).await.unwrap();
        let error = read::<Message>(&mut Cursor::new(stream.into_inner())).await.unwrap_err();
        assert_eq!(error.to_string(), "message too long");
    }
}
