//! Standard input of a command, on its way to the instance that reads it.
//!
//! Over the socket it follows the request: chunks, each behind its length (4 bytes, big-endian), and an empty
//! chunk at the end, which tells a client that has finished from one that died.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};

const CHUNK: usize = 256 << 10;
/// Chunks that wait.
const QUEUE_LENGTH: usize = 8;

/// The bytes as a reader that blocks.
pub struct Input {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    open: Bytes,
    ended: bool,
}

/// Where the chunks come from.
pub type Chunks = mpsc::Sender<io::Result<Bytes>>;

impl Input {
    /// An input and the way into it, which says by an empty chunk that it is done.
    pub fn new() -> (Chunks, Self) {
        let (sender, chunks) = mpsc::channel(QUEUE_LENGTH);
        (sender, Self { chunks, open: Bytes::new(), ended: false })
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.open.is_empty() && !self.ended {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.open = chunk?,
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the client disconnected")),
            }
            self.ended = self.open.is_empty();
        }
        let length = buffer.len().min(self.open.len());
        self.open.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// Reads a plain stream into an input.
pub async fn fill(mut from: impl AsyncRead + Unpin, chunks: Chunks) {
    loop {
        let mut chunk = vec![0; CHUNK];
        let read = from.read(&mut chunk).await;
        let ended = !matches!(read, Ok(1..));
        let sent = chunks.send(read.map(|length| {
            chunk.truncate(length);
            chunk.into()
        }));
        if sent.await.is_err() || ended {
            return;
        }
    }
}

/// Writes a plain stream as chunks.
pub async fn send(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = from.read(&mut chunk).await?;
        to.write_all(&(length as u32).to_be_bytes()).await?;
        to.write_all(&chunk[..length]).await?;
        if length == 0 {
            return to.flush().await;
        }
    }
}

/// Reads chunks into an input, until the last.
pub async fn receive(mut from: impl AsyncRead + Unpin, chunks: Chunks) {
    loop {
        let chunk = async {
            let length = from.read_u32().await? as usize;
            if length > CHUNK {
                return Err(io::Error::other("a chunk of input is too long"));
            }
            let mut chunk = vec![0; length];
            from.read_exact(&mut chunk).await.map(|_| Bytes::from(chunk))
        };
        let chunk = chunk.await;
        let ended = chunk.as_ref().map_or(true, Bytes::is_empty);
        if chunks.send(chunk).await.is_err() || ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut input: Input) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        tokio::task::spawn_blocking(move || input.read_to_end(&mut all).map(|_| all)).await.unwrap()
    }

    #[tokio::test]
    async fn control_input_stream_round_trip() {
        let bytes: Vec<u8> = (0..700_000u32).map(|i| i as u8).collect();
        let mut wire = Vec::new();
        send(&bytes[..], &mut wire).await.unwrap();
        for (wire, whole) in [(&wire[..], true), (&wire[..wire.len() - 4], false), (&wire[..300_000], false)]
        {
            let (chunks, input) = Input::new();
            let (_, found) = tokio::join!(receive(wire, chunks), read(input));
            assert_eq!(found.is_ok_and(|found| found == bytes), whole);
        }
        let (chunks, input) = Input::new();
        let (_, found) = tokio::join!(fill(&bytes[..], chunks), read(input));
        assert!(found.unwrap() == bytes);
    }
}
