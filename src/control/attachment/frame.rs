//! Frames: how the bytes of a command's files are sent to the instance. Each is a kind (one byte), a length (4 bytes,
//! big-endian) and its bytes.

use std::io;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The most that a frame holds.
pub const MAX_BYTES: usize = 256 << 10;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The beginning of an answer, as JSON.
    Answer = b'a' as isize,
    /// The same, with an open file in place of bytes that follow.
    Passed = b'p' as isize,
    /// The next bytes of a file.
    Data = b'd' as isize,
    /// The end of a file: a command that has finished is told from one that died.
    End = b'e' as isize,
    /// The command could not read the file, and says why itself.
    Failed = b'f' as isize,
}

/// A piece of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Its bytes, at most [`MAX_BYTES`].
    pub bytes: Bytes,
}

/// Returns what precedes the bytes of a frame.
pub fn head(kind: Kind, length: usize) -> [u8; 5] {
    let mut head = [kind as u8; 5];
    head[1..].copy_from_slice(&(length as u32).to_be_bytes());
    head
}

/// Writes a frame.
pub async fn write(to: &mut (impl AsyncWrite + Unpin), kind: Kind, bytes: &[u8]) -> io::Result<()> {
    let head = head(kind, bytes.len());
    to.write_all_buf(&mut Buf::chain(&head[..], bytes)).await
}

impl Frame {
    /// Reads the next frame.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut head = [0; 5];
        from.read_exact(&mut head).await.map_err(disconnected)?;
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_BYTES {
            return Err(io::Error::other("a frame of the command is too long"));
        }
        let mut bytes = Vec::with_capacity(length);
        from.take(length as u64).read_to_end(&mut bytes).await?;
        if bytes.len() < length {
            return Err(disconnected(io::ErrorKind::UnexpectedEof.into()));
        }
        let kinds = [Kind::Answer, Kind::Passed, Kind::Data, Kind::End, Kind::Failed];
        let known = kinds.into_iter().find(|known| *known as u8 == kind);
        let kind = known.ok_or_else(|| io::Error::other("the command sent a frame of an unknown kind"))?;
        Ok(Self { kind, bytes: bytes.into() })
    }
}

fn disconnected(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the command disconnected"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_read_as_they_were_written() {
        let most = vec![7; MAX_BYTES];
        let frames = [
            (Kind::Answer, &b"{}"[..]),
            (Kind::Data, &most),
            (Kind::Data, b""),
            (Kind::End, b""),
            (Kind::Failed, b""),
        ];
        let mut wire = Vec::new();
        for (kind, bytes) in frames {
            write(&mut wire, kind, bytes).await.unwrap();
        }
        let mut rest = &wire[..];
        for (kind, bytes) in frames {
            let bytes = Bytes::copy_from_slice(bytes);
            assert_eq!(Frame::read(&mut rest).await.unwrap(), Frame { kind, bytes });
        }
        for cut in [0, 3, 6, 100_000] {
            let error = Frame::read(&mut &wire[7..7 + cut]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{cut}");
        }
    }

    #[tokio::test]
    async fn frames_that_are_too_long_or_unknown_are_rejected() {
        for (head, told) in [([b'd', 0xff, 0, 0, 0], "too long"), ([b'x', 0, 0, 0, 0], "unknown kind")] {
            let error = Frame::read(&mut &head[..]).await.unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
        }
    }
}
