//! Bitswap as the peers of the tests speak it: messages on a stream, each behind its length.

use bytes::Bytes;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{Stream, StreamProtocol};
use ocipfs_bitswap::wire::{Message, Version};
use ocipfs_node::Cid;

pub const BITSWAP: StreamProtocol = StreamProtocol::new("/ipfs/bitswap/1.2.0");

/// Reads the next message; none at the end, or where it is malformed.
pub async fn read(stream: &mut Stream) -> Option<Message> {
    let mut length = 0;
    for shift in (0..28).step_by(7) {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.ok()?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.ok()?;
    Message::decode(bytes.into()).ok()
}

/// Writes bytes, and waits until they left.
pub async fn write(stream: &mut Stream, pieces: &[Bytes]) -> std::io::Result<()> {
    for piece in pieces {
        stream.write_all(piece).await?;
    }
    stream.flush().await
}

/// A message that says of each whether it is there.
pub fn presences(presences: Vec<(Cid, bool)>) -> Vec<Bytes> {
    Message { presences, ..Message::default() }.encode(Version::V1_2)
}
