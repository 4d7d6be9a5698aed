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
    let Some(length) = read_length(stream).await? else { return Ok(None) };
    let kib = length.div_ceil(1024) as u32;
    let room = room.clone().acquire_many_owned(kib).await.map_err(io::Error::other)?;
    let mut bytes = Buffer::new(length);
    let mut filled = 0;
    while filled < length {
        heard();
        match timeout(STALL, stream.read(&mut bytes.as_mut()[filled..]))
            .await
            .map_err(|_| Error::Stalled)??
        {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            n => filled += n,
        }
    }
    heard();
    Ok(Some(Incoming { message: Message::decode(bytes.freeze())?, room: Arc::new(room) }))
}

async fn read_length(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<usize>, Error> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        // Between messages a stream may rest as long as it likes.
        let read = match shift {
            0 => stream.read(&mut byte).await?,
            _ => timeout(STALL, stream.read(&mut byte)).await.map_err(|_| Error::Stalled)??,
        };
        match read {
            0 if shift == 0 => return Ok(None),
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => value |= u64::from(byte[0] & 0x7f) << shift,
        }
        if value > MAX_MESSAGE as u64 {
            return Err(Error::TooLong(value));
        }
        if byte[0] & 0x80 == 0 {
            return Ok(Some(value as usize));
        }
    }
    Err(Malformed("a length of more than 64 bits").into())
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
        assert!(matches!(read_all(vec![0xff; 11]).await, Err(Error::TooLong(_))));
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
