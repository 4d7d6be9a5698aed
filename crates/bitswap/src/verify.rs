//! Hashing received blocks on blocking threads, which yields their CIDs.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesOrdered};
use libp2p::PeerId;
use multihash_codetable::{Code, MultihashDigest};
use ocipfs_block::is_trusted;
use tokio::sync::mpsc;

use super::{
    budget::MemoryLease,
    wire::{MAX_BLOCK, Payload},
};
use crate::{Block, Cid};

/// Messages hashed at once.
const MAX_HASHING: usize = 3;

/// The contents of a received message, without its wants.
pub struct Received {
    pub peer: PeerId,
    pub presences: Vec<(Cid, bool)>,
    pub blocks: Vec<Payload>,
    pub memory: Arc<MemoryLease>,
}

/// Message of a peer whose blocks have verified CIDs.
pub struct Verified {
    pub peer: PeerId,
    pub presences: Vec<(Cid, bool)>,
    pub blocks: Vec<Block>,
    /// Blocks that were certainly not requested: too long, or with a hash function that is not accepted.
    pub unusable: usize,
    pub memory: Arc<MemoryLease>,
}

/// Hashes received messages and passes them on in the same order: a file that arrives in order is hashed as a whole
/// while it is written, and need not be read again.
pub async fn run(received: mpsc::Receiver<Received>, verified: mpsc::Sender<Verified>) {
    run_with(received, verified, verify).await;
}

async fn run_with(
    mut received: mpsc::Receiver<Received>,
    verified: mpsc::Sender<Verified>,
    verify: fn(Received) -> Verified,
) {
    let mut hashing = FuturesOrdered::new();
    loop {
        tokio::select! {
            Some(message) = received.recv(), if hashing.len() < MAX_HASHING => {
                hashing.push_back(tokio::task::spawn_blocking(move || verify(message)));
            }
            Some(hashed) = hashing.next() => match hashed {
                Ok(message) => if verified.send(message).await.is_err() {
                    return;
                },
                Err(error) if error.is_cancelled() => return,
                // As if it had never come: what it answered is requested again.
                Err(error) => {
                    tracing::error!(%error, "cannot verify a received message");
                }
            },
            else => return,
        }
    }
}

fn verify(received: Received) -> Verified {
    let Received { peer, presences, blocks, memory } = received;
    let sent = blocks.len();
    let blocks: Vec<Block> = blocks.into_iter().filter_map(block).collect();
    Verified { peer, presences, unusable: sent - blocks.len(), blocks, memory }
}

fn block(Payload { prefix, data }: Payload) -> Option<Block> {
    if data.len() > MAX_BLOCK {
        return None;
    }
    Some(Block {
        cid: cid_of(prefix.version, prefix.codec, prefix.hash_code, prefix.hash_size, &data)?,
        data,
    })
}

fn cid_of(version: u64, codec: u64, code: u64, size: u64, data: &Bytes) -> Option<Cid> {
    let code = Code::try_from(code).ok().filter(|_| is_trusted(code, size))?;
    let hash = code.digest(data);
    if u64::from(hash.size()) != size {
        return None;
    }
    match version {
        0 => Cid::new_v0(hash).ok(),
        1 => Some(Cid::new_v1(codec, hash)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Prefix;

    #[test]
    fn the_cid_of_a_received_block_is_computed_from_its_bytes() {
        let raw = Prefix { version: 1, codec: 0x55, ..Prefix::V0 };
        for (prefix, cid) in [
            (raw, "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq"),
            (Prefix::V0, "QmRN6wdp1S2A5EtjW9A3M1vKSBuQQGcgvuhoMUoEz4iiT5"),
        ] {
            let found = block(Payload { prefix, data: "hello".into() }).unwrap();
            assert_eq!(
                (found.cid.codec(), found.cid.version()),
                (prefix.codec, cid.parse::<Cid>().unwrap().version())
            );
            assert_eq!(*found.cid.hash(), Code::Sha2_256.digest(b"hello"));
        }
        assert_eq!(block(Payload { prefix: raw, data: "hello".into() }).unwrap().cid.hash().code(), 0x12);
    }

    #[test]
    fn blocks_that_are_too_long_or_have_an_untrusted_hash_are_dropped() {
        let raw = Prefix { version: 1, codec: 0x55, ..Prefix::V0 };
        for (prefix, length) in [
            (Prefix { version: 2, ..raw }, 1),
            (Prefix { hash_code: 0x7777, ..raw }, 1),
            (Prefix { hash_size: 20, ..raw }, 1),
            // BLAKE2s-128 and RIPEMD-160.
            (Prefix { hash_code: 0xb250, hash_size: 16, ..raw }, 1),
            (Prefix { hash_code: 0x1053, hash_size: 20, ..raw }, 1),
            (raw, MAX_BLOCK + 1),
        ] {
            assert!(block(Payload { prefix, data: vec![0; length].into() }).is_none(), "{prefix:?}");
        }
    }

    fn faulty(message: Received) -> Verified {
        assert!(!message.blocks.is_empty(), "a fault");
        verify(message)
    }

    #[tokio::test]
    async fn messages_are_verified_after_one_that_could_not_be() {
        let ((send, received), (verified, mut found)) = (mpsc::channel(4), mpsc::channel(4));
        let message = |blocks| Received {
            peer: PeerId::random(),
            presences: Vec::new(),
            blocks,
            memory: Arc::default(),
        };
        let payload = Payload { prefix: Prefix::V0, data: "hello".into() };
        for blocks in [vec![payload.clone()], Vec::new(), vec![payload]] {
            assert!(send.send(message(blocks)).await.is_ok());
        }
        drop(send);
        run_with(received, verified, faulty).await;
        for _ in 0..2 {
            assert_eq!(found.recv().await.unwrap().blocks.len(), 1);
        }
        assert!(found.recv().await.is_none());
    }
}
