//! Bytes between two peers.

use std::{io, time::Duration};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, future::try_join};
use libp2p::Stream;

use super::{CircuitPlace, wire::Limit};

/// A circuit without limits carries content, so it reads as much at a time as a muxer's frame has.
const BUFFER: usize = 64 << 10;
const LIMITED_BUFFER: usize = 4 << 10;

/// An open circuit.
pub struct Circuit {
    pub(super) from: Stream,
    pub(super) to: Stream,
    pub(super) limit: Option<Limit>,
    pub(super) _place: CircuitPlace,
}

impl Circuit {
    /// Relays bytes until both peers have closed their half, or a limit is reached.
    pub async fn run(self) {
        let (from_reader, from_writer) = self.from.split();
        let (to_reader, to_writer) = self.to.split();
        let max = self.limit.map(|limit| limit.bytes);
        let relayed = try_join(copy(from_reader, to_writer, max), copy(to_reader, from_writer, max));
        let outcome = match self.limit {
            Some(limit) => tokio::time::timeout(Duration::from_secs(limit.seconds), relayed).await,
            None => Ok(relayed.await),
        };
        match outcome {
            Ok(Ok(_)) => tracing::debug!("a circuit was closed"),
            Ok(Err(error)) => tracing::debug!(%error, "a circuit was closed"),
            Err(_) => tracing::debug!("a circuit has reached its time limit"),
        }
    }
}

/// Copies bytes, at most `max`, and closes the writer at their end.
async fn copy(
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
    max: Option<u64>,
) -> io::Result<()> {
    let mut buffer = vec![0; if max.is_some() { LIMITED_BUFFER } else { BUFFER }];
    let mut copied = 0;
    loop {
        let length = reader.read(&mut buffer).await?;
        if length == 0 {
            return writer.close().await;
        }
        copied += length as u64;
        if max.is_some_and(|max| copied > max) {
            return Err(io::Error::other("it has reached its limit of bytes"));
        }
        writer.write_all(&buffer[..length]).await?;
        writer.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;

    use super::*;

    #[tokio::test]
    async fn a_limited_circuit_ends_at_its_limit() {
        for (length, max, whole) in [(100, None, true), (100, Some(100), true), (101, Some(100), false)] {
            let mut sent = Cursor::new(Vec::new());
            let copied = copy(Cursor::new(vec![7; length]), &mut sent, max).await;
            assert_eq!(copied.is_ok(), whole, "{length} of {max:?}");
            assert_eq!(sent.into_inner().len(), if whole { length } else { 0 });
        }
    }
}
