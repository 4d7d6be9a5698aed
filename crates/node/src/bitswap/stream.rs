//! Messages on a stream: each behind its length.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::{
    budget::{Reservation, Room, STEP, Share},
    memory::Buffer,
    wire::{MAX_MESSAGE, Malformed, Message},
};

/// A message that stands still in the middle is not waited for any longer.
const STALL: Duration = Duration::from_secs(30);
/// Bytes that come of a message in a second at least, once it has lasted longer than a [`STALL`]: one of 1 MiB may be one of
/// nine that share 80 KiB/s.
const SLOWEST: usize = 8 << 10;

/// Why a stream is given up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("a message of {0} bytes, more than {MAX_MESSAGE}")]
    TooLong(u64),
    #[error("a message of {0} bytes, of which nothing was requested")]
    Unrequested(usize),
    #[error("it stood still for {} s", STALL.as_secs())]
    Stalled,
    #[error("it came at less than {SLOWEST} bytes a second")]
    Slow,
    #[error("too many messages of one peer wait for memory")]
    TooMany,
    #[error("other peers needed the memory")]
    Evicted,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A message that was read, and its share of what its connection may have in memory.
pub struct Incoming {
    pub message: Message,
    pub room: Arc<Room>,
}

/// Reads the next message; none at the end. `heard` is told whenever bytes come.
pub async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    share: &Arc<Share>,
    heard: impl Fn(),
) -> Result<Option<Incoming>, Error> {
    match read_length(stream).await? {
        Some(length) => read_message(stream, length, share, heard).await.map(Some),
        None => Ok(None),
    }
}

/// Reads a message of this length.
pub async fn read_message(
    stream: &mut (impl AsyncRead + Unpin),
    length: usize,
    share: &Arc<Share>,
    heard: impl Fn(),
) -> Result<Incoming, Error> {
    if length == 0 {
        return Ok(Incoming { message: Message::default(), room: Arc::default() });
    }
    let mut room = share.reserve(length).await?;
    let mut bytes = Buffer::spare(length);
    read_bytes(stream, &mut bytes, length, &mut room, &heard).await?;
    let message = Message::decode(Buffer::of(bytes, length).freeze())?;
    Ok(Incoming { message, room: room.finish() })
}

/// Reads so many bytes to the front of `bytes`, which grows as they come.
pub async fn read_bytes(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
    length: usize,
    room: &mut Reservation,
    heard: &impl Fn(),
) -> Result<(), Error> {
    read_within(longest(length), stream, bytes, length, room, heard).await
}

async fn read_within(
    limit: Duration,
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
    length: usize,
    room: &mut Reservation,
    heard: &impl Fn(),
) -> Result<(), Error> {
    let evicted = room.evicted();
    let reading = async {
        let mut filled = 0;
        while filled < length {
            let next = (2 * filled).max(STEP).min(length);
            room.grow(next - filled).await?;
            if bytes.len() < next {
                bytes.resize(next, 0);
            }
            fill(stream, &mut bytes[filled..next], heard).await?;
            filled = next;
        }
        Ok(())
    };
    let read = timeout(limit, evicted.run_until_cancelled(reading)).await;
    read.map_err(|_| Error::Slow)?.unwrap_or(Err(Error::Evicted))
}

/// How long a message of this length may take.
pub fn longest(length: usize) -> Duration {
    STALL + Duration::from_secs((length / SLOWEST) as u64)
}

/// Reads until `bytes` is full.
pub async fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    mut bytes: &mut [u8],
    heard: &impl Fn(),
) -> Result<(), Error> {
    while !bytes.is_empty() {
        heard();
        match timeout(STALL, stream.read(bytes)).await.map_err(|_| Error::Stalled)?? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            n => bytes = &mut bytes[n..],
        }
    }
    heard();
    Ok(())
}

/// Reads the length of a message, for which a stream may rest as long as it likes; none at the end.
pub async fn read_length(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<usize>, Error> {
    let mut first = [0];
    if stream.read(&mut first).await? == 0 {
        return Ok(None);
    }
    match read_rest(stream, first[0]).await? {
        length if length > MAX_MESSAGE as u64 => Err(Error::TooLong(length)),
        length => Ok(Some(length as usize)),
    }
}

/// Reads a number in the midst of something.
pub async fn read_varint(stream: &mut (impl AsyncRead + Unpin)) -> Result<u64, Error> {
    let first = read_byte(stream).await?;
    read_rest(stream, first).await
}

/// Reads what follows the first byte of a number.
async fn read_rest(stream: &mut (impl AsyncRead + Unpin), first: u8) -> Result<u64, Error> {
    let (mut byte, mut value) = (first, u64::from(first & 0x7f));
    for shift in (7..64).step_by(7) {
        if byte & 0x80 == 0 {
            return Ok(value);
        }
        byte = read_byte(stream).await?;
        value |= u64::from(byte & 0x7f) << shift;
    }
    match byte & 0x80 {
        0 => Ok(value),
        _ => Err(Malformed("a number of more than 64 bits").into()),
    }
}

async fn read_byte(stream: &mut (impl AsyncRead + Unpin)) -> Result<u8, Error> {
    let mut byte = [0];
    match timeout(STALL, stream.read(&mut byte)).await.map_err(|_| Error::Stalled)?? {
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        _ => Ok(byte[0]),
    }
}

/// Writes the pieces of a message.
pub async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    pieces: &[Bytes],
    heard: impl Fn(),
) -> Result<(), Error> {
    for piece in pieces {
        let mut rest = &piece[..];
        while !rest.is_empty() {
            match timeout(STALL, stream.write(rest)).await.map_err(|_| Error::Stalled)?? {
                0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                n => rest = &rest[n..],
            }
            heard();
        }
    }
    timeout(STALL, stream.flush()).await.map_err(|_| Error::Stalled)??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;
    use libp2p::PeerId;

    use super::*;
    use crate::bitswap::{
        budget::{BlockMemory, Budget},
        wire::{Payload, Prefix, Version},
    };

    /// The share of a peer that was asked for blocks.
    fn share() -> Arc<Share> {
        let share = Budget::new(BlockMemory::default()).0.share(PeerId::random());
        share.asked();
        share
    }

    async fn read_all(bytes: Vec<u8>) -> Result<usize, Error> {
        let (mut stream, share) = (Cursor::new(bytes), share());
        let mut count = 0;
        while read(&mut stream, &share, || ()).await?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    #[tokio::test]
    async fn messages_follow_each_other() {
        let mut out = Cursor::new(Vec::new());
        for pending in [1, 300, 70_000] {
            let message = Message { pending, ..Message::default() };
            write(&mut out, &message.encode(Version::V1_2), || ()).await.unwrap();
        }
        assert_eq!(read_all(out.into_inner()).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn what_is_no_message_ends_the_stream_with_its_reason() {
        assert_eq!(read_all(vec![]).await.unwrap(), 0);
        assert!(matches!(read_all(vec![5, 1]).await, Err(Error::Io(_))), "half a message");
        assert!(matches!(read_all(vec![0x80]).await, Err(Error::Io(_))), "half a length");
        assert!(matches!(read_all(vec![1, 0x28]).await, Err(Error::Malformed(_))));
        // 100 MB.
        assert!(matches!(read_all(vec![0x80, 0xc2, 0xd7, 0x2f]).await, Err(Error::TooLong(_))));
        assert!(matches!(read_all(vec![0xff; 11]).await, Err(Error::Malformed(_))));
    }

    #[tokio::test]
    async fn a_peer_has_no_more_in_memory_than_its_share() {
        let payload = Payload { prefix: Prefix::V0, data: vec![0; 3 << 20].into() };
        let message = Message { blocks: vec![payload], ..Message::default() }.encode(Version::V1_2).concat();
        let share = share();
        let read = async || read(&mut Cursor::new(&message), &share, || ()).await.unwrap().unwrap();
        let mut held = vec![read().await, read().await, read().await];
        let next = read();
        futures::pin_mut!(next);
        assert!(futures::poll!(&mut next).is_pending());
        held.pop();
        next.await;
    }

    /// A byte each few milliseconds, which is progress.
    struct Dripping(std::pin::Pin<Box<tokio::time::Sleep>>);

    impl AsyncRead for Dripping {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            bytes: &mut [u8],
        ) -> std::task::Poll<io::Result<usize>> {
            std::task::ready!(self.0.as_mut().poll(cx));
            self.0 = Box::pin(tokio::time::sleep(Duration::from_millis(5)));
            bytes[0] = 0;
            std::task::Poll::Ready(Ok(1))
        }
    }

    #[tokio::test]
    async fn a_message_that_comes_byte_by_byte_is_given_up_after_its_time() {
        let mut stream = Dripping(Box::pin(tokio::time::sleep(Duration::ZERO)));
        let mut room = share().reserve(MAX_MESSAGE).await.unwrap();
        let (limit, mut bytes) = (Duration::from_millis(50), Vec::new());
        let read = read_within(limit, &mut stream, &mut bytes, MAX_MESSAGE, &mut room, &|| ()).await;
        assert!(matches!(read, Err(Error::Slow)));
        assert!(bytes.capacity() <= STEP, "memory grows with what came");
        assert!(longest(MAX_MESSAGE) < Duration::from_secs(600));
    }
}
