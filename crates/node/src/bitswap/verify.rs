//! Hashing what comes in, away from the swarm: only then is it known which block it is.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesOrdered};
use libp2p::PeerId;
use multihash_codetable::{Code, MultihashDigest};
use tokio::sync::mpsc;

use super::{
    budget::Room,
    wire::{MAX_BLOCK, Payload},
};
use crate::{Block, Cid, hash::is_trusted};

/// Messages hashed at once.
const AT_ONCE: usize = 3;

/// What a peer sent, but for its wants.
pub struct Received {
    pub peer: PeerId,
    pub presences: Vec<(Cid, bool)>,
    pub blocks: Vec<Payload>,
    pub room: Arc<Room>,
}

/// The same, with blocks that have their true CIDs.
pub struct Verified {
    pub peer: PeerId,
    pub presences: Vec<(Cid, bool)>,
    pub blocks: Vec<Block>,
    /// Blocks that nobody can have asked for: too long, or of a hash that is not known here.
    pub unusable: usize,
    pub room: Arc<Room>,
}

/// Hashes what is received until there is no more, and gives it on in the order in which it came: a file that comes
/// in order is hashed as a whole while it is written, and need not be read again.
pub async fn run(mut received: mpsc::Receiver<Received>, verified: mpsc::Sender<Verified>) {
    let mut hashing = FuturesOrdered::new();
    loop {
        tokio::select! {
            Some(message) = received.recv(), if hashing.len() < AT_ONCE => {
                hashing.push_back(tokio::task::spawn_blocking(move || verify(message)));
            }
            Some(Ok(message)) = hashing.next() => {
                if verified.send(message).await.is_err() {
                    return;
                }
            }
            else => return,
        }
    }
}

fn verify(received: Received) -> Verified {
    let Received { peer, presences, blocks, room } = received;
    let sent = blocks.len();
    let blocks: Vec<Block> = blocks.into_iter().filter_map(block).collect();
    Verified { peer, presences, unusable: sent - blocks.len(), blocks, room }
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
    use crate::bitswap::wire::Prefix;

    #[test]
    fn a_block_is_what_its_bytes_hash_to() {
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
    fn what_nobody_can_have_asked_for_is_dropped() {
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
}
