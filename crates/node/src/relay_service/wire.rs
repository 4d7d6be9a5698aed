//! The messages of circuit relay v2, as a relay reads and writes them.

use std::io;

use bytes::BytesMut;
use futures::{AsyncRead, AsyncWrite};
use libp2p::{Multiaddr, PeerId};

use crate::{
    bitswap::wire::fields::{Value, put_number, put_slice, put_varint},
    messages::{fields, invalid, read_message, write_message},
};

/// The specification's limit for a message.
const MAX_MESSAGE: usize = 4096;
/// Types of hop messages.
const RESERVE: u64 = 0;
const CONNECT: u64 = 1;
const STATUS: u64 = 2;
/// Types of stop messages.
const STOP_CONNECT: u64 = 0;
const STOP_STATUS: u64 = 1;

/// What a peer asks of a relay.
#[derive(Debug, PartialEq, Eq)]
pub enum HopRequest {
    Reserve,
    Connect(PeerId),
    Malformed,
}

/// The answer of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok = 100,
    LimitExceeded = 201,
    PermissionDenied = 202,
    ConnectionFailed = 203,
    NoReservation = 204,
    Malformed = 400,
}

/// What may go through a circuit, in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub seconds: u64,
    pub bytes: u64,
}

pub async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<HopRequest> {
    let (mut kind, mut peer) = (RESERVE, None);
    fields(read_message(stream, MAX_MESSAGE).await?, |number, value| match (number, value) {
        (1, Value::Number(number)) => kind = number,
        (2, Value::Slice(bytes)) => peer = Some(bytes),
        _ => {}
    })?;
    Ok(match (kind, peer.map(|peer| peer_id(peer.to_vec())).transpose()?.flatten()) {
        (RESERVE, _) => HopRequest::Reserve,
        (CONNECT, Some(peer)) => HopRequest::Connect(peer),
        _ => HopRequest::Malformed,
    })
}

/// Reads the peer ID of a peer message.
fn peer_id(message: Vec<u8>) -> io::Result<Option<PeerId>> {
    let mut id = None;
    fields(message, |number, value| {
        if let (1, Value::Slice(bytes)) = (number, value) {
            id = PeerId::from_bytes(&bytes).ok();
        }
    })?;
    Ok(id)
}

/// Answers a request; a circuit's limit belongs to `Ok`.
pub async fn write_status(
    stream: &mut (impl AsyncWrite + Unpin),
    status: Status,
    limit: Option<Limit>,
) -> io::Result<()> {
    let mut message = BytesMut::new();
    put_number(&mut message, 1, STATUS);
    put_limit(&mut message, 4, limit);
    put_number(&mut message, 5, status as u64);
    write_message(stream, &message).await
}

/// Grants a reservation until a time in seconds since 1970.
pub async fn write_reservation(
    stream: &mut (impl AsyncWrite + Unpin),
    expires: u64,
    addresses: &[Multiaddr],
    limit: Option<Limit>,
) -> io::Result<()> {
    let mut reservation = BytesMut::new();
    put_number(&mut reservation, 1, expires);
    addresses.iter().for_each(|address| put_slice(&mut reservation, 2, address.as_ref()));
    let mut message = BytesMut::new();
    put_number(&mut message, 1, STATUS);
    put_slice(&mut message, 3, &reservation);
    put_limit(&mut message, 4, limit);
    put_number(&mut message, 5, Status::Ok as u64);
    write_message(stream, &message).await
}

/// Asks the destination of a circuit to accept it.
pub async fn write_connect(
    stream: &mut (impl AsyncWrite + Unpin),
    source: &PeerId,
    limit: Option<Limit>,
) -> io::Result<()> {
    let mut peer = BytesMut::new();
    put_slice(&mut peer, 1, &source.to_bytes());
    let mut message = BytesMut::new();
    // Written although it is 0: the field is a required one.
    put_varint(&mut message, 1 << 3);
    put_varint(&mut message, STOP_CONNECT);
    put_slice(&mut message, 2, &peer);
    put_limit(&mut message, 3, limit);
    write_message(stream, &message).await
}

/// Returns whether the destination accepts the circuit.
pub async fn read_stop_status(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<bool> {
    let (mut kind, mut status) = (STOP_CONNECT, 0);
    fields(read_message(stream, MAX_MESSAGE).await?, |number, value| match (number, value) {
        (1, Value::Number(number)) => kind = number,
        (4, Value::Number(number)) => status = number,
        _ => {}
    })?;
    match kind {
        STOP_STATUS => Ok(status == Status::Ok as u64),
        _ => Err(invalid("expected a status")),
    }
}

fn put_limit(message: &mut BytesMut, field: u64, limit: Option<Limit>) {
    let Some(Limit { seconds, bytes }) = limit else { return };
    let mut limit = BytesMut::new();
    put_number(&mut limit, 1, seconds);
    put_number(&mut limit, 2, bytes);
    put_slice(message, field, &limit);
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;

    use super::*;

    async fn request(message: &[u8]) -> io::Result<HopRequest> {
        let mut stream = Cursor::new(Vec::new());
        write_message(&mut stream, message).await.unwrap();
        stream.set_position(0);
        read_request(&mut stream).await
    }

    #[tokio::test]
    async fn relay_requests_are_read_and_malformed_ones_refused() {
        assert_eq!(request(&[8, 0]).await.unwrap(), HopRequest::Reserve);
        let id = PeerId::random();
        let (mut peer, mut message) = (BytesMut::new(), BytesMut::new());
        put_slice(&mut peer, 1, &id.to_bytes());
        put_number(&mut message, 1, CONNECT);
        put_slice(&mut message, 2, &peer);
        assert_eq!(request(&message).await.unwrap(), HopRequest::Connect(id));
        for malformed in [&[8, 1][..], &[8, 2], &[8, 9], &[8, 1, 0x12, 2, 0x0a, 0]] {
            assert_eq!(request(malformed).await.unwrap(), HopRequest::Malformed, "{malformed:?}");
        }
        assert!(request(&[8, 1, 0x12, 9]).await.is_err(), "truncated");
        assert!(request(&vec![0; MAX_MESSAGE + 1]).await.is_err(), "too long");
    }

    #[tokio::test]
    async fn only_a_status_of_the_destination_opens_a_circuit() {
        for (message, accepted) in
            [(&[8, 1, 0x20, 100][..], Some(true)), (&[8, 1, 0x20, 0xcb, 1], Some(false)), (&[8, 0], None)]
        {
            let mut stream = Cursor::new(Vec::new());
            write_message(&mut stream, message).await.unwrap();
            stream.set_position(0);
            assert_eq!(read_stop_status(&mut stream).await.ok(), accepted, "{message:?}");
        }
    }

    #[tokio::test]
    async fn a_circuit_without_limits_has_no_limit_field() {
        let mut stream = Cursor::new(Vec::new());
        write_status(&mut stream, Status::Ok, None).await.unwrap();
        assert_eq!(stream.into_inner(), [4, 8, 2, 0x28, 100]);
        let mut stream = Cursor::new(Vec::new());
        write_status(&mut stream, Status::Ok, Some(Limit { seconds: 1, bytes: 2 })).await.unwrap();
        assert_eq!(stream.into_inner(), [10, 8, 2, 0x22, 4, 8, 1, 16, 2, 0x28, 100]);
    }
}
