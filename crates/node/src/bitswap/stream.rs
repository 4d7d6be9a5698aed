//! Messages on a stream: each behind its length.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::memory::Buffer;
use super::wire::{MAX_MESSAGE, Malformed, Message};

/// A message that stands still in the middle is not waited for any longer.
const STALL: Duration = Duration::from_secs(30);

/// Why a stream is given up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("a message of {0} bytes, more than {MAX_MESSAGE}")]
    TooLong(u64),
    #[error("it stood still for {} s", STALL.as_secs())]
    Stalled,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A message that was read, and its share of what its connection may have in memory.
pub struct Incoming {
    pub message: Message,
    pub room: Arc<OwnedSemaphorePermit>,
}

/// Reads the next message; none at the end. `room` counts KiB, `heard` is told whenever bytes come.
pub async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    room: &Arc<Semaphore>,
    heard: impl Fn(),
) -> Result<Option<Incoming>, Error> {
    match read_length(stream).await? {
        Some(length) => read_message(stream, length, room, heard).await.map(Some),
        None => Ok(None),
    }
}

/// Reads a message of this length.
pub async fn read_message(
    stream: &mut (impl AsyncRead + Unpin),
    length: usize,
    room: &Arc<Semaphore>,
    heard: impl Fn(),
) -> Result<Incoming, Error> {
    let kib = length.div_ceil(1024) as u32;
    let room = room.clone().acquire_many_owned(kib).await.map_err(io::Error::other)?;
    let mut bytes = Buffer::new(length);
    fill(stream, bytes.as_mut(), &heard).await?;
    Ok(Incoming { message: Message::decode(bytes.freeze())?, room: Arc::new(room) })
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

    use super::*;
    use crate::bitswap::wire::Version;

    const KIB: usize = 8 << 10;

    async fn read_all(bytes: Vec<u8>) -> Result<usize, Error> {
        let (mut stream, room) = (Cursor::new(bytes), Arc::new(Semaphore::new(KIB)));
        let mut count = 0;
        while read(&mut stream, &room, || ()).await?.is_some() {
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
    async fn a_connection_has_no_more_in_memory_than_its_room() {
        let mut out = Cursor::new(Vec::new());
        let message = Message { pending: 1, ..Message::default() };
        write(&mut out, &message.encode(Version::V1_2), || ()).await.unwrap();
        out.set_position(0);
        let room = Arc::new(Semaphore::new(1));
        let first = read(&mut out, &room, || ()).await.unwrap().unwrap();
        out.set_position(0);
        let next = read(&mut out, &room, || ());
        futures::pin_mut!(next);
        assert!(futures::poll!(&mut next).is_pending());
        drop(first);
        assert!(next.await.unwrap().is_some());
    }
}
