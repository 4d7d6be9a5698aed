//! Length-prefixed messages on a stream.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::{
    budget::{self, MemoryLease, READ_STEP, Reservation, Share},
    buffer_pool::Buffer,
    wire::{MAX_MESSAGE, Malformed, Message},
};

/// A message without progress for this long is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The least rate in bytes per second of a message that takes longer than [`STALL_TIMEOUT`]: one of 1 MiB may be one of
/// nine that share 80 KiB/s.
const MIN_RATE: usize = 8 << 10;

/// Why a stream is closed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("message too long: {0} bytes, limit {MAX_MESSAGE}")]
    TooLong(u64),
    #[error("message stalled for {} s", STALL_TIMEOUT.as_secs())]
    Stalled,
    #[error("message slower than {MIN_RATE} bytes per second")]
    Slow,
    #[error(transparent)]
    NoMemory(#[from] budget::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A received message, with its share of its connection's memory.
pub struct Incoming {
    pub message: Message,
    pub memory: Arc<MemoryLease>,
}

/// Reads the next message, or `None` at the end. Calls `on_activity` whenever bytes arrive.
pub async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    share: &Arc<Share>,
    on_activity: impl Fn(),
) -> Result<Option<Incoming>, Error> {
    match read_length(stream).await? {
        Some(length) => read_message(stream, length, share, on_activity).await.map(Some),
        None => Ok(None),
    }
}

/// Reads a message of `length` bytes.
pub async fn read_message(
    stream: &mut (impl AsyncRead + Unpin),
    length: usize,
    share: &Arc<Share>,
    on_activity: impl Fn(),
) -> Result<Incoming, Error> {
    if length == 0 {
        return Ok(Incoming { message: Message::default(), memory: Arc::default() });
    }
    let mut memory = share.reserve(length).await?;
    let mut bytes = Buffer::reusable(length);
    read_bytes(stream, &mut bytes, length, &mut memory, &on_activity).await?;
    let message = Message::decode(Buffer::of(bytes, length).freeze())?;
    Ok(Incoming { message, memory: memory.finish() })
}

/// Reads `length` bytes to the front of `bytes`, which grows as they arrive.
pub async fn read_bytes(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
    length: usize,
    memory: &mut Reservation,
    on_activity: &impl Fn(),
) -> Result<(), Error> {
    read_within(max_duration(length), stream, bytes, length, memory, on_activity).await
}

async fn read_within(
    limit: Duration,
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
    length: usize,
    memory: &mut Reservation,
    on_activity: &impl Fn(),
) -> Result<(), Error> {
    let evicted = memory.evicted();
    let reading = async {
        let mut filled = 0;
        while filled < length {
            let next = (2 * filled).max(READ_STEP).min(length);
            memory.grow(next - filled).await?;
            if bytes.len() < next {
                bytes.resize(next, 0);
            }
            fill(stream, &mut bytes[filled..next], on_activity).await?;
            filled = next;
        }
        Ok(())
    };
    let read = timeout(limit, evicted.run_until_cancelled(reading)).await;
    read.map_err(|_| Error::Slow)?.unwrap_or(Err(budget::Error::Evicted.into()))
}

/// Returns how long a message of this length may take.
pub fn max_duration(length: usize) -> Duration {
    STALL_TIMEOUT + Duration::from_secs((length / MIN_RATE) as u64)
}

/// Reads until `bytes` is full.
pub async fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    mut bytes: &mut [u8],
    on_activity: &impl Fn(),
) -> Result<(), Error> {
    while !bytes.is_empty() {
        on_activity();
        match timeout(STALL_TIMEOUT, stream.read(bytes)).await.map_err(|_| Error::Stalled)?? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            n => bytes = &mut bytes[n..],
        }
    }
    on_activity();
    Ok(())
}

/// Reads the length of the next message, or `None` at the end. A stream may be idle before a message for any time.
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

/// Reads a varint inside a message.
pub async fn read_varint(stream: &mut (impl AsyncRead + Unpin)) -> Result<u64, Error> {
    let first = read_byte(stream).await?;
    read_rest(stream, first).await
}

/// Reads the bytes of a varint after the first one.
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
        _ => Err(Malformed("varint longer than 64 bits").into()),
    }
}

async fn read_byte(stream: &mut (impl AsyncRead + Unpin)) -> Result<u8, Error> {
    let mut byte = [0];
    match timeout(STALL_TIMEOUT, stream.read(&mut byte)).await.map_err(|_| Error::Stalled)?? {
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        _ => Ok(byte[0]),
    }
}

/// Writes the pieces of a message.
pub async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    pieces: &[Bytes],
    on_activity: impl Fn(),
) -> Result<(), Error> {
    for piece in pieces {
        let mut rest = &piece[..];
        while !rest.is_empty() {
            match timeout(STALL_TIMEOUT, stream.write(rest)).await.map_err(|_| Error::Stalled)?? {
                0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                n => rest = &rest[n..],
            }
            on_activity();
        }
    }
    timeout(STALL_TIMEOUT, stream.flush()).await.map_err(|_| Error::Stalled)??;
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;
    use libp2p::PeerId;

    use super::*;
    use crate::{
        budget::{BlockMemory, Budget},
        wire::{Payload, Prefix, Version},
    };

    /// Returns the share of a peer with open requests.
    fn share() -> Arc<Share> {
        let share = Budget::new(BlockMemory::default()).0.share(PeerId::random());
        share.requested();
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
    async fn several_messages_are_read_from_one_stream() {
        let mut out = Cursor::new(Vec::new());
        for pending in [1, 300, 70_000] {
            let message = Message { pending, ..Message::default() };
            write(&mut out, &message.encode(Version::V1_2), || ()).await.unwrap();
        }
        assert_eq!(read_all(out.into_inner()).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_malformed_message_closes_the_stream_with_an_error() {
        assert_eq!(read_all(vec![]).await.unwrap(), 0);
        assert!(matches!(read_all(vec![5, 1]).await, Err(Error::Io(_))), "half a message");
        assert!(matches!(read_all(vec![0x80]).await, Err(Error::Io(_))), "half a length");
        assert!(matches!(read_all(vec![1, 0x28]).await, Err(Error::Malformed(_))));
        // 100 MB.
        assert!(matches!(read_all(vec![0x80, 0xc2, 0xd7, 0x2f]).await, Err(Error::TooLong(_))));
        assert!(matches!(read_all(vec![0xff; 11]).await, Err(Error::Malformed(_))));
    }

    #[tokio::test]
    async fn messages_of_a_peer_wait_for_its_memory_share() {
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

    /// Yields a byte every few milliseconds, which counts as progress.
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
    async fn a_message_that_arrives_byte_by_byte_times_out() {
        let mut stream = Dripping(Box::pin(tokio::time::sleep(Duration::ZERO)));
        let mut memory = share().reserve(MAX_MESSAGE).await.unwrap();
        let (limit, mut bytes) = (Duration::from_millis(50), Vec::new());
        let read = read_within(limit, &mut stream, &mut bytes, MAX_MESSAGE, &mut memory, &|| ()).await;
        assert!(matches!(read, Err(Error::Slow)));
        assert!(bytes.capacity() <= READ_STEP, "memory grows with what came");
        assert!(max_duration(MAX_MESSAGE) < Duration::from_secs(600));
    }
}
